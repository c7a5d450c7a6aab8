"""Write the tables of `docs/configs.md`: every key of a config with its type, its default and its meaning.

    python tools/document_configs.py

A key's meaning is the comment above its field in the config's dataclass. The text around the tables is not changed.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from omegaconf import MISSING

from feeder.augment import AUGMENT
from feeder.normalise import NORMALISE
from feeder.sampling import SAMPLING
from processor.config import DataConfig, OptimConfig, ProcessorConfig, ViewConfig
from processor.label_propagation import SpreadConfig
from processor.registry import PROCESSORS, task_class
from processor.schedule import PhaseConfig
from tools.label_efficiency import GridConfig
from torchlight.checkpoint import atomic_write

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configs.md"
BEGIN, END = (
    "<!-- Tables by `python tools/document_configs.py`: change the comments in the code, then run it. -->\n",
    "<!-- End of the tables. -->\n",
)
# A dataclass within a config: the title of its table.
PARTS: dict[type, str] = {
    DataConfig: "`data`",
    ViewConfig: "View",
    OptimConfig: "`optim`",
    PhaseConfig: "Phase",
    SpreadConfig: "`spread`",
}


class Key(NamedTuple):
    """A key of a config, as its row of a table shows it."""

    name: str
    type: str
    default: str
    meaning: str


@cache
def meanings(config: type) -> Mapping[str, str]:
    """The comment above each field of a dataclass, without inherited fields, its lines joined; "" without comment."""
    source = inspect.getsource(config)
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = number = node.lineno - 1
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            found[node.target.id] = " ".join(line.strip().lstrip("# ") for line in lines[first:number])
    return found


def keys_of(config: type) -> Iterator[Key]:
    """Every key of a config's dataclass, inherited ones included, in order."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        (owner, *_) = (each for each in config.__mro__ if field.name in inspect.get_annotations(each))
        yield Key(field.name, type_text(hints[field.name]), default_text(field), meanings(owner)[field.name])


def type_text(annotation: Any) -> str:
    """A type in the words of a user of YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in PARTS:
        title = PARTS[annotation]
        return f"[{title}](#{title.lower().replace('`', '').replace(' ', '-')})"
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_text, arguments))
    if origin is list:
        (item,) = arguments
        return "list" if item is Any else f"list of {type_text(item)}"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping to {type_text(arguments[1])}"
    return {str: "text", int: "int", float: "float", bool: "bool"}[annotation]


def default_text(field: dataclasses.Field) -> str:
    """A field's default in YAML; "required" if a config must give the value."""
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    if value in (MISSING, dataclasses.MISSING):
        return "required"
    return "" if dataclasses.is_dataclass(value) else f"`{yaml_text(value)}`"


def yaml_text(value: Any) -> str:
    """A scalar, list or mapping on one line; numbers to four digits."""
    return json.dumps(round(value, 4) if isinstance(value, float) else value).strip('"')


def step_text(name: str, step: Callable) -> str:
    """A step of a view with its arguments, as `Name: {argument: default}`; required arguments have no default."""
    arguments = [
        key if parameter.default is parameter.empty else f"{key}: {yaml_text(parameter.default)}"
        for key, parameter in inspect.signature(step).parameters.items()
    ]
    return f"`{name}`" if not arguments else f"`{name}: {{{', '.join(arguments)}}}`"


def first_paragraph(documented: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *escaped])


def sections() -> Iterator[tuple[str, str]]:
    """Title and table of each part of the page."""

    def keys(config: type, but: Container[Key] = ()) -> str:
        rows = [
            (f"`{key.name}`", key.type, key.default, key.meaning) for key in keys_of(config) if key not in but
        ]
        return table(("key", "type", "default", "meaning"), rows)

    def steps(steps: Mapping[str, Callable]) -> str:
        rows = [(step_text(name, step), first_paragraph(step)) for name, step in steps.items()]
        return table(("step and arguments", "meaning"), rows)

    shared = set(keys_of(ProcessorConfig))
    yield "Keys of every processor", keys(ProcessorConfig)
    for name in PROCESSORS:
        yield f"Further keys of `{name}`", keys(task_class(name).config_class, but=shared)
    for part, title in PARTS.items():
        yield title, keys(part)
    yield "Steps of `sampling`", steps(SAMPLING)
    yield "Steps of `augment`", steps(AUGMENT)
    yield (
        "Values of `normalise`",
        table(
            ("value", "meaning"),
            [(f"`{name}`", first_paragraph(each.of)) for name, each in NORMALISE.items()],
        ),
    )
    yield "Keys of `tools/label_efficiency.py`", keys(GridConfig)


def render(page: str) -> str:
    """A page with its tables replaced by new ones.

    Raises ValueError: the page does not mark the place of the tables.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has no lines {BEGIN!r} and {END!r}; the tables go between them: add both")
    tables = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections())
    return f"{head}{BEGIN}{tables}\n{END}{tail}"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    text = render(PAGE.read_text(encoding="utf-8"))
    with atomic_write(PAGE) as file:
        file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
