"""Reads the config of a run: `_base_` files, then the file, then the command line, into a dataclass.

OmegaConf resolves `${…}`. Merging is done here, because an error has to name the file and line that set a value.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from torchlight.config_layers import (
    COMMAND_LINE,
    Files,
    FindMoved,
    Layer,
    first_line,
    override_layers,
    parse_text,
)
from torchlight.origins import origins
from torchlight.schema import DELETE, Report, UnusableError, defaults, dotted_keys, inherit, plain, typed

Config = TypeVar("Config")


class ConfigError(ValueError):
    """All problems of a config, one per line, also as the attribute `problems`."""

    def __init__(self, file: str | Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"{file}: {count}", *problems]))


@dataclasses.dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A config, and the origins of its values.

    origins: for each value, its dotted key and "file:line", "command line" or "default".
    inherited: dotted key -> the dotted key from which it inherited its value.
    """

    config: Config
    origins: tuple[tuple[str, str], ...]
    inherited: Mapping[str, str]


def load_config(
    file: str | Path,
    overrides: Sequence[str | tuple[str, Any]],
    schema: type[Config],
    *,
    check: Callable[[Config], Iterable[tuple[str, str]]] | None = None,
    find_moved: FindMoved = lambda file: None,
) -> Config:
    """The config that `load` gives, without the origins."""
    return load(file, overrides, schema, check=check, find_moved=find_moved).config


def load(
    file: str | Path,
    overrides: Sequence[str | tuple[str, Any]],
    schema: type[Config],
    *,
    check: Callable[[Config], Iterable[tuple[str, str]]] | None = None,
    find_moved: FindMoved = lambda file: None,
) -> Loaded[Config]:
    """Read a config file, its bases and the command line into an instance of `schema`.

    First the files under `_base_` are merged (a path or a list of paths, relative to the file), from left to right,
    then the file, then `overrides`. Mappings merge key by key; any other value replaces the earlier one.
    `_delete_: true` in a mapping drops its inherited keys. A mapping whose keys are indices of an inherited list
    (`views.0.stream=bone`) changes these items. Then `${…}` is resolved. Last, if the metadata of a field have the name
    of another key under `torchlight.schema.LAID_OVER`, its mapping takes missing keys from the mapping at that key.
    A base with `_after_` changes values of the files that `_after_` names. It is a problem if one of them is merged
    after the base.

    Args:
        file: the YAML file.
        overrides: `"dotted.key=value"`, with the value in YAML; or `(dotted key, value)`, with any value.
        schema: a dataclass. Fields may be scalars, `Path`, Literal, unions, lists, tuples, dataclasses, lists of
            dataclasses, and `dict[str, Any]`, which takes any mapping. A field without a default, or with OmegaConf's
            MISSING, is required.
        check: gives further problems of a loaded config, as (dotted key, problem), for the same error. In the config
            that it gets, values of a wrong type are replaced by their defaults; its problems with such a key `X`, or
            with `X_args`, are dropped. It is not called if a file cannot be read or a required value is missing.
        find_moved: gives the new place of a config file that no longer exists, for `file` and for each `_base_`.

    Raises:
        ConfigError: the config has problems. The message lists all of them, each with file and line, dotted key, and
            the nearest valid name.
    """
    report = Report(dotted_keys(schema))
    files = Files(report, find_moved)
    layers = [*files.layers(Path(file), ()), *override_layers(overrides, report, COMMAND_LINE)]
    return _built(layers, file, report, schema, check)


def parse_config(text: str, name: str, schema: type[Config]) -> Config:
    """An instance of `schema` from the YAML that `to_yaml` gave.

    Args:
        text: the YAML.
        name: of its file, for messages.
        schema: see `load`.

    Raises:
        ConfigError: see `load`.
    """
    report = Report(dotted_keys(schema))
    return _built([parse_text(text, name, report)], name, report, schema).config


def _built(
    layers: "Iterable[Layer]",
    name: str | Path,
    report: Report,
    schema: type[Config],
    check: Callable[[Config], Iterable[tuple[str, str]]] | None = None,
) -> Loaded[Config]:
    """An instance of `schema`; later layers override earlier ones. Raises ConfigError, see `load`."""
    values = defaults(schema)
    for layer in layers:
        report.sources.update(layer.sources)
        values = _merge(values, layer.values, "", report, layer.sources)
    resolved = _resolve(values, report)
    report.inherited = inherit(resolved, schema)
    try:
        config = typed(resolved, schema, "", report)
    except UnusableError:
        raise ConfigError(name, report.problems) from None
    if check is not None and not report.broken:
        for key, text in check(config):
            if not report.is_unusable(key):
                report.add(key, text)
    if report.problems:
        raise ConfigError(name, report.problems)
    of_inherited = {
        key: report.sources[base] for key, base in report.inherited.items() if base in report.sources
    }
    found = origins(plain(config), values, {**report.sources, **of_inherited})
    return Loaded(config, tuple(found), report.inherited)


