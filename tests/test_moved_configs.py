"""Configs of earlier versions: each of the 124 still gives what it gave, wherever it is now."""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import main
from processor import trained
from processor.checks import problems_of
from processor.moved_configs import find_moved
from processor.registry import task_class
from tools import label_efficiency
from torchlight.build import PACKAGES
from torchlight.config import ConfigError, load_config

ROOT = Path(main.__file__).parent
# What each config gave that is not a default, recorded before they moved: key and value, and for each path its
# processor and the places of what it gave among these.
RECORD = json.loads((ROOT / "tests" / "gone_configs.json").read_text())
GRIDS = [path for path, (processor, _) in RECORD["configs"].items() if processor == "label_efficiency"]
RUNS = [path for path in RECORD["configs"] if path not in GRIDS]
# Settings that a config for data of one's own needs.
OWN = ["data.layout=coco", "data.num_class=8"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def before(path: str) -> tuple[str, dict[str, Any]]:
    """Processor of a config, and what it gave that was not a default."""
    processor, places = RECORD["configs"][path]
    given = dict(RECORD["values"][place] for place in places)
    if given.get("model") == "net.as_gcn.Model" and given.get("method") == "net.long_term.LongTerm":
        # The one change since: AS-GCN's own head for the poses to come, which nothing called, is not built.
        given["model_args"] = {**given["model_args"], "num_predict": 0}
    return processor, given


def changed(value: Any, key: str = "", default: Any = dataclasses.MISSING) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is not at its default."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            yield from changed(getattr(value, field.name), f"{key}.{field.name}" if key else field.name, made)
    elif isinstance(value, list) and value and dataclasses.is_dataclass(value[0]):
        for number, item in enumerate(value):
            yield from changed(item, f"{key}.{number}")
    elif value != default:
        yield key, value


def now(path: str, settings: Sequence[str] = ()) -> Any:
    """The config that a path of an earlier version gives."""
    processor, _ = before(path)
    own = OWN if path.startswith("config/custom/") else []
    chosen = task_class(processor)
    return load_config(
        path,
        [*own, *settings],
        chosen.config_class,
        check=lambda config: problems_of(chosen(config, PACKAGES)),
        find_moved=find_moved,
    )


@pytest.mark.parametrize("path", RUNS)
def test_a_path_gives_what_it_gave(path: str) -> None:
    assert dict(changed(now(path))) == before(path)[1]


@pytest.mark.parametrize("path", GRIDS)
def test_a_grid_has_the_runs_that_it_had(path: str) -> None:
    _, given = before(path)
    config = load_config(path, [], label_efficiency.GridConfig, find_moved=find_moved)
    after = dict(changed(config))
    names = {"linear": "linear_evaluation", "finetune": "finetune_evaluation"}
    assert {key: value for key, value in after.items() if key not in (*names, "benchmark", "data")} == {
        key: value for key, value in given.items() if key not in names
    }
    for protocol in names:
        words = label_efficiency.Grid(config, overwrite=False).words(label_efficiency.Cell(protocol, 0.5, 1))
        run = main.read_config(main.parse(words))
        weights = "work_dir=w", f"weights={run.weights}"
        settings = [*weights, "data.label_fraction=0.5", "data.label_seed=1", "seed=1"]
        assert dataclasses.replace(run, work_dir="w") == now(given[protocol], settings)


def test_there_are_all_of_them() -> None:
    assert len(RECORD["configs"]) == 124
    assert sum(not Path(path).exists() for path in RECORD["configs"]) == 91


def test_own_data_and_benchmark_leave_the_folders_of_a_run(tmp_path: Path) -> None:
    config = now("config/ntu120/xset/linear.yaml", ["data.path=ntu_frame50/xset", "benchmark=split1"])
    assert config.work_dir == "work_dir/ntu120/xset/linear/joint"
    assert config.weights == "work_dir/ntu120/xset/pretrain_aimclr/joint/best.pt"
    assert (config.benchmark, config.data.path, config.data.num_class) == ("split1", "ntu_frame50/xset", 120)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "recognition -c config/ntu60/xsub/train.yaml stream=bone",
            "recognition -c config/ntu/long_term_as_gcn.yaml benchmark=xsub "
            "'work_dir=work_dir/ntu60/xsub/train/${stream}' stream=bone",
        ),
        (
            "recognition -c config/ntu120/xset/st_gcn.yaml",
            "recognition -c config/ntu/st_gcn.yaml benchmark=xset data.path=data/ntu120.h5 data.num_class=120",
        ),
        (
            "knn_evaluation benchmark=xview --config=config/ntu120/xset/knn.yaml --weights w.pt",
            "knn_evaluation benchmark=xview --config=config/ntu/knn.yaml data.path=data/ntu120.h5 data.num_class=120 "
            "'weights=work_dir/ntu120/xset/pretrain_aimclr/${stream}/best.pt' "
            "'work_dir=work_dir/ntu120/xset/knn/${stream}' --weights w.pt",
        ),
        (
            "recognition -c config/demo/train.yaml",
            "recognition -c config/demo/long_term_st_gcn.yaml 'work_dir=work_dir/demo/train/${stream}'",
        ),
        ("recognition -c config/demo/st_gcn.yaml", None),
    ],
)
def test_a_command_is_told_in_one_line_and_does_the_same(
    command: str, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*shlex.split(command), "--print_config"]) == 0
    printed = capsys.readouterr()
    line = printed.err.strip()
    assert line.partition("python ")[2] == (f"main.py {said} --print_config" if said else "")
    if said:
        assert main.main([*shlex.split(said), "--print_config"]) == 0
        again = capsys.readouterr()
        assert again.err == ""
        assert yaml.safe_load(again.out) == yaml.safe_load(printed.out)


