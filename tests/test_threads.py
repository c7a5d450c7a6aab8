"""On CPUs the threads of every command sleep while they wait; the library leaves the environment alone."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUARD = '__name__ == "__main__"'
# Imports nothing of this project, so it loads no torch; tests/test_imports.py sees to that.
ALONE = {Path("tools/poses_from_video.py")}
COMMANDS = sorted(
    {
        path.relative_to(ROOT)
        for path in [*ROOT.glob("*.py"), *ROOT.glob("*/*.py")]
        if path.parts[-2] != "tests" and f"if {GUARD}:" in path.read_text(encoding="utf-8")
    }
    - ALONE
)

# What a process says as soon as it loads torch, instead of loading it.
HOOK = """
import os, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch with", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Hook())
"""


def run(folder: Path, *command: str, **environment: str) -> str:
    """What is printed when a command loads torch, or of its help where it does not."""
    (folder / "sitecustomize.py").write_text(HOOK)
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    path = os.pathsep.join([str(folder), inherited.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command],
        env={**inherited, "PYTHONPATH": path, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[0]


def is_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).replace("'", '"') == GUARD


@pytest.mark.parametrize("path", COMMANDS, ids=str)
def test_every_command_says_so_before_it_imports_what_may_load_torch(path: Path) -> None:
    statements = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    guard = next(number for number, node in enumerate(statements) if is_guard(node))
    assert (
        ast.unparse(statements[guard].body)
        == "from torchlight.threads import wait_passively\nwait_passively()"
    )
    before = [node for node in statements[:guard] if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in before:
        names = (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        )
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    # Nowhere but in the guard, so that importing the command leaves the environment alone.
    assert sum("wait_passively" in ast.unparse(node) for node in statements) == 1


def test_there_are_commands() -> None:
    assert {Path("main.py"), Path("stage1.py"), Path("stage2.py"), Path("tools/embed.py")} <= set(COMMANDS)
    assert Path("data_gen/export_numpy.py") in COMMANDS


@pytest.mark.parametrize("path", ["main.py", "stage2.py", "tools/embed.py", "data_gen/export_numpy.py"])
def test_torch_finds_waiting_threads_asleep_unless_the_user_says_otherwise(tmp_path: Path, path: str) -> None:
    assert run(tmp_path, path, "--help") == "torch with passive"
    if path == "main.py":
        assert run(tmp_path, path, "--help", OMP_WAIT_POLICY="active") == "torch with active"


def test_a_command_that_is_imported_leaves_the_environment_alone(tmp_path: Path) -> None:
    assert run(tmp_path, "-c", "import main") == "torch with None"
    assert run(tmp_path, "-m", "tools.ensemble", "--help") == "torch with passive"