def to_yaml(config: Any) -> str:
    """A config dataclass as YAML without a base, which `load_config` reads back to an equal config."""
    return OmegaConf.to_yaml(_escape(plain(config)))


def _merge(inherited: dict, new: Mapping, prefix: str, report: Report, sources: Mapping[str, str]) -> dict:
    """The keys of `inherited` and `new`, with the values of `new` where both have one.

    Args:
        inherited: the earlier layers' mapping at `prefix`.
        new: the layer's mapping at `prefix`.
        prefix: a dotted key with its last dot; "" for the whole config.
        report: gets problems and sources.
        sources: of the layer.
    """
    delete = new.get(DELETE, False)
    if not isinstance(delete, bool):
        report.add(prefix + DELETE, f"is {delete!r}; expected true or false")
    if delete is True:
        report.drop_sources(prefix, keep=sources)
    merged = {} if delete is True else dict(inherited)
    for key, value in new.items():
        if key == DELETE:
            continue
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, list) and _are_indices(value, below):
            items = {int(index): item for index, item in value.items()}
            items = _merge(dict(enumerate(below)), items, f"{prefix}{key}.", report, sources)
            merged[key] = list(items.values())
        elif isinstance(value, Mapping) and (problem := _wrong_items(value, below)):
            below_it = f"{prefix}{key}."
            origin = (place for name, place in sources.items() if name.startswith(below_it))
            report.sources[f"{prefix}{key}"] = next(origin, COMMAND_LINE)
            report.add(f"{prefix}{key}", problem)
        elif isinstance(value, Mapping):
            if not isinstance(below, dict):
                report.sources[f"{prefix}{key}"] = sources.get(f"{prefix}{key}", COMMAND_LINE)
                below = {}
            merged[key] = _merge(below, value, f"{prefix}{key}.", report, sources)
        else:
            report.drop_sources(f"{prefix}{key}.", keep=sources)
            merged[key] = value
    return merged


def _wrong_items(value: Mapping, below: Any) -> str | None:
    """The problem of a mapping of numbers that are no items of the value below it; None if there is none."""
    if not _are_numbers(value):
        return None
    if isinstance(below, list) and below:
        return f"has the items 0 to {len(below) - 1}, no {', '.join(map(str, value))}"
    if isinstance(below, str) and "${" in below:
        return f"is {below}, not a list with items of its own; set items there, or give the whole list here"
    return None


def _are_indices(value: Mapping, items: list) -> bool:
    return _are_numbers(value) and all(int(key) < len(items) for key in value)


def _are_numbers(value: Mapping) -> bool:
    return bool(value) and all(str(key).isdecimal() for key in value)


def _resolve(values: dict, report: Report) -> dict:
    """The values with every `${…}` resolved.

    Values that are `???`, and each `${…}` that cannot be resolved, are reported and removed.
    """
    # A sum, for lengths that must agree: "${add:${observe},${predict}}".
    OmegaConf.register_resolver("add", lambda *numbers: sum(numbers), replace=True)
    # The number of letters, such as that of channels: "${count:${data.channels}}".
    OmegaConf.register_resolver("count", lambda text: len(str(text)), replace=True)
    # A file's name without folder and suffix, for folders named after the data: "${stem:${data.path}}".
    OmegaConf.register_resolver("stem", lambda path: Path(str(path)).stem, replace=True)
    tree = OmegaConf.create(values)
    # Find all before any is removed: a `${…}` to a missing value differs from one to an unknown key.
    for container, name in list(_unresolved(tree, "", report)):
        container[name] = None
        if isinstance(container, DictConfig):
            del container[name]
    resolved = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(resolved, dict)
    return resolved


def _unresolved(tree: DictConfig | ListConfig, prefix: str, report: Report) -> Iterator[tuple[Any, Any]]:
    """Container and name of each value that is `???` or a `${…}` that cannot be resolved. Reports them."""
    for name in list(tree) if isinstance(tree, DictConfig) else range(len(tree)):
        key = f"{prefix}{name}"
        if OmegaConf.is_missing(tree, name):
            report.add_missing(key)
            yield tree, name
        elif OmegaConf.is_interpolation(tree, name):
            try:
                tree[name]
            except OmegaConfBaseException as error:
                report.unusable.add(key)
                if not isinstance(error, InterpolationToMissingValueError):
                    report.add(key, first_line(error))
                yield tree, name
        elif isinstance(tree[name], (DictConfig, ListConfig)):
            yield from _unresolved(tree[name], f"{key}.", report)


def _escape(value: Any) -> Any:
    """The value with each `${` in its strings escaped, so that OmegaConf does not interpolate it."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
