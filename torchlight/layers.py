"""The layers of a config: what each file and each setting of the command line says, in the order of merging.

OmegaConf reads the YAML (in which `1e-4` is a number); PyYAML says in which line a key stands.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from torchlight.build import nearest
from torchlight.schema import AFTER, BASE, Report, plain

COMMAND_LINE = "command line"
# Of a value that a tag says to be of another type (`!!timestamp x`), and of brackets a thousand deep, readers of YAML
# raise errors of their own.
YAML_ERRORS = (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError)


class Moved(NamedTuple):
    """Where a config file that is gone now is, and the settings that make it what the gone one was."""

    file: Path
    settings: tuple[str, ...]


# Whether a file that does not exist has moved, and where to.
FindMoved = Callable[[Path], Moved | None]


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a file or a setting says, and where."""

    values: dict
    sources: dict[str, str]  # dotted key -> "file:line"


class Files:
    """Reads config files and their bases, and checks the order in which they are merged."""

    def __init__(self, report: Report, find_moved: FindMoved) -> None:
        self.report, self.find_moved = report, find_moved
        # Files so far that have an `_after_`, with the files that led to them and its patterns.
        self.later: list[tuple[Path, tuple[Path, ...], list[str]]] = []

    def layers(self, file: Path, chain: tuple[Path, ...]) -> Iterator[Layer]:
        """Layers of the bases of a file, and of the file; `chain` are the files that led to it."""
        if file.resolve() in [other.resolve() for other in chain]:
            cycle = " -> ".join(str(other) for other in (*chain, file))
            self.report.add_unreadable(str(chain[-1]), f"{BASE}: the bases form a cycle: {cycle}")
            return
        if not file.exists() and (moved := self.find_moved(file)) is not None:
            yield from self.layers(moved.file, chain)
            source = f"{file}, now {moved.file}"
            yield from override_layers(moved.settings, self.report, source)
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

    def _read(self, file: Path, chain: tuple[Path, ...]) -> Layer | None:
        """What a file sets; None where it cannot be read, which is reported."""
        try:
            return parse_text(file.read_text(encoding="utf-8"), file, self.report)
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

    def _paths(self, layer: Layer, key: str) -> list[str]:
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


def parse_text(text: str, file: str | Path, report: Report) -> Layer:
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
            return Layer({}, {})
        values = OmegaConf.to_container(OmegaConf.create(text))
    except OmegaConfBaseException as error:
        refused = error
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        report.add_unreadable(f"{file}:{mark.line + 1}" if mark else str(file), _describe_syntax(error))
        return Layer({}, {})
    if node is None:
        return Layer({}, {})
    # OmegaConf has refused aliases that would make this search endless.
    sources = dict(_sources(node, "", str(file)))
    if refused:
        key = refused.full_key or ""
        said = ": ".join(part for part in (key, _describe_syntax(refused)) if part)
        report.add_unreadable(sources.get(key, str(file)), said)
        return Layer({}, sources)
    return Layer(values, sources)


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
    return kind + first_line(error)


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
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


def override_layers(
    overrides: Sequence[str | tuple[str, Any]], report: Report, source: str
) -> Iterator[Layer]:
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
        yield Layer(nested, {key: source, **{f"{key}.{inner}": source for inner in _keys_in(value)}})


def _keys_in(value: Any) -> Iterator[str]:
    """Dotted keys of all that is in a mapping or a list."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield str(name)
            yield from (f"{name}.{inner}" for inner in _keys_in(item))
