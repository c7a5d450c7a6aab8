"""Config: what is merged, what is refused and how it is said, and the way back to YAML."""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import MISSING

from torchlight.build import bind
from torchlight.config import ConfigError, load, load_config, to_yaml
from torchlight.config_layers import Moved
from torchlight.origins import annotate
from torchlight.schema import LAID_OVER, completed


@dataclasses.dataclass
class Schedule:
    lr: float = 0.1
    steps: tuple[int, ...] = (10, 50)
    kind: Literal["step", "cosine"] = "step"


@dataclasses.dataclass
class View:
    stream: str
    sampling: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Run:
    benchmark: str
    epochs: int = 80
    note: str | None = None
    folder: Path = Path("data")
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    average: Schedule | None = None
    size: tuple[int, float] = (1, 0.5)
    views: list[View] = dataclasses.field(default_factory=list)
    bases: str | list[str] = "a"
    model: str = "net.st_gcn.Model"
    model_args: dict[str, Any] = dataclasses.field(default_factory=dict)


Files = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Write `name=text` files into the working directory; the first one's path."""
    monkeypatch.chdir(tmp_path)

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            Path(f"{name}.yaml").write_text(text)
        return Path(f"{next(iter(texts))}.yaml")

    return write


def problems_of(file: Path, *overrides: Any, schema: type = Run, check: Any = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides, schema, check=check)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return list(caught.value.problems)


# ---- what is merged


def test_defaults_then_bases_left_to_right_then_file_then_command_line(files: Files) -> None:
    file = files(
        leaf="_base_: [data.yaml, regime.yaml]\nmodel_args: {c: 3}\n",
        data="benchmark: xsub\nepochs: 1\nschedule: {lr: 1}\nmodel_args: {a: 1, b: 1, c: 1, d: 1}\n",
        regime="_base_: deeper.yaml\nepochs: 2\nmodel_args: {b: 2, c: 2, d: 2}\n",
        deeper="epochs: 3\nnote: from below\nbenchmark: xview\n",
    )
    run = load_config(file, ["model_args.d=4", "model_args.new.deep=5"], Run)
    assert run.epochs == 2
    assert (run.benchmark, run.note) == ("xview", "from below")
    assert run.model_args == {"a": 1, "b": 2, "c": 3, "d": 4, "new": {"deep": 5}}
    assert run.schedule == Schedule(lr=1.0, steps=(10, 50))
    assert isinstance(run.schedule.lr, float)


def test_bases_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "leaf" / "deep").mkdir(parents=True)
    (tmp_path / "leaf" / "deep" / "a.yaml").write_text("_base_: ../b.yaml")
    (tmp_path / "leaf" / "b.yaml").write_text("_base_: ../c.yaml")
    (tmp_path / "c.yaml").write_text("benchmark: xset")
    assert load_config(tmp_path / "leaf" / "deep" / "a.yaml", [], Run).benchmark == "xset"


def test_a_base_that_changes_others_stands_after_them(files: Files) -> None:
    texts = {
        "train": "benchmark: xsub\nviews: [{stream: bone}]",
        "change": "_after_: [train*.yaml, other.yaml]\nviews: {0: {sampling: [x]}}",
        "wrap": "_base_: change.yaml\nepochs: 3",
    }
    for name in ("change", "wrap"):
        run = load_config(files(a=f"_base_: [train.yaml, {name}.yaml]", **texts), [], Run)
        assert run.views == [View("bone", ["x"])]
        (problem,) = problems_of(files(a=f"_base_: [{name}.yaml, train.yaml]", **texts))
        assert problem.startswith("a.yaml: _base_: train.yaml") and "change.yaml" in problem
    # A file that is built on the base may have any name.
    run = load_config(files(train_mine="_base_: [train.yaml, change.yaml]\nepochs: 1", **texts), [], Run)
    assert (run.epochs, run.views) == (1, [View("bone", ["x"])])
    (problem,) = problems_of(files(a="_after_: 3\nbenchmark: xsub"))
    assert problem.startswith("a.yaml:1: _after_: is 3")


def test_the_name_of_a_file(files: Files) -> None:
    run = load_config(
        files(a="benchmark: xsub\nfolder: x/ntu60.h5\nnote: of/${stem:${folder}}/${benchmark}"), [], Run
    )
    assert run.note == "of/ntu60/xsub"


