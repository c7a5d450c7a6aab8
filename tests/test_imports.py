"""Imports point down, as docs and design say; read from the source, so that no branch hides one."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the top: what each may import of this project, itself included.
MAY_IMPORT = {
    "stage1": {"main", "torchlight"},
    "stage2": {"main", "torchlight"},
    "benchmarks": {"benchmarks", "main", "processor", "data_gen", "feeder", "net", "torchlight"},
    "tools": {"tools", "main", "processor", "data_gen", "feeder", "net", "torchlight"},
    "main": {"processor", "feeder", "net", "torchlight"},
    "data_gen": {"data_gen", "feeder", "net", "torchlight"},
    "processor": {"processor", "feeder", "net", "torchlight"},
    "feeder": {"feeder", "net", "torchlight"},
    "net": {"net", "torchlight"},
    "torchlight": {"torchlight"},
}
# The benchmarks are not installed, so only their command imports them, and says where they are if they are missing.
COMMANDS = {Path("tools/benchmark.py"): {"benchmarks"}}
# Of a package below, only these modules.
ONLY = {
    ("feeder", "net"): {
        "net.utils.layouts",
        "net.utils.skeleton",
        "net.utils.joint_maps",
        "net.utils.channels",
        "net.utils.clip",
    },
    ("feeder", "torchlight"): {
        "torchlight.build",
        "torchlight.seed",
        "torchlight.distributed",
        "torchlight.files",
    },
    ("net", "torchlight"): {
        "torchlight.build",
        "torchlight.seed",
        "torchlight.distributed",
        "torchlight.files",
    },
}
# torchlight's own order: a module imports only what stands before it.
TORCHLIGHT = [
    "seed",
    "threads",
    "files",
    "packages",
    "build",
    "schema",
    "origins",
    "config_layers",
    "config",
    "status",
    "checkpoint",
    "interrupt",
    "distributed",
    "log",
]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py")) or [
        path for path in [ROOT / f"{package}.py"] if path.exists()
    ]


def imported(source: str, package: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted names of all that a module imports, anywhere in it; `package` is what it is in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{start}.{alias.name}" for alias in node.names)


def breaches(path: Path, source: str) -> list[str]:
    """Dotted names that the module at `path`, from the root, imports and may not."""
    package, found = path.parts[0].removesuffix(".py"), []
    allowed = MAY_IMPORT[package] | COMMANDS.get(path, set())
    for name in imported(source, path.parts[:-1]):
        other = name.split(".")[0]
        if other not in MAY_IMPORT:
            continue
        only = ONLY.get((package, other))
        if other not in allowed or (
            only is not None and not any(name == module or name.startswith(module + ".") for module in only)
        ):
            found.append(name)
    return found


def test_every_package_has_its_place() -> None:
    here = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {
        path.stem for path in ROOT.glob("*.py")
    }
    assert here - {"setup", "tests"} <= MAY_IMPORT.keys()
    assert {"torchlight", "net", "feeder", "processor", "tools", "main"} <= here


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down(package: str) -> None:
    for path in sources(package):
        name = path.relative_to(ROOT)
        found = breaches(name, path.read_text())
        assert not found, f"{name} imports {', '.join(found)}, which is not below it"


def test_torchlight_s_modules_stand_in_a_row() -> None:
    assert {path.stem for path in sources("torchlight")} == {*TORCHLIGHT, "__init__"}
    for position, module in enumerate(TORCHLIGHT):
        names = imported((ROOT / "torchlight" / f"{module}.py").read_text(), ("torchlight",))
        used = {part for name in names if name.startswith("torchlight.") for part in [name.split(".")[1]]}
        assert used <= set(TORCHLIGHT[:position]), module


def test_a_tool_that_stands_alone_does() -> None:
    """It runs where MediaPipe is and this project's packages are not; importing it needs neither."""
    source = (ROOT / "tools" / "poses_from_video.py").read_text()
    used = {name.split(".")[0] for name in imported(source)}
    assert used <= sys.stdlib_module_names | {"numpy", "cv2", "mediapipe"}
    at_once = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = imported(ast.unparse(ast.Module(at_once, [])))
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("torchlight", "import net", ["net"]),
        ("torchlight", "def f():\n    from processor.io import x", ["processor.io.x"]),
        ("net", "from feeder import views", ["feeder.views"]),
        ("net", "from torchlight.seed import derive_seed\nfrom torchlight import build", []),
        (
            "net",
            "from torchlight.config import x\nimport torchlight.log as l",
            ["torchlight.config.x", "torchlight.log"],
        ),
        ("feeder", "from net.utils.layouts import LAYOUTS\nfrom net.utils import skeleton", []),
        (
            "feeder",
            "from net.st_gcn import Model\nfrom net.utils import gcn",
            ["net.st_gcn.Model", "net.utils.gcn"],
        ),
        ("feeder", "from ..processor import io", ["processor.io"]),
        ("feeder", "from . import views\nfrom .views import View", []),
        (
            "processor",
            "import main\nfrom data_gen import tracks\nimport torchlight.log",
            ["main", "data_gen.tracks"],
        ),
        ("data_gen", "from processor.io import x\nimport feeder.prepared", ["processor.io.x"]),
        ("main", "import tools.x\nimport numpy, stage1", ["tools.x", "stage1"]),
    ],
)
def test_a_breach_would_be_found(package: str, source: str, found: list[str]) -> None:
    assert breaches(Path(package, "module.py"), source) == found


def test_only_the_command_imports_the_benchmarks() -> None:
    source = "from benchmarks import speed"
    assert breaches(Path("tools/benchmark.py"), source) == []
    assert (
        breaches(Path("tools/infer.py"), source) == breaches(Path("main.py"), source) == ["benchmarks.speed"]
    )


def test_preparation_does_not_load_torch() -> None:
    """It takes seconds, and memory in every worker."""
    commands = [f"data_gen.{path.stem}" for path in sorted((ROOT / "data_gen").glob("*_gen_preprocess.py"))]
    code = f"import sys, {', '.join(commands)}; sys.exit('torch' in sys.modules)"
    assert len(commands) == 9
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
