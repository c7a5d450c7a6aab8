"""The layers of a config: the values of each file and of each command-line setting, in the order of merging.

OmegaConf reads the YAML, in which `1e-4` is a number. PyYAML gives the line of each key.
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
from torchlight.files import YAML_ERRORS
from torchlight.schema import AFTER, BASE, Report, plain

COMMAND_LINE = "command line"


class Moved(NamedTuple):
    """A config file that replaces a removed one, and the settings that make it equal to the removed one."""

    file: Path
    settings: tuple[str, ...]


# Maps a file that does not exist to its replacement; None if there is none.
FindMoved = Callable[[Path], Moved | None]


@dataclasses.dataclass(frozen=True)
class Layer:
    """The values that a file or a setting sets, and their sources."""

    values: dict
    sources: dict[str, str]  # dotted key -> "file:line"


class Files:
    """Reads config files and their bases, and checks the order in which they are merged."""

    def __init__(self, report: Report, find_moved: FindMoved) -> None:
        self.report, self.find_moved = report, find_moved
        # For each file so far that has an `_after_`: the file, the chain of files that include it, and its patterns.
        self.later: list[tuple[Path, tuple[Path, ...], list[str]]] = []

    def layers(self, file: Path, chain: tuple[Path, ...]) -> Iterator[Layer]:
        """The layers of the bases of a file, then its own. `chain`: the files that include it, outermost first."""
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
        """The layer of a file; None, and a report, if the file cannot be read."""
        try:
            return parse_text(file.read_text(encoding="utf-8"), file, self.report)
        except FileNotFoundError:
            siblings = [other.name for other in file.parent.glob("*" + file.suffix)]
            hint = f"; {nearest(file.name, siblings)}" if siblings else ""
            if chain:
                self.report.add_unreadable(f"{chain[-1]}: {BASE}", f"no such file: {file}{hint}")
            else:
                self.report.add_unreadable(str(file), f"no such file{hint}")
        except (OSError, UnicodeDecodeError) as error:
            self.report.add_unreadable(str(file), f"cannot be read: {error}")
        return None

    def _paths(self, layer: Layer, key: str) -> list[str]:
        """Remove `key` from a layer, and give its list of paths. A single path counts as a list of one."""
        paths = layer.values.pop(key, [])
        paths = [paths] if isinstance(paths, str) else paths
        if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
            return paths
        self.report.add_unreadable(
            layer.sources[key], f"{key}: is {paths!r}; expected a path or a list of paths"
        )
        return []

    def _check_order(self, file: Path, chain: tuple[Path, ...]) -> None:
        """Report a file that is merged after one whose `_after_` names it."""
        for earlier, including, patterns in self.later:
            if file not in including and any(fnmatch(file.name, pattern) for pattern in patterns):
                text = f"{file.name} is merged after {earlier.name}, which must come later; list {file.name} first"
                self.report.add_unreadable(f"{chain[-1] if chain else file}: {BASE}", text)


def parse_text(text: str, file: str | Path, report: Report) -> Layer:
    """The layer of the text of a file; an empty layer, and a report, if OmegaConf does not accept the text."""
    values: Any = {}
    refused = None
    try:
        # PyYAML's pure Python loader behaves alike everywhere. OmegaConf uses a faster one that accepts more.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and not isinstance(node, yaml.MappingNode):
            where = f"{file}:{node.start_mark.line + 1}"
            report.add_unreadable(
                where, "is not a mapping; write keys with their values, as in num_epoch: 80"
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
        problem = ": ".join(part for part in (key, _describe_syntax(refused)) if part)
        report.add_unreadable(sources.get(key, str(file)), problem)
        return Layer({}, sources)
    return Layer(values, sources)


def _beside(file: Path, base: str) -> Path:
    """The path of a base, as messages show it: relative to the working folder if it is inside, and without `..`."""
    path = (file.parent / base).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _describe_syntax(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        hint = "; use spaces instead of tabs" if "\\t" in str(error.problem) else ""
        return f"bad YAML: {error.problem}{hint}"
    kind = "" if isinstance(error, OmegaConfBaseException) else f"bad YAML: {type(error).__name__}: "
    kind = "bad interpolation: " if isinstance(error, GrammarParseError) else kind
    return kind + first_line(error)


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
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
    """A layer for each setting. `source`: their origin, for messages."""
    for override in overrides:
        if isinstance(override, str):
            key, equals, text = override.partition("=")
            key = key.strip()
            if not equals or not re.fullmatch(r"\w+([.]\w+)*", key):
                report.add_unreadable(source, f"{override!r} is not a setting; write it as dotted.key=value")
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
    """The dotted keys of everything in a mapping or list."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield str(name)
            yield from (f"{name}.{inner}" for inner in _keys_in(item))
