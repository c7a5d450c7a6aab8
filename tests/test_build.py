"""From class paths and arguments to objects: what resolves, what is refused, and how it is said."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar

import pytest

from torchlight.build import ClassPathError, Problem, bind, build, import_class, mismatch, nearest

if TYPE_CHECKING:
    from nowhere import Thing


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Two admitted packages, `zoo_a` and `zoo_b`, beside one that is not."""
    files = {
        "zoo_a/__init__.py": "",
        "zoo_a/cats.py": "import subprocess\nfrom subprocess import Popen\nfrom zoo_b import Dog\n"
        "class Lion:\n  def __init__(self, age, *, name='x'): self.age, self.name = age, name\n"
        "class _Hidden: pass\ndef function(): pass\n",
        "zoo_a/broken.py": "import nowhere_to_be_found",
        "zoo_a/wrong.py": "1 / 0",
        "zoo_a/deep/__init__.py": "",
        "zoo_a/deep/down.py": "class Mole: pass",
        "zoo_b.py": "class Dog: pass",
        "zoo_c.py": "class Fox: pass",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return ("zoo_a", "zoo_b")


def test_a_class_is_found_in_a_module_a_package_and_a_single_file(packages: tuple[str, ...]) -> None:
    assert import_class("zoo_a.cats.Lion", packages).__name__ == "Lion"
    assert import_class("zoo_a.deep.down.Mole", packages).__name__ == "Mole"
    assert import_class("zoo_b.Dog", packages).__module__ == "zoo_b"
    # defined in another package, which is admitted as well
    assert import_class("zoo_a.cats.Dog", packages).__module__ == "zoo_b"


def test_the_project_s_own_packages_are_admitted_by_default() -> None:
    assert import_class("net.utils.graph.Graph").__name__ == "Graph"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("zoo_a.cats.Loin", "zoo_a.cats has no class 'Loin'; did you mean 'Lion'?"),
        ("zoo_a.cats.function", "zoo_a.cats has no class 'function'; choose from Dog, Lion, _Hidden"),
        ("zoo_a.cats.Popen", "zoo_a.cats has no class 'Popen'; choose from"),
        ("zoo_a.cats.subprocess", "zoo_a.cats has no class 'subprocess'; choose from"),
        ("zoo_a.cats.subprocess.Popen", "'zoo_a.cats.subprocess.Popen': zoo_a.cats is a module; write"),
        ("zoo_a.cat.Lion", "zoo_a has no module 'cat'; did you mean 'cats'?"),
        ("zoo_a.deep.dwon.Mole", "zoo_a.deep has no module 'dwon'; did you mean 'down'?"),
        ("zoo_a.cats", "'zoo_a.cats': zoo_a.cats is a module; write zoo_a.cats.ClassName"),
        ("zoo_a.cat", "zoo_a has no class 'cat'; did you mean 'cats'?"),
        ("zoo_b.Dig", "zoo_b has no class 'Dig'; did you mean 'Dog'?"),
        ("zoo_a.broken.X", "'zoo_a.broken.X': importing zoo_a.broken failed: No module named 'nowhere"),
        ("zoo_c.Fox", "'zoo_c.Fox' is outside zoo_a, zoo_b; did you mean 'zoo_b'? (--plugin PACKAGE"),
        ("zoo_ab.Fox", "'zoo_ab.Fox' is outside zoo_a, zoo_b; did you mean"),
        ("os.system", "'os.system' is outside zoo_a, zoo_b; choose from zoo_a, zoo_b"),
        ("zoo_a", "'zoo_a' is not a class path"),
        ("zoo_a..Lion", "'zoo_a..Lion' is not a class path"),
        ("zoo_a.cats.Lion()", "'zoo_a.cats.Lion()' is not a class path"),
        ("", "'' is not a class path"),
        (3, "3 is not a class path"),
        (None, "None is not a class path"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere(packages: tuple[str, ...], path: Any, message: str) -> None:
    with pytest.raises(ClassPathError) as caught:
        import_class(path, packages)
    assert str(caught.value).startswith(message)


def test_a_plugin_that_is_not_there(packages: tuple[str, ...]) -> None:
    assert import_class("zoo_c.Fox", (*packages, "zoo_c")).__name__ == "Fox"
    with pytest.raises(ClassPathError, match="package 'zoo_d' cannot be found"):
        import_class("zoo_d.Fox", (*packages, "zoo_d"))


def test_a_defect_in_a_module_shows_its_own_trace(packages: tuple[str, ...]) -> None:
    with pytest.raises(ZeroDivisionError):
        import_class("zoo_a.wrong.X", packages)


class Network:
    def __init__(
        self,
        in_channels: int,
        num_class: int = 60,
        *,
        layout: str = "ntu",
        dropout: float = 0.0,
        kind: Literal["a", "bee"] = "a",
        widths: Sequence[int] = (),
    ) -> None: ...


@dataclasses.dataclass
class Options:
    first: int
    second: "float | None" = None


def test_good_arguments_have_no_problem() -> None:
    assert bind(Network, {"in_channels": 3, "dropout": 1, "kind": "bee", "widths": [1, 2]}) == []
    assert bind(Network, {"dropout": 0.5}, provided=["in_channels", "num_class"]) == []
    assert bind(Options, {"first": 1, "second": None}) == []


def test_every_problem_is_named() -> None:
    args = {
        "num_clas": 3,
        "dropout": "high",
        "kind": "be",
        "widths": [1, "x"],
        "layout": None,
        "num_class": 5,
    }
    problems = bind(Network, args, provided=["num_class", "skeleton"])
    assert [(key, text.replace(f"{__name__}.", "")) for key, text in problems] == [
        (
            "num_clas",
            "Network takes no such argument; choose from dropout, in_channels, kind, layout, widths",
        ),
        ("dropout", "is 'high' (str); expected float"),
        ("kind", "is 'be', which is not one of 'a', 'bee'; did you mean 'bee'?"),
        ("widths", "is [1, 'x'] (list); expected Sequence[int]"),
        ("layout", "is None (NoneType); expected str"),
        ("num_class", "the program passes this argument to Network; remove it"),
        ("skeleton", "Network must take this argument, because the program passes it"),
        ("in_channels", "Network needs this argument; give it a value"),
    ]
    assert str(problems[1]) == "dropout: is 'high' (str); expected float"


def test_a_signature_with_keywords_of_any_name_takes_them() -> None:
    def anything(a: int, *rest: int, **more: Any) -> None: ...

    assert bind(anything, {"a": 1, "b": 2}, provided=["c"]) == []
    assert bind(anything, {"rest": 1, "a": 2}) == []
    assert bind(anything, {"a": "x"}) == [Problem("a", "is 'x' (str); expected int")]
    (missing,) = bind(anything, {})
    assert missing.key == "a" and missing.text.startswith(f"{__name__}.{anything.__qualname__} needs ")


def test_annotations_that_cannot_be_read_are_not_judged() -> None:
    def lazy(a: "Thing", b: int) -> None: ...

    assert bind(lazy, {"a": 1, "b": "not judged either"}) == []
    assert bind(lazy, {"a": 1, "c": 2})[0].key == "c"


def test_build_calls_with_both_kinds_of_arguments(packages: tuple[str, ...]) -> None:
    lion = build("zoo_a.cats.Lion", {"name": "Leo"}, packages=packages, age=3)
    assert (lion.name, lion.age) == ("Leo", 3)
    assert build(nearest, {"name": "a"}, choices=["b"]) == "choose from b"
    assert build(Options, {"first": 1}) == Options(1)


def test_build_lists_all_problems() -> None:
    with pytest.raises(
        ValueError, match=r"(?s)Options cannot be built.*frist.*did you mean 'first'.*first: .*needs"
    ):
        build(Options, {"frist": 1})


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [0.0, True, "1", None]),
        (float, [0, 0.5, float("nan")], [True, "1e-4", None]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (None, [None], [0, ""]),
        (Path, ["a", Path("a")], [1, None]),
        (int | None, [1, None], ["1", 1.5]),
        (Optional[str], ["a", None], [1]),  # noqa: UP045 - the older spelling, as other projects write it
        (str | Sequence[str], ["a", ["a", "b"], []], [1, [1], {}]),
        (list[int], [[], [1]], [(1.5,), "12", {1: 2}, 1]),
        (list, [[], [1, "a"]], ["ab", {}]),
        (Sequence[float], [[1, 2.5]], [["a"], "ab"]),
        (tuple[int, ...], [[], [1, 2], (1,)], [["a"], 1]),
        (tuple[int, str], [[1, "a"]], [[1], [1, "a", 2], ["a", 1], "ab"]),
        (tuple, [[], [1]], ["a"]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, [1]]),
        (Mapping[str, Any], [{"a": [1]}], [[], {1: 1}]),
        (dict, [{}, {1: 2}], [[]]),
        (Mapping[str, Sequence[float]], [{"a": [1]}], [{"a": 1}]),
        (Literal["a", "b"], ["a"], ["c", 1, None]),
        (Literal[1, "all"], [1, "all"], [True, 1.0, 2, "1"]),
        (Literal["a"] | None, ["a", None], ["b"]),
        (Options, [{"first": 1}, Options(1)], [1, "a", None]),
        (Any, [1, None, []], []),
        (object, [1, None], []),
        (Callable[[int], int], [1], []),
        (TypeVar("Item"), [1, [], {}], []),
    ],
)
def test_what_fits_an_annotation(annotation: Any, good: list, bad: list) -> None:
    assert [value for value in good if mismatch(value, annotation)] == []
    assert [value for value in bad if not mismatch(value, annotation)] == []


def test_messages_say_what_was_expected() -> None:
    assert mismatch("x", int | None) == "is 'x' (str); expected int or null"
    assert mismatch(1, Literal["a", "b"]) == "is 1 (int); expected 'a', 'b'"
    assert (
        mismatch(1, dict[str, Any] | list[Literal["a"]]) == "is 1 (int); expected dict[str, Any] or list['a']"
    )


def test_nearest_name() -> None:
    assert nearest("epoch", ["epochs", "seed"]) == "did you mean 'epochs'?"
    assert nearest("xyz", ["seed", "epochs"]) == "choose from epochs, seed"
    assert nearest("xyz", []) == "there is none to choose from"
