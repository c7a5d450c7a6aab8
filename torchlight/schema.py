"""A dataclass as the schema of a config: its defaults, its keys, and an instance from the values of a YAML file."""

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
# In the metadata of a field that is a mapping: the top-level key whose mapping gives the values that the field lacks.
LAID_OVER = "laid over"


class UnusableError(Exception):
    """A value cannot be made. The problem is in the report already."""


class Report:
    """The problems found so far, and the file or argument that set each key."""

    def __init__(self, valid_keys: Sequence[str]) -> None:
        self.valid_keys = valid_keys
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        self._wrong: set[str] = set()
        self.unusable: set[str] = set()
        self.inherited: dict[str, str] = {}  # key -> the key from which it inherited its value
        self.broken = False

    def add(self, key: str, text: str) -> None:
        """Add a problem of one key. Its source is that of the key, or of the innermost mapping around it.

        A problem of an inherited value is reported only at the key that it is inherited from.
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
        """Add a problem of a file or argument that cannot be used. Missing values are then not reported."""
        self.problems.append(f"{source}: {text}")
        self.broken = True

    def add_missing(self, key: str) -> None:
        """Add the problem that no file or argument sets a required value."""
        self.unusable.add(key)
        if not self.broken:
            self.add(key, "needs a value")

    def is_unusable(self, key: str) -> bool:
        """Whether no value can be used for a key, for a mapping around it, or for the class that takes it."""
        return any(key == bad or key.startswith((f"{bad}.", f"{bad}_args")) for bad in self.unusable)

    def drop_sources(self, prefix: str, keep: Collection[str]) -> None:
        """Drop the sources of the keys that start with `prefix` and are not in `keep`."""
        dropped = [key for key in self.sources if key.startswith(prefix) and key not in keep]
        for key in dropped:
            del self.sources[key]

    def suggest(self, name: str, siblings: Iterable[str]) -> str:
        """A hint for an unknown name: a key of the same name elsewhere in the schema, or the most similar sibling."""
        elsewhere = [key for key in self.valid_keys if key.endswith(f".{name}")]
        return f"did you mean {elsewhere[0]!r}?" if elsewhere else nearest(name, siblings)


def typed(value: Any, annotation: Any, key: str, report: Report) -> Any:
    """A value from YAML, converted to its annotated type: a dataclass, a float from an int, a tuple from a list, …

    Raises:
        UnusableError: the value does not fit. The reason is in the report.
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
            report.add(f"{prefix}{name}", "must be at the top level of a file")
        elif "." in str(name):
            report.add(
                f"{prefix}{name}", "only the command line takes dotted keys; write a nested mapping here"
            )
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
    """The lowest layer: the defaults of a dataclass, and `???` for fields without one."""
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
    """A config from YAML with the defaults of all missing keys, including those of dataclasses in lists."""
    part, item = _dataclass_of(annotation), _item_of(annotation)
    if part is not None and isinstance(values, Mapping):
        hints = typing.get_type_hints(part)
        given = {name: completed(value, hints.get(name, Any)) for name, value in values.items()}
        return {**defaults(part), **given}
    return [completed(value, item) for value in values] if item and isinstance(values, list) else values


def inherit(values: dict, schema: Any) -> dict[str, str]:
    """Fill in the missing keys of fields with the metadata `LAID_OVER`, from the mappings that these name.

    values: the config from YAML; changed in place.

    Returns: dotted key that was filled in -> the key from which it inherited its value.
    """
    inherited: dict[str, str] = {}
    for key, part, base in list(_parts_laid_over(values, schema, "")):
        if isinstance(values.get(base), dict):
            _lay_over(values[base], part, base, key, inherited)
    return inherited


def _parts_laid_over(values: Any, annotation: Any, key: str) -> Iterator[tuple[str, dict, str]]:
    """Dotted key and values of each mapping with the metadata `LAID_OVER`, and the key that the metadata name."""
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


def _lay_over(source: Mapping, part: dict, base: str, key: str, inherited: dict[str, str]) -> None:
    """Add the keys of `source`, at `base`, that `part`, at `key`, lacks. Records them in `inherited`."""
    for name, value in source.items():
        if name not in part:
            part[name] = plain(value)
            inherited[f"{key}.{name}"] = f"{base}.{name}"
        elif isinstance(value, Mapping) and isinstance(part[name], dict):
            _lay_over(value, part[name], f"{base}.{name}", f"{key}.{name}", inherited)


def _item_of(annotation: Any) -> Any:
    """The annotation of the items of a list; None for other annotations."""
    return get_args(annotation)[0] if get_origin(annotation) is list else None


def _dataclass_of(annotation: Any) -> Any:
    """The dataclass in an annotation that is a dataclass or a union with one; else None."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else [annotation]
    return next((choice for choice in choices if dataclasses.is_dataclass(choice)), None)


def dotted_keys(schema: Any, prefix: str = "") -> list[str]:
    """The dotted keys of a dataclass and of the dataclasses in it."""
    keys = []
    for name, hint in typing.get_type_hints(schema).items():
        keys += [prefix + name]
        keys += dotted_keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else []
    return keys


def plain(value: Any) -> Any:
    """The value with dataclasses as mappings, tuples as lists, and paths as strings."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
