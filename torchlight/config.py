"""A run's config: YAML files over `_base_` files, then the command line, into the dataclass of its processor.

OmegaConf resolves `${…}`; merging is here, because an error has to name the file and line that set a value.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from torchlight.layers import COMMAND_LINE, Files, FindMoved, Layer, first_line, override_layers, parse_text
from torchlight.origins import origins
from torchlight.schema import DELETE, Report, UnusableError, defaults, dotted_keys, inherit, plain, typed

Config = TypeVar("Config")


class ConfigError(ValueError):
    """Everything that is wrong with a config, one problem a line, in `problems`."""

    def __init__(self, file: str | Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"{file}: {count}", *problems]))


@dataclasses.dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A config, and where its values come from.

    origins: of each value, dotted key, and "file:line", "command line" or "default".
    inherited: by each dotted key that took its value from another, the key of that.
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
    """The config that `load` reads."""
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

    A file's `_base_` (a path or a list of them, relative to the file) is merged first, left to right, then
    the file, then `overrides`. Mappings merge key by key, everything else replaces; `_delete_: true` in a
    mapping drops what it would inherit. `${…}` is resolved after that. A mapping with the indices of an
    inherited list as its keys (`views.0.stream=bone`) changes those items. A field whose metadata name another
    key under `torchlight.schema.LAID_OVER` then takes what its mapping lacks from the mapping at that key.
    A base whose `_after_` names files changes what they set: where it is merged before one of them, that is a problem.

    Args:
        file: the YAML file.
        overrides: `"dotted.key=value"`, the value in YAML; or `(dotted key, value)`, taken as it is.
        schema: a dataclass. Fields may be scalars, `Path`, Literal, unions, lists, tuples, dataclasses, lists
            of those, and `dict[str, Any]`, which takes anything. A field without default, or with OmegaConf's
            MISSING, is required.
        check: further problems of a loaded config, as (dotted key, problem), for the same error. It is called
            though values are of a wrong type: those are then at their defaults, and what it says of them, or
            of `X_args` where `X` is one of them, is dropped. It is not called where a file cannot be read or
            a required value is missing.
        find_moved: tells where a file is that does not exist any more, given in `file` or in a `_base_`.

    Raises:
        ConfigError: anything is wrong; it lists all problems, each with file and line, dotted key, and the
            nearest valid name.
    """
    report = Report(dotted_keys(schema))
    files = Files(report, find_moved)
    layers = [*files.layers(Path(file), ()), *override_layers(overrides, report, COMMAND_LINE)]
    return _built(layers, file, report, schema, check)


def parse_config(text: str, name: str, schema: type[Config]) -> Config:
    """An instance of `schema` from YAML that `to_yaml` made, called `name` in messages; see `load_config`.

    Raises:
        ConfigError: anything is wrong with it; lists all problems.
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
    """An instance of `schema` from layers, later ones on top; raises ConfigError, see `load_config`."""
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
    of_inherited = {key: report.sources[of] for key, of in report.inherited.items() if of in report.sources}
    found = origins(plain(config), values, {**report.sources, **of_inherited})
    return Loaded(config, tuple(found), report.inherited)


def to_yaml(config: Any) -> str:
    """YAML of a config dataclass that `load_config` reads back, with no base, to an equal config."""
    return OmegaConf.to_yaml(_escape(plain(config)))


def _merge(inherited: dict, new: Mapping, prefix: str, report: Report, sources: Mapping[str, str]) -> dict:
    """`inherited` with the keys of `new`, a mapping at `prefix` of the layer of `sources`, on top."""
    delete = new.get(DELETE, False)
    if not isinstance(delete, bool):
        report.add(prefix + DELETE, f"is {delete!r}; expected true or false")
    if delete is True:
        report.forget(prefix, keep=sources)
    merged = {} if delete is True else dict(inherited)
    for key, value in new.items():
        if key == DELETE:
            continue
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, list) and _are_indices(value, below):
            items = {int(index): item for index, item in value.items()}
            items = _merge(dict(enumerate(below)), items, f"{prefix}{key}.", report, sources)
            merged[key] = list(items.values())
        elif isinstance(value, Mapping):
            if not isinstance(below, dict):
                report.sources[f"{prefix}{key}"] = sources.get(f"{prefix}{key}", COMMAND_LINE)
                below = {}
            merged[key] = _merge(below, value, f"{prefix}{key}.", report, sources)
        else:
            report.forget(f"{prefix}{key}.", keep=sources)
            merged[key] = value
    return merged


def _are_indices(value: Mapping, items: list) -> bool:
    return bool(value) and all(str(key).isdecimal() and int(key) < len(items) for key in value)


def _resolve(values: dict, report: Report) -> dict:
    """Replace every `${…}`; take out, and report, those that lead nowhere and values that are `???`."""
    # Sums, for lengths that must agree: "${add:${observe},${predict}}".
    OmegaConf.register_resolver("add", lambda *numbers: sum(numbers), replace=True)
    # The number of letters, for a width that follows from a text: "${count:${data.channels}}".
    OmegaConf.register_resolver("count", lambda text: len(str(text)), replace=True)
    # The name of a file without folder and ending, for folders called after the data: "${stem:${data.path}}".
    OmegaConf.register_resolver("stem", lambda path: Path(str(path)).stem, replace=True)
    tree = OmegaConf.create(values)
    # Found first, taken out after: what points at a missing value is then told from what points nowhere.
    for container, name in list(_unresolved(tree, "", report)):
        container[name] = None
        if isinstance(container, DictConfig):
            del container[name]
    resolved = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(resolved, dict)
    return resolved


def _unresolved(tree: DictConfig | ListConfig, prefix: str, report: Report) -> Iterator[tuple[Any, Any]]:
    """Container and name of each value that is missing or cannot be interpolated."""
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
    """Strings such that OmegaConf reads a `${` in them as these two letters."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
