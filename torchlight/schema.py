"""A dataclass as the schema of a config: its defaults, its keys, and an instance from what YAML gave."""

import dataclasses
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from omegaconf import MISSING

from torchlight.build import mismatch, nearest

BASE = "_base_"
AFTER = "_after_"
DELETE = "_delete_"
# In the metadata of a field that is a mapping: the key of the whole config whose mapping it is laid over.
LAID_OVER = "laid over"


class UnusableError(Exception):
    """A value cannot be made; the problem has been reported."""


class Report:
    """Problems so far, and which file or argument set each key."""

    def __init__(self, valid_keys: Sequence[str]) -> None:
        self.valid_keys = valid_keys
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        self._wrong: set[str] = set()
        self.unusable: set[str] = set()
        self.inherited: dict[str, str] = {}  # by key, the key that its value is of
        self.broken = False

    def add(self, key: str, text: str) -> None:
        """A problem of one key; its source is that of the key, or of the nearest mapping around it.

        What a key has inherited is told once, where it is from.
        """
        if self.inherited.get(key) in self._wrong:
            return
        self._wrong.add(key)
        source, around = self.sources.get(key), key
        while source is None and "." in around:
            around = around.rpartition(".")[0]
            source = self.sources.get(around)
        self.problems.append(": ".join(part for part in (source, key, text) if part))

    def add_unreadable(self, source: str, text: str) -> None:
        """A file or argument that adds nothing to the config, so that what it lacks is no further problem."""
        self.problems.append(f"{source}: {text}")
        self.broken = True

    def add_missing(self, key: str) -> None:
        """A required value that nothing sets."""
        self.unusable.add(key)
        if not self.broken:
            self.add(key, "needs a value")

    def is_unusable(self, key: str) -> bool:
        """Whether a key, what is around it, or the class it is an argument of, has no usable value."""
        return any(key == bad or key.startswith((f"{bad}.", f"{bad}_args")) for bad in self.unusable)

    def forget(self, prefix: str, keep: Collection[str]) -> None:
        """The keys that begin so are set no longer, apart from `keep`."""
        gone = [key for key in self.sources if key.startswith(prefix) and key not in keep]
        for key in gone:
            del self.sources[key]

    def suggest(self, name: str, siblings: Iterable[str]) -> str:
        """The same name elsewhere in the schema, or the nearest beside an unknown one."""
        elsewhere = [key for key in self.valid_keys if key.endswith(f".{name}")]
        return f"did you mean {elsewhere[0]!r}?" if elsewhere else nearest(name, siblings)


def typed(value: Any, annotation: Any, key: str, report: Report) -> Any:
    """A value from YAML as its annotation wants it: a dataclass, an int as a float, a list as a tuple, …

    Raises:
        UnusableError: it does not fit; the report says why.
    """
    if dataclasses.is_dataclass(annotation):
        return _instance(value, annotation, key, report)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for choice in arguments:
            if mismatch(value, choice) is None:
                return typed(value, choice, key, report)
    wrong = mismatch(value, annotation)
    if wrong:
        report.add(key, wrong)
        raise UnusableError
    if annotation is float:
        return float(value)
    if annotation is Path:
        return Path(value)
    if isinstance(value, dict) and arguments:
        return {name: typed(item, arguments[1], f"{key}.{name}", report) for name, item in value.items()}
    if isinstance(value, list) and arguments:
        one_kind = origin is not tuple or arguments[-1] is Ellipsis
        kinds = arguments[:1] * len(value) if one_kind else arguments
        items = [typed(value[i], kinds[i], f"{key}.{i}", report) for i in range(len(value))]
        return tuple(items) if origin is tuple else items
    return value


def _instance(value: Any, schema: Any, key: str, report: Report) -> Any:
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}
    if not isinstance(value, dict):
        report.add(key, f"is {value!r}; expected a mapping of {', '.join(fields)}")
        raise UnusableError
    prefix = f"{key}." if key else ""
    for name in value:
        if name in (BASE, AFTER):
            report.add(f"{prefix}{name}", "belongs at the top of a file")
        elif "." in str(name):
            report.add(f"{prefix}{name}", "only the command line takes dotted keys; nest it here")
        elif name not in fields:
            report.add(f"{prefix}{name}", f"unknown key; {report.suggest(str(name), fields)}")

    hints = typing.get_type_hints(schema)
    arguments, complete = {}, True
    for name, field in fields.items():
        try:
            if name in value:
                arguments[name] = typed(value[name], hints[name], prefix + name, report)
                continue
            if prefix + name not in report.unusable and not _has_default(field):
                report.add_missing(prefix + name)
        except UnusableError:
            report.unusable.add(prefix + name)
        complete = complete and _has_default(field)
    if not complete:
        raise UnusableError
    try:
        return schema(**arguments)
    except ValueError as error:
        report.add(key, str(error))
        raise UnusableError from None