def test_a_file_that_moved_is_read_where_it_is_with_its_settings(files: Files) -> None:
    moved = {
        "gone.yaml": Moved(Path("new.yaml"), ("epochs=2", "note=${benchmark}")),
        "new.yaml": Moved(Path("x"), ()),
    }

    def read(*overrides: str, **texts: str) -> Run:
        new = "benchmark: xsub\nepochs: 1"
        return load_config(
            files(**texts, new=new), overrides, Run, find_moved=lambda file: moved.get(file.name)
        )

    assert read(a="_base_: gone.yaml") == Run("xsub", 2, "xsub")
    assert read("epochs=4", a="_base_: gone.yaml\nnote: mine") == Run("xsub", 4, "mine")
    assert load_config("gone.yaml", ["epochs=5"], Run, find_moved=lambda file: moved.get(file.name)) == Run(
        "xsub", 5, "xsub"
    )
    loaded = load("gone.yaml", [], Run, find_moved=lambda file: moved.get(file.name))
    assert dict(loaded.origins)["epochs"] == "gone.yaml, now new.yaml"
    # A file that is there is read.
    assert read(gone="benchmark: xview") == Run("xview")


def test_a_base_reached_on_two_ways_is_no_cycle(files: Files) -> None:
    file = files(
        a="_base_: [b.yaml, c.yaml]", b="_base_: d.yaml", c="_base_: d.yaml", d="benchmark: xsub\nepochs: 7"
    )
    assert load_config(file, [], Run).epochs == 7


def test_delete_drops_what_is_inherited_and_only_that(files: Files) -> None:
    file = files(
        a="_base_: b.yaml\nmodel_args: {_delete_: true, y: 2}\nschedule: {_delete_: false, lr: 2}\n",
        b="benchmark: xsub\nmodel_args: {x: 1}\nschedule: {kind: cosine}\n",
    )
    run = load_config(file, [], Run)
    assert run.model_args == {"y": 2}
    assert run.schedule == Schedule(lr=2, kind="cosine")
    run = load_config(file, ["model_args._delete_=true", "model_args.z=3"], Run)
    assert run.model_args == {"z": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1E5", -1e5),
        ("1", 1),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("", None),
        ("[1, 2e-3, a]", [1, 2e-3, "a"]),
        ("{a: {b: 1e-3}}", {"a": {"b": 1e-3}}),
        ("'1e-4'", "1e-4"),
        ("a=b", "a=b"),
        ("2024-01-31", "2024-01-31"),
        ("net.st_gcn.Model", "net.st_gcn.Model"),
    ],
)
def test_command_line_values_are_yaml(files: Files, text: str, value: Any) -> None:
    run = load_config(files(a="benchmark: xsub"), [f"model_args.x={text}"], Run)
    assert run.model_args == {"x": value}
    assert type(run.model_args["x"]) is type(value)


def test_a_number_in_exponent_notation_is_a_number_in_a_file(files: Files) -> None:
    run = load_config(files(a="benchmark: xsub\nschedule: {lr: 1e-4}\nmodel_args: {x: 1e-4}"), [], Run)
    assert run.schedule.lr == run.model_args["x"] == 0.0001


def test_numbers_name_the_items_of_lists_only(files: Files) -> None:
    file = files(a="benchmark: xsub\nmodel_args: {'0': a, list: [1, 2]}")
    run = load_config(file, ["model_args.0=b", "model_args.list.1={x: 3}"], Run)
    assert run.model_args == {"0": "b", "list": [1, {"x": 3}]}


def test_a_flag_is_taken_as_it_is(files: Files) -> None:
    file = files(a="benchmark: xsub")
    run = load_config(file, [("note", "007: [x"), ("folder", Path("b")), ("epochs", 3)], Run)
    assert (run.note, run.folder, run.epochs) == ("007: [x", Path("b"), 3)


def test_fields_become_what_their_annotations_say(files: Files) -> None:
    file = files(
        a="benchmark: xsub\nfolder: x/y\nsize: [2, 1]\nschedule: {steps: [1, 2, 3]}\naverage: {lr: 2}\n"
        "bases: [a, b]\nviews: [{stream: joint}, {stream: bone, sampling: [resize, {crop: {ratio: 0.5}}]}]"
    )
    run = load_config(file, ["views.1.stream=motion"], Run)
    assert run.folder == Path("x/y")
    assert run.schedule.steps == (1, 2, 3)
    assert run.average == Schedule(lr=2.0)
    assert run.size == (2, 1.0)
    assert isinstance(run.size[1], float)
    assert run.bases == ["a", "b"]
    assert run.views == [View("joint"), View("motion", ["resize", {"crop": {"ratio": 0.5}}])]