def test_a_file_of_the_user_s_may_name_a_base_that_moved(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(f"_base_: {ROOT}/config/ntu120/xset/st_gcn.yaml\nbatch_size: 8\n")
    schema = task_class("recognition").config_class
    run = load_config(file, [], schema, find_moved=find_moved)
    assert run == dataclasses.replace(now("config/ntu120/xset/st_gcn.yaml"), batch_size=8)
    file.write_text(
        f"_base_: [{ROOT}/config/_base_/ntu120.yaml, {ROOT}/config/ntu/st_gcn.yaml]\nwork_dir: my\n"
    )
    with pytest.raises(ConfigError, match="no such file"):
        load_config(file, [], schema)


# Bases of earlier versions, of one config each.
OLD_BASES = {
    "config/nw_ucla/pretrain_vicreg.yaml": ("nw_ucla", "st_gcn16", "pretrain_small", "vicreg_small"),
    "config/ntu120/xset/pretrain_aimclr.yaml": ("ntu120", "st_gcn16", "pretrain", "aimclr"),
    "config/nw_ucla/pretrain_skeletonclr.yaml": (
        "nw_ucla",
        "st_gcn16",
        "pretrain_small",
        "skeletonclr_small",
    ),
    "config/nw_ucla/pretrain_long_term.yaml": (
        *("nw_ucla", "st_gcn16", "pretrain_small", "long_term_pretext_small"),
    ),
    "config/ntu60/xsub/as_gcn.yaml": ("ntu60", "as_gcn", "recognition", "as_gcn_phases"),
    "config/ntu120/xset/train.yaml": ("ntu120", "as_gcn", "recognition", "long_term_phases_as_gcn"),
    "config/ntu120/xset/st_gcn.yaml": ("ntu120", "st_gcn", "recognition"),
}


@pytest.mark.parametrize("path", OLD_BASES)
def test_bases_of_earlier_versions_give_what_they_gave(tmp_path: Path, path: str) -> None:
    bases = [f"{ROOT}/config/_base_/{name}.yaml" for name in OLD_BASES[path]]
    run = now(path)
    file = tmp_path / "my.yaml"
    settings = {"_base_": bases, "work_dir": run.work_dir, "benchmark": run.benchmark}
    file.write_text(yaml.safe_dump(settings))
    assert load_config(file, [], type(run), find_moved=find_moved) == run


def test_weights_without_a_config_may_be_given_one_that_moved() -> None:
    read = trained._read_config({}, "w.pt", "config/ntu120/xset/st_gcn.yaml")
    assert read == ("recognition", now("config/ntu120/xset/st_gcn.yaml"))


def test_a_folder_of_an_earlier_version_names_its_data_without_a_benchmark_too() -> None:
    schema = task_class("recognition").config_class
    run = load_config("config/ntu120/st_gcn.yaml", ["benchmark=xset"], schema, find_moved=find_moved)
    assert run == now("config/ntu120/xset/st_gcn.yaml")


def test_other_files_have_not_moved(tmp_path: Path) -> None:
    for name in ("config/ntu60/xsub/made.yaml", "config/made/xsub/st_gcn.yaml", "my/st_gcn.yaml", "a.yaml"):
        assert find_moved(Path(name)) is None
    assert find_moved(tmp_path / "config" / "ntu60" / "xsub" / "train.yaml") is None
    with pytest.raises(ConfigError, match="no such file"):
        load_config(
            tmp_path / "config/ntu60/xsub/train.yaml", [], label_efficiency.GridConfig, find_moved=find_moved
        )