def _has_default(field: dataclasses.Field) -> bool:
    if field.default is MISSING:
        return False
    if dataclasses.is_dataclass(field.default_factory):
        return all(_has_default(inner) for inner in dataclasses.fields(field.default_factory))
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def defaults(schema: Any) -> dict:
    """The lowest layer: defaults of a dataclass, `???` where there is none."""
    hints, values = typing.get_type_hints(schema), {}
    for field in dataclasses.fields(schema):
        if field.default is not dataclasses.MISSING:
            values[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = plain(field.default_factory())
        elif dataclasses.is_dataclass(hints[field.name]):
            values[field.name] = defaults(hints[field.name])
        else:
            values[field.name] = MISSING
    return values


def completed(values: Any, annotation: Any) -> Any:
    """A config as YAML gives it, with the default of every key that it lacks, in dataclasses in lists, too."""
    part, item = _dataclass_of(annotation), _item_of(annotation)
    if part is not None and isinstance(values, Mapping):
        hints = typing.get_type_hints(part)
        given = {name: completed(value, hints.get(name, Any)) for name, value in values.items()}
        return {**defaults(part), **given}
    return [completed(value, item) for value in values] if item and isinstance(values, list) else values


def inherit(values: dict, schema: Any) -> dict[str, str]:
    """Give parts of a config that are laid over another, as a field's metadata say under `LAID_OVER`, what they lack.

    values: the config as YAML gives it, which is changed.

    Returns, by dotted key that is given, the key that its value is of.
    """
    given: dict[str, str] = {}
    for key, part, base in list(_parts_laid_over(values, schema, "")):
        if isinstance(values.get(base), dict):
            _lay_over(values[base], part, base, key, given)
    return given


def _parts_laid_over(values: Any, annotation: Any, key: str) -> Iterator[tuple[str, dict, str]]:
    """Dotted key and values of each mapping that is laid over another, and the key of that."""
    if isinstance(values, list) and (item := _item_of(annotation)) is not None:
        for number, value in enumerate(values):
            yield from _parts_laid_over(value, item, f"{key}{number}.")
    part = _dataclass_of(annotation)
    if part is None or not isinstance(values, dict):
        return
    hints = typing.get_type_hints(part)
    for field in dataclasses.fields(part):
        value, base = values.get(field.name), field.metadata.get(LAID_OVER)
        if base is not None and isinstance(value, dict):
            yield f"{key}{field.name}", value, base
        else:
            yield from _parts_laid_over(value, hints[field.name], f"{key}{field.name}.")


def _lay_over(below: Mapping, part: dict, base: str, key: str, given: dict[str, str]) -> None:
    """Add to `part`, at `key`, what it lacks of the mapping at `base`; notes it in `given`."""
    for name, value in below.items():
        if name not in part:
            part[name] = plain(value)
            given[f"{key}.{name}"] = f"{base}.{name}"
        elif isinstance(value, Mapping) and isinstance(part[name], dict):
            _lay_over(value, part[name], f"{base}.{name}", f"{key}.{name}", given)


def _item_of(annotation: Any) -> Any:
    """Annotation of the items of a list; None for other annotations."""
    return get_args(annotation)[0] if get_origin(annotation) is list else None


def _dataclass_of(annotation: Any) -> Any:
    """The dataclass that an annotation is, or is beside None; None if there is none."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else [annotation]
    return next((choice for choice in choices if dataclasses.is_dataclass(choice)), None)


def dotted_keys(schema: Any, prefix: str = "") -> list[str]:
    """Every key of a dataclass and of the dataclasses in it."""
    keys = []
    for name, hint in typing.get_type_hints(schema).items():
        keys += [prefix + name]
        keys += dotted_keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else []
    return keys


def plain(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, paths as strings."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