def test_interpolation_is_resolved_after_the_merge(files: Files) -> None:
    file = files(
        a="_base_: b.yaml\nbenchmark: xview\n",
        b="benchmark: xsub\nnote: ${benchmark}-${schedule.kind}\n"
        "model_args: {n: '${epochs}', s: ['${..n}', 2]}",
    )
    run = load_config(file, ["epochs=3", "model_args.t=${schedule}"], Run)
    assert run.note == "xview-step"
    assert run.model_args == {"n": 3, "s": [3, 2], "t": {"lr": 0.1, "steps": [10, 50], "kind": "step"}}


def test_an_empty_file_is_an_empty_config(files: Files) -> None:
    assert load_config(files(a="# nothing\n"), ["benchmark=xsub"], Run) == Run("xsub")


# ---- what is refused


def test_everything_wrong_is_said_at_once_with_file_line_key_and_nearest_name(files: Files) -> None:
    file = files(
        leaf="_base_: [base.yaml]\n\nepoch: 3\nmodel_args:\n  hidden_chanels: 3\n  dropout: a lot\n",
        base="schedule:\n  lr: fast\n  kind: cosin\nviews:\n- {streams: joint}\n",
    )

    def network(*, hidden_channels: int = 64, dropout: float = 0.0) -> None: ...

    def check(run: Run) -> list[tuple[str, str]]:
        return [(f"model_args.{key}", text) for key, text in bind(network, run.model_args)]

    found = problems_of(file, "epochs=many", "benchmark=xsub", check=check)
    assert [re.sub("; expected.*|test_config.*>[.]", "", problem) for problem in found] == [
        "leaf.yaml:3: epoch: unknown key; did you mean 'epochs'?",
        "command line: epochs: is 'many' (str)",
        "base.yaml:2: schedule.lr: is 'fast' (str)",
        "base.yaml:3: schedule.kind: is 'cosin', which is not one of 'step', 'cosine'; "
        "did you mean 'cosine'?",
        "base.yaml:5: views.0.streams: unknown key; did you mean 'stream'?",
        "base.yaml:5: views.0.stream: needs a value",
        "leaf.yaml:5: model_args.hidden_chanels: network takes no such argument; "
        "did you mean 'hidden_channels'?",
        "leaf.yaml:6: model_args.dropout: is 'a lot' (str)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("benchmark: 60", "a.yaml:1: benchmark: is 60 (int); expected str"),
        ("benchmark: [x]", "a.yaml:1: benchmark: is ['x'] (list); expected str"),
        ("epochs: 1.5", "a.yaml:1: epochs: is 1.5 (float); expected int"),
        ("epochs: true", "a.yaml:1: epochs: is True (bool); expected int"),
        ("epochs: null", "a.yaml:1: epochs: is None (NoneType); expected int"),
        ("epochs: {x: 1}", "a.yaml:1: epochs: is {'x': 1} (dict); expected int"),
        ("note: 3", "a.yaml:1: note: is 3 (int); expected str or null"),
        ("schedule: fast", "a.yaml:1: schedule: is 'fast'; expected a mapping of lr, steps, kind"),
        (
            "schedule: {steps: [1, x]}",
            "a.yaml:1: schedule.steps: is [1, 'x'] (list); expected tuple[int, ...]",
        ),
        ("average: {steps: 3}", "a.yaml:1: average.steps: is 3 (int); expected tuple[int, ...]"),
        ("average: 3", "a.yaml:1: average: is 3 (int); expected Schedule or null"),
        ("views: {stream: x}", "a.yaml:1: views: is {'stream': 'x'} (dict); expected list[View]"),
        ("views: [x]", "a.yaml:1: views: is ['x'] (list); expected list[View]"),
        ("bases: [1]", "a.yaml:1: bases: is [1] (list); expected str or list[str]"),
        ("model_args: [1]", "a.yaml:1: model_args: is [1] (list); expected dict[str, Any]"),
        ("model_args: {1: x}", "a.yaml:1: model_args: is {1: 'x'} (dict); expected dict[str, Any]"),
        ("lr: 1", "a.yaml:1: lr: unknown key; did you mean 'schedule.lr'?"),
        ("schedule.lr: 1", "a.yaml:1: schedule.lr: only the command line takes dotted keys"),
        ("_bas_: x", "a.yaml:1: _bas_: unknown key; did you mean 'bases'?"),
        ("on: 1", "True: unknown key; choose from"),
        ("schedule: {_base_: x}", "a.yaml:1: schedule._base_: must be at the top"),
        ("model_args: {_delete_: 3}", "a.yaml:1: model_args._delete_: is 3; expected true or false"),
        ("note: ${nowhere.x}", "a.yaml:1: note: Interpolation key 'nowhere.x' not found"),
        ("model_args: {x: ['${y}']}", "a.yaml:1: model_args.x.0: Interpolation key 'y' not found"),
        ("note: ${model}\nmodel: ${note}", "a.yaml:1: note: Recursive interpolation detected"),
        ("model_args: ???", "a.yaml:1: model_args: needs a value"),
        ("model_args:\n  x: ???", "a.yaml:2: model_args.x: needs a value"),
    ],
)
def test_a_wrong_value(files: Files, text: str, problem: str) -> None:
    found = problems_of(files(a=text), *([] if "benchmark" in text else ["benchmark=xsub"]))
    assert found[0].startswith(problem)
    assert len(found) == (2 if "${model}" in text else 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x: [1", "a.yaml:1: bad YAML: expected ',' or ']'"),
        ("note: a\nnote: b", "a.yaml:2: bad YAML: found duplicate key note"),
        ("model_args: {x: 1,\n x: 2}", "a.yaml:2: bad YAML: found duplicate key x"),
        ("x: &a [*a]", "a.yaml:1: bad YAML: YAML recursive aliases are not supported."),
        ("a: 1\n---\nb: 1", "a.yaml:2: bad YAML: but found another document"),
        ("x: !!python/object/apply:os.getcwd []", "a.yaml:1: bad YAML: could not determine a constructor"),
        ("- a", "a.yaml:1: is not a mapping"),
        ("just words", "a.yaml:1: is not a mapping"),
        ("\n3", "a.yaml:2: is not a mapping"),
        ("true", "a.yaml:1: is not a mapping"),
        ("null", "a.yaml:1: is not a mapping"),
        (
            "x: 1\ny: {b: 1,\tc: 2}",
            "a.yaml:2: bad YAML: found character '\\t' that cannot start any token; use spaces",
        ),
        ("{a:\t1}", "a.yaml:1: bad YAML: found character '\\t' that cannot start any token; use spaces"),
        ("\ta: 1", "a.yaml:1: bad YAML: found character '\\t' that cannot start any token; use spaces"),
        ("x: !!int words", "a.yaml: bad YAML: ValueError: "),
        ("x: !!timestamp words", "a.yaml: bad YAML: AttributeError: "),
        ("x: " + "[" * 3000, "a.yaml: bad YAML: RecursionError: "),
        ("a: 1\nnote: ${x", "a.yaml:2: note: bad interpolation: "),
        ("null: 1", "a.yaml: Incompatible key type 'NoneType'"),
        (
            "model_args: {x: !!set {a}}",
            "a.yaml:1: model_args.x: Value 'set' is not a supported primitive type",
        ),
        ("_base_: 3", "a.yaml:1: _base_: is 3; expected a path or a list of paths"),
        ("_base_: [b.yaml, 3]", "a.yaml:1: _base_: is ['b.yaml', 3]; expected a path or a list of paths"),
        ("_base_: based.yaml", "a.yaml: _base_: no such file: based.yaml; did you mean 'base.yaml'?"),
        ("_base_: a.yaml", "a.yaml: _base_: the bases form a cycle: a.yaml -> a.yaml"),
        (
            "_base_: [base.yaml, round.yaml]",
            "round.yaml: _base_: the bases form a cycle: a.yaml -> round.yaml -> a.yaml",
        ),
        ("_base_: .", ".: cannot be read: [Errno 21] Is a directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_problem(files: Files, text: str, problem: str) -> None:
    file = files(a=text, base="epochs: 3", round="_base_: a.yaml")
    found = problems_of(file, check=lambda run: [("benchmark", "not to be asked")])
    assert len(found) == 1, found
    assert found[0].startswith(problem)


def test_missing_file_and_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_bytes(b"note: \xff")
    assert problems_of(Path("trian.yaml")) == ["trian.yaml: no such file; did you mean 'train.yaml'?"]
    assert problems_of(Path("nowhere/x.yaml")) == ["nowhere/x.yaml: no such file"]
    assert problems_of(Path("train.yaml"))[0].startswith("train.yaml: cannot be read: 'utf-8' codec")


@pytest.mark.parametrize("override", ["epochs", "=3", "a..b=3", "--epochs=3", ".a=1", "a b=1"])
def test_an_argument_that_is_no_setting(files: Files, override: str) -> None:
    assert problems_of(files(a="benchmark: x"), override) == [
        f"command line: {override!r} is not a setting; write it as dotted.key=value"
    ]


def test_a_setting_inside_what_is_no_mapping(files: Files) -> None:
    file = files(a="benchmark: x\nviews: [{stream: joint}]")
    assert sorted(problems_of(file, "benchmark.y=3", "views.1.stream=bone")) == [
        "command line: benchmark: is {'y': 3} (dict); expected str",
        "command line: views: has the items 0 to 0, no 1",
    ]


def test_a_setting_of_an_item_of_what_is_taken_from_another_key(files: Files) -> None:
    file = files(
        a='benchmark: x\nviews: [{stream: x, sampling: [a, b]}, {stream: y, sampling: "${views.0.sampling}"}]'
    )
    assert problems_of(file, "views.1.sampling.0=c") == [
        "command line: views.1.sampling: is ${views.0.sampling}, not a list with items of its own; set items there, "
        "or give the whole list here"
    ]
    assert load_config(file, ["views.0.sampling.0=c"], Run).views[1].sampling == ["c", "b"]


def test_a_setting_in_bad_yaml(files: Files) -> None:
    found = problems_of(files(a="benchmark: x"), "epochs=[1", "note=a: b: c", "note=${x", "epochs=!!int x")
    assert found[0].startswith("command line: 'epochs=[1': bad YAML: ")
    assert found[1].startswith("command line: 'note=a: b: c': bad YAML: ")
    assert found[2].startswith("command line: 'note=${x': bad interpolation: ")
    assert found[3].startswith("command line: 'epochs=!!int x': bad YAML: ValueError: ")


def test_required_values_are_named_and_an_interpolation_to_one_is_no_second_problem(files: Files) -> None:
    file = files(a="note: ${benchmark}")
    with pytest.raises(ConfigError, match=r"\Aa.yaml: 1 problem\n  benchmark: needs a value\Z"):
        load_config(file, [], Run)
    with pytest.raises(ConfigError, match=r"\Aa.yaml: 2 problems\n"):
        load_config(file, ["epochs=x"], Run)


@dataclasses.dataclass
class Source:
    path: str = MISSING
    count: int = 2


@dataclasses.dataclass
class Nested:
    source: Source = dataclasses.field(default_factory=Source)


@pytest.mark.parametrize(
    ("text", "said"),
    [("source: {count: 3}", "needs a value"), ("source: {path: 3}", "is 3 (int); expected str")],
)
def test_nothing_is_checked_without_a_required_value_inside_a_mapping(
    files: Files, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"source\.path: " + re.escape(said)):
        load_config(files(a=text), [], Nested, check=lambda config: pytest.fail("was checked"))
    assert load_config(files(a="source: {path: x}"), [], Nested).source == Source("x")


def test_what_check_says_of_a_class_that_is_itself_wrong_is_dropped(files: Files) -> None:
    asked = []

    def check(run: Run) -> list[tuple[str, str]]:
        asked.append(run)
        return [("model_args.x", "not of the default model"), ("views", "too few"), ("epochs", "too many")]

    found = problems_of(files(a="benchmark: x\nmodel: 3\nmodel_args: {x: 1}\nepochs: [1]"), check=check)
    assert asked[0].epochs == 80
    assert [problem.split("; expected")[0] for problem in found] == [
        "a.yaml:4: epochs: is [1] (list)",
        "a.yaml:2: model: is 3 (int)",
        "views: too few",
    ]


def test_what_was_deleted_is_not_blamed(files: Files) -> None:
    file = files(
        a="_base_: b.yaml\nmodel_args: {_delete_: true,\n m: 1}", b="benchmark: x\nmodel_args: {\n n: 1}"
    )
    keys = ("model_args.n", "model_args.m", "benchmark")
    assert problems_of(file, check=lambda run: [(key, "odd") for key in keys]) == [
        "a.yaml:2: model_args.n: odd",
        "a.yaml:3: model_args.m: odd",
        "b.yaml:1: benchmark: odd",
    ]


@dataclasses.dataclass
class Window:
    low: int = 0
    high: int = MISSING

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


@dataclasses.dataclass
class Cut:
    window: Window = dataclasses.field(default_factory=lambda: Window(0, 9))
    other: Window | None = None


def test_a_schema_may_refuse_values_together(files: Files) -> None:
    asked: list[Cut] = []
    found = problems_of(
        files(a="window:\n  low: 30\nother: {low: 3, high: 2}"),
        schema=Cut,
        check=lambda cut: asked.append(cut) or [("window.low", "dropped"), ("other", "dropped")],  # type: ignore[func-returns-value]
    )
    assert found == ["a.yaml:1: window: low 30 is above high 9", "a.yaml:3: other: low 3 is above high 2"]
    assert asked == [Cut(Window(0, 9), None)]


def test_a_default_of_omegaconf_s_missing_is_none(files: Files) -> None:
    file = files(a="other: {low: 3}")
    assert problems_of(file, schema=Cut) == ["a.yaml:1: other.high: needs a value"]
    assert load_config(file, ["other.high=4"], Cut).other == Window(3, 4)


# ---- the way back


def test_yaml_reloads_with_no_base_to_an_equal_config(files: Files) -> None:
    file = files(
        a="_base_: b.yaml\nfolder: ../x\naverage: {lr: 1e-5}\n"
        "views: [{stream: bone, sampling: [{crop: {r: 1}}]}]",
        b="benchmark: xsub\nnote: ${benchmark}\nmodel_args: {lr: 1e-4, deep: {list: [], none: null}}",
    )
    run = load_config(file, [], Run)
    again = load_config(files(again=to_yaml(run)), [], Run)
    assert again == run
    assert to_yaml(again) == to_yaml(run)


TRICKY = [
    *["1e-4", "1", "0x1f", "010", "1_0", "12:30", ".5", "1e5", ".inf", ".nan", "2024-01-31"],
    *["on", "No", "true", "null", "~", "", " ", "  a ", "x\ny", "\ttab", "é", "\u2028", "x" * 300],
    *["a: b", "# c", "'q'", '"', "[1", "{", "- a", "!x", "&a", "*a", "%", "@", "`", "=", "<<", "a\\"],
    *["${note}", r"\${note}", r"\\${note}", "a${", "$", "$$", r"\d+\.(\w+)"],
]


def test_strings_that_look_like_something_else_survive(files: Files) -> None:
    run = Run("xsub", note=TRICKY[0], model_args={"list": TRICKY, "map": {text: text for text in TRICKY}})
    assert load_config(files(a=to_yaml(run)), [], Run) == run


def test_numbers_survive(files: Files) -> None:
    numbers = [
        0,
        -1,
        10**18,
        1e-5,
        1e-4,
        1e22,
        1e300,
        5e-324,
        0.1,
        -2.5,
        1 / 3,
        math.inf,
        -math.inf,
        True,
        False,
    ]
    run = Run("xsub", model_args={"numbers": numbers})
    again = load_config(files(a=to_yaml(run)), [], Run).model_args["numbers"]
    assert again == numbers
    assert list(map(type, again)) == list(map(type, numbers))


# ---- where values come from


def test_every_value_says_where_it_comes_from(files: Files) -> None:
    file = files(
        leaf="_base_: [data.yaml]\nepochs: 3\nschedule: {lr: 1}\naverage: ${schedule}\n",
        data="benchmark: xsub\nviews:\n- stream: bone\n- stream: joint\nmodel_args:\n  a: {b: [1, 2]}\n",
    )
    loaded = load(file, ["views.1.sampling=[x]", "schedule.kind=cosine", ("size", (2, 3.0)), "note=y"], Run)
    assert dict(loaded.origins) == {
        "benchmark": "data.yaml:1",
        "epochs": "leaf.yaml:2",
        "note": "command line",
        "folder": "default",
        "schedule.lr": "leaf.yaml:3",
        "schedule.steps.0": "default",
        "schedule.steps.1": "default",
        "schedule.kind": "command line",
        **{f"average.{key}": "leaf.yaml:4" for key in ("lr", "steps.0", "steps.1", "kind")},
        "size.0": "command line",
        "size.1": "command line",
        "views.0.stream": "data.yaml:3",
        "views.0.sampling": "default",
        "views.1.stream": "data.yaml:4",
        "views.1.sampling.0": "command line",
        "bases": "default",
        "model": "default",
        "model_args.a.b.0": "data.yaml:6",
        "model_args.a.b.1": "data.yaml:6",
    }
    text = annotate(to_yaml(loaded.config), (origin for _, origin in loaded.origins))
    assert "epochs: 3  # leaf.yaml:2\n" in text
    assert load_config(files(again=text), [], Run) == loaded.config


def test_strings_of_any_kind_can_be_annotated(files: Files) -> None:
    values = {"list": TRICKY, "map": {text: text for text in TRICKY}, "numbers": {True: 1, 2: [], 2.5: {}}}
    run = Run("xsub", note="long " * 100, model_args=values)
    loaded = load(files(a=to_yaml(run)), [], Run)
    text = annotate(to_yaml(loaded.config), (origin for _, origin in loaded.origins))
    assert load_config(files(again=text), [], Run) == run
    assert text.count("  # ") >= len(loaded.origins)


@dataclasses.dataclass
class Rate:
    lr: float = 0.1
    warmup: int = 0
    factors: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Part:
    name: str = ""
    rate: Rate | None = dataclasses.field(default=None, metadata={LAID_OVER: "rate"})


@dataclasses.dataclass
class Parts:
    rate: Rate = dataclasses.field(default_factory=Rate)
    parts: list[Part] = dataclasses.field(default_factory=list)


def test_a_part_is_laid_over_what_its_field_names_key_by_key(files: Files) -> None:
    file = files(
        run="rate: {lr: 0.5, warmup: 3, factors: {a: 0.1, b: 0.2}}\n"
        "parts: [{name: own, rate: {lr: 0.7, factors: {b: 0.9}}}, {name: none}, {name: whole, rate: {}}]\n"
    )
    loaded = load(file, ["rate.warmup=4"], Parts)
    config = loaded.config
    assert config.parts[0].rate == Rate(0.7, 4, {"a": 0.1, "b": 0.9})
    assert config.parts[1].rate is None
    assert config.parts[2].rate == config.rate
    assert loaded.inherited == {
        "parts.0.rate.warmup": "rate.warmup",
        "parts.0.rate.factors.a": "rate.factors.a",
        **{f"parts.2.rate.{name}": f"rate.{name}" for name in ("lr", "warmup", "factors")},
    }
    assert dict(loaded.origins)["parts.0.rate.warmup"] == "command line"
    # What was resolved stands alone.
    again = files(again=to_yaml(config))
    loaded = load(again, ["rate.lr=9"], Parts)
    assert loaded.config == dataclasses.replace(config, rate=dataclasses.replace(config.rate, lr=9.0))
    assert loaded.inherited == {}


def test_what_is_wrong_with_an_inherited_value_is_said_once(files: Files) -> None:
    file = files(
        run="rate: {lr: fast, warmup: -1}\nparts: [{rate: {factors: {a: 1}}}, {rate: {warmup: -2}}]\n"
    )

    def check(config: Parts) -> list[tuple[str, str]]:
        rates = {"rate": config.rate, **{f"parts.{n}.rate": part.rate for n, part in enumerate(config.parts)}}
        return [(f"{key}.warmup", "is too low") for key, rate in rates.items() if rate and rate.warmup < 0]

    with pytest.raises(ConfigError) as error:
        load_config(file, [], Parts, check=check)
    keys = [re.search(r"(\S+): is ", problem)[1] for problem in error.value.problems]  # type: ignore[index]
    assert keys == ["rate.lr", "rate.warmup", "parts.1.rate.warmup"]


def test_a_config_of_earlier_is_completed_in_lists_too() -> None:
    earlier = {"rate": {"lr": 0.3}, "parts": [{"name": "a", "rate": {"lr": 0.2}}, {"name": "b"}], "gone": 1}
    rate = {"warmup": 0, "factors": {}}
    assert completed(earlier, Parts) == {
        "rate": {"lr": 0.3, **rate},
        "parts": [{"name": "a", "rate": {"lr": 0.2, **rate}}, {"name": "b", "rate": None}],
        "gone": 1,
    }
