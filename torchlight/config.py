"""A run's config: YAML files over `_base_` files, then the command line, into the dataclass of its processor.

OmegaConf reads the YAML (in which `1e-4` is a number) and resolves `${…}`; merging is here, because an error
has to name the file and line that set a value.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationToMissingValueError, OmegaConfBaseException

from torchlight.build import nearest
from torchlight.origins import origins
from torchlight.schema import (
    AFTER,
    BASE,
    DELETE,
    Report,
    UnusableError,
    defaults,
    dotted_keys,
    inherit,
    plain,
    typed,
)

Config = TypeVar("Config")

COMMAND_LINE = "command line"
# Of a value that a tag says to be of another type (`!!timestamp x`), and of brackets a thousand deep, readers of YAML
# raise errors of their own.
YAML_ERRORS = (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError)


class ConfigError(ValueError):
    """Everything that is wrong with a config, one problem a line, in `problems`."""

    def __init__(self, file: str | Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"{file}: {count}", *problems]))


class Moved(NamedTuple):
    """Where a config file that is gone now is, and the settings that make it what the gone one was."""

    file: Path
    settings: tuple[str, ...]


# Whether a file that does not exist has moved, and where to.
FindMoved = Callable[[Path], Moved | None]


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
    files = _Files(report, find_moved)
    layers = [*files.layers(Path(file), ()), *_override_layers(overrides, report, COMMAND_LINE)]
    return _built(layers, file, report, schema, check)


def parse_config(text: str, name: str, schema: type[Config]) -> Config:
    """An instance of `schema` from YAML that `to_yaml` made, called `name` in messages; see `load_config`.

    Raises:
        ConfigError: anything is wrong with it; lists all problems.
    """
    report = Report(dotted_keys(schema))
    return _built([_parse(text, name, report)], name, report, schema).config


def _built(
    layers: "Iterable[_Layer]",
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


@dataclasses.dataclass(frozen=True)
class _Layer:
    values: dict
    sources: dict[str, str]  # dotted key -> "file:line"


class _Files:
    """Reads config files and their bases, and checks the order in which they are merged."""

    def __init__(self, report: Report, find_moved: FindMoved) -> None:
        self.report, self.find_moved = report, find_moved
        # Files so far that have an `_after_`, with the files that led to them and its patterns.
        self.later: list[tuple[Path, tuple[Path, ...], list[str]]] = []

    def layers(self, file: Path, chain: tuple[Path, ...]) -> Iterator[_Layer]:
        """Layers of the bases of a file, and of the file; `chain` are the files that led to it."""
        if file.resolve() in [other.resolve() for other in chain]:
            cycle = " -> ".join(str(other) for other in (*chain, file))
            self.report.add_unreadable(str(chain[-1]), f"{BASE}: the bases form a cycle: {cycle}")
            return
        if not file.exists() and (moved := self.find_moved(file)) is not None:
            yield from self.layers(moved.file, chain)
            yield from _override_layers(moved.settings, self.report, str(file))
            return
        layer = self._read(file, chain)
        if layer is None:
            return
        for base in self._paths(layer, BASE):
            yield from self.layers(_beside(file, base), (*chain, file))
        self._check_order(file, chain)
        if after := self._paths(layer, AFTER):
            self.later.append((file, chain, after))
        yield layer

    def _read(self, file: Path, chain: tuple[Path, ...]) -> _Layer | None:
        """What a file sets; None where it cannot be read, which is reported."""
        try:
            return _parse(file.read_text(encoding="utf-8"), file, self.report)
        except FileNotFoundError:
            there = [other.name for other in file.parent.glob("*" + file.suffix)]
            hint = f"; {nearest(file.name, there)}" if there else ""
            if chain:
                self.report.add_unreadable(f"{chain[-1]}: {BASE}", f"no such file: {file}{hint}")
            else:
                self.report.add_unreadable(str(file), f"no such file{hint}")
        except (OSError, UnicodeDecodeError) as error:
            self.report.add_unreadable(str(file), f"cannot be read: {error}")
        return None

    def _paths(self, layer: _Layer, key: str) -> list[str]:
        """Take the list of paths under `key` out of a layer; one path stands for a list of it."""
        paths = layer.values.pop(key, [])
        paths = [paths] if isinstance(paths, str) else paths
        if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
            return paths
        self.report.add_unreadable(
            layer.sources[key], f"{key}: is {paths!r}; expected a path or a list of paths"
        )
        return []

    def _check_order(self, file: Path, chain: tuple[Path, ...]) -> None:
        """Report that a file is merged now, over one that was to come after it."""
        for earlier, led, patterns in self.later:
            if file not in led and any(fnmatch(file.name, pattern) for pattern in patterns):
                text = f"{file.name} is merged over {earlier.name}, which changes what it sets; name {file.name} first"
                self.report.add_unreadable(f"{chain[-1] if chain else file}: {BASE}", text)


def _parse(text: str, file: str | Path, report: Report) -> _Layer:
    """What the text of a file sets; nothing where it is not what OmegaConf takes, which is reported."""
    values: Any = {}
    refused = None
    try:
        # Python's own reader, which is the same everywhere; OmegaConf takes a faster one that admits more.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and not isinstance(node, yaml.MappingNode):
            where = f"{file}:{node.start_mark.line + 1}"
            report.add_unreadable(
                where, "holds no mapping; write keys with their values, as in num_epoch: 80"
            )
            return _Layer({}, {})
        values = OmegaConf.to_container(OmegaConf.create(text))
    except OmegaConfBaseException as error:
        refused = error
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        report.add_unreadable(f"{file}:{mark.line + 1}" if mark else str(file), _describe_syntax(error))
        return _Layer({}, {})
    if node is None:
        return _Layer({}, {})
    # OmegaConf has refused aliases that would make this search endless.
    sources = dict(_sources(node, "", str(file)))
    if refused:
        key = refused.full_key or ""
        said = ": ".join(part for part in (key, _describe_syntax(refused)) if part)
        report.add_unreadable(sources.get(key, str(file)), said)
        return _Layer({}, sources)
    return _Layer(values, sources)


def _beside(file: Path, base: str) -> Path:
    """Path of a base, kept relative and free of `..` where that can be, as messages show it."""
    path = (file.parent / base).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _describe_syntax(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        hint = "; use spaces for tabs" if "\\t" in str(error.problem) else ""
        return f"bad YAML: {error.problem}{hint}"
    kind = "" if isinstance(error, OmegaConfBaseException) else f"bad YAML: {type(error).__name__}: "
    kind = "bad interpolation: " if isinstance(error, GrammarParseError) else kind
    return kind + _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _sources(node: yaml.Node, prefix: str, file: str) -> Iterator[tuple[str, str]]:
    """Dotted key and "file:line" of everything in a YAML document."""
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(index), value, value) for index, value in enumerate(node.value)]
    else:
        return
    for name, place, value in children:
        yield prefix + name, f"{file}:{place.start_mark.line + 1}"
        yield from _sources(value, f"{prefix}{name}.", file)


def _override_layers(
    overrides: Sequence[str | tuple[str, Any]], report: Report, source: str
) -> Iterator[_Layer]:
    """A layer for each setting; `source` is where they stand, as messages show it."""
    for override in overrides:
        if isinstance(override, str):
            key, equals, text = override.partition("=")
            key = key.strip()
            if not equals or not re.fullmatch(r"\w+([.]\w+)*", key):
                report.add_unreadable(source, f"{override!r} is no setting; write it as dotted.key=value")
                continue
            try:
                value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[call-overload,index]
            except (OmegaConfBaseException, *YAML_ERRORS) as error:
                report.add_unreadable(source, f"{override!r}: {_describe_syntax(error)}")
                continue
        else:
            key, value = override[0], plain(override[1])
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        yield _Layer(nested, {key: source, **{f"{key}.{inner}": source for inner in _keys_in(value)}})


def _keys_in(value: Any) -> Iterator[str]:
    """Dotted keys of all that is in a mapping or a list."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield str(name)
            yield from (f"{name}.{inner}" for inner in _keys_in(item))


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
                    report.add(key, _first_line(error))
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
