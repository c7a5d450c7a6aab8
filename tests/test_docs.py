"""What the documents say holds: links lead somewhere, commands parse, tables are those of the code, examples run."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import main
from data_gen import source_gen_preprocess
from processor.config import ProcessorConfig
from processor.registry import PROCESSORS, task_class
from processor.trained import load_trained
from tools import document_configs, label_efficiency

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
STAGES = {"stage1.py": "pretrain", "stage2.py": "finetune_evaluation"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def commands(page: Path) -> list[str]:
    """The commands of a page that begin with python or torchrun, in indented blocks and in code within text."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^ {4}(?:torchrun --nproc_per_node \d+ |python )(.+)$", text, re.MULTILINE)
    return [re.sub(r"\s+#.*$", "", line) for line in [*blocks, *re.findall(r"`python ([^`]+)`", text)]]


def words_of(command: str) -> list[str]:
    """Words of a command, without those in brackets: they may be left out."""
    return shlex.split(re.sub(r"\[(?![^']*'(?:[^']*'[^']*')*[^']*$)[^\]]*\]", "", command))


COMMANDS = sorted({(name_of(page), command) for page in PAGES for command in commands(page)})
RUNS = [
    (page, command)
    for page, command in COMMANDS
    if command.split()[0] in ("main.py", *STAGES) and "my/" not in command
]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert "make test" in text
    for page in PAGES:
        assert page.name == "README.md" or f"]({name_of(page)})" in text, page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_is_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        compile(block, name_of(page), "exec")


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_name_files_that_exist(page: str, command: str) -> None:
    words = words_of(command)
    if "my" not in command and "…" not in command and not command.startswith("-m"):
        assert (ROOT / words[0]).is_file()
        for word in words:
            if word.startswith("config/"):
                assert (ROOT / word).is_file(), word


def assert_loads(program: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The config of a run that main.py or a stage names loads, with the settings given."""
    if program in STAGES:
        module = __import__(program.removesuffix(".py"))
        status = main.main([*words, "--print_config"], processor=STAGES[program], config=module.CONFIG)
    else:
        status = main.main([*words, "--print_config"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "work_dir:" in printed.out


@pytest.mark.parametrize(("page", "command"), RUNS)
def test_runs_have_configs_that_load(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = words_of(command)
    if "…" not in command and "FILE" not in words:
        assert_loads(program, words, capsys)


def test_the_config_that_is_shown_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "configs.md").read_text(), re.MULTILINE | re.DOTALL
    )
    path = tmp_path / "my.yaml"
    path.write_text(shown.replace("config/", f"{ROOT}/config/"))
    assert_loads("main.py", ["recognition", "-c", str(path)], capsys)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("target", "least"), [("demo", 3), ("tour", 9)])
def test_runs_of_the_demo_and_the_tour_load(
    target: str,
    least: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    listed = subprocess.run(
        ["make", "-n", target, f"VENV={tmp_path}"], capture_output=True, text=True, check=True
    )
    text = listed.stdout.replace("\\\n", " ").replace("$stream", "joint")
    runs = re.findall(rf"{tmp_path}/bin/python ((?:main|stage\d)\.py [^|;\n]+)", text)
    assert len(runs) >= least
    for run in runs:
        program, *words = shlex.split(run)
        assert_loads(program, words, capsys)


@pytest.mark.parametrize(
    "config", [*map(task_class, PROCESSORS), ProcessorConfig], ids=lambda each: each.__name__
)
def test_every_key_has_a_meaning(config: type) -> None:
    schema = getattr(config, "config_class", config)
    keys = list(document_configs.keys_of(schema))
    assert [key.name for key in keys if not key.meaning] == []
    assert len({key.name for key in keys}) == len(keys)


@pytest.mark.parametrize("part", [*document_configs.PARTS, label_efficiency.GridConfig])
def test_every_key_of_a_part_has_a_meaning(part: type) -> None:
    assert [key.name for key in document_configs.keys_of(part) if not key.meaning] == []


def test_the_tables_of_keys_are_those_of_the_code() -> None:
    page = document_configs.PAGE.read_text()
    assert document_configs.render(page) == page, "run python tools/document_configs.py"


def test_a_key_s_row_has_type_default_and_meaning() -> None:
    keys = {key.name: key for key in document_configs.keys_of(ProcessorConfig)}
    assert keys["batch_size"][1:3] == ("int", "`64`")
    assert keys["weights"][1:3] == ("text or null", "`null`")
    assert keys["stream"].type == "`joint`, `bone`, `motion`, `bone_motion`"
    assert keys["work_dir"].default == "required"
    assert keys["optim"].type == "[`optim`](#optim)"


def write_example(folder: Path) -> list[str]:
    """Write the files that docs/extending.md shows; returns the commands that it gives."""
    page = ROOT / "docs" / "extending.md"
    files = re.findall(
        r"^`([\w/]+\.\w+)`[^\n]*:\n\n```\w+\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(files) == 9
    for name, text in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return commands(page)


def record(folder: Path) -> None:
    """Recordings of three classes that differ in which joint moves, by four people."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(20, 3)) * 0.3 + [0, 0, 3]
    for number, name in enumerate(("bow", "jump", "wave")):
        for subject in range(4):
            for take in range(8):
                poses = np.tile(rest, (int(rng.integers(20, 40)), 1, 1)) + rng.normal(0, 0.01, (1, 20, 3))
                poses[:, 4 + 4 * number, 1] += 0.8 * np.sin(0.4 * np.arange(len(poses)) + rng.uniform(0, 6))
                np.savetxt(folder / f"{name}_{subject}_{take}.txt", poses.reshape(len(poses), -1))


@pytest.mark.slow
def test_the_example_of_extending_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = write_example(tmp_path)
    record(tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        (program, *words), *runs = (command.split() for command in given)
        assert program == "data_gen/source_gen_preprocess.py"
        assert source_gen_preprocess.main(words) == 0
        environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mypackage"]
        subprocess.run(tests, check=True, env=environment)
        for program, *words in runs:
            assert program == "main.py"
            assert main.main([*words, "device=cpu", "tensorboard=false"]) == 0, words
    finally:
        for module in [name for name in sys.modules if name.split(".")[0] == "mypackage"]:
            del sys.modules[module]
    result = json.loads(Path("work_dir/my/recognition/result.json").read_text())
    assert result["top1"] > 0.8
    assert load_trained("work_dir/my/recognition/best.pt", plugins=["mypackage"]).test_view().num_frame == 16
    assert 0 < result["worst_class"] <= result["mean_class"]
    pretrained = json.loads(Path("work_dir/my/pretrain/result.json").read_text())
    assert pretrained["method"] == "mypackage.simsiam.SimSiam"
    assert json.loads(Path("work_dir/my/finetune/result.json").read_text())["protocol"] == "finetune"
