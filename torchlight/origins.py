"""The origin of each value of a config, as a YAML comment after the value."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

DEFAULT = "default"


def origins(
    value: Any, written: Any, sources: Mapping[str, str], key: str = "", around: str = DEFAULT
) -> Iterator[tuple[str, str]]:
    """Dotted key and origin of every scalar, and of every empty mapping and list.

    Args:
        value: the config, or the part of it at `key`, as mappings, lists and scalars.
        written: the same part before `${…}` was resolved. A value from a `${…}` has the origin of the `${…}`.
        sources: the origin of each dotted key that was set.
        key: of `value`; "" for the whole config.
        around: the origin of a value that has none in `sources`.
    """
    here = sources.get(key, around)
    if isinstance(value, (Mapping, list)) and value:
        inner = here if isinstance(written, str) else DEFAULT
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            below = _at(written, name)
            yield from origins(item, below, sources, f"{key}.{name}" if key else str(name), inner)
    else:
        yield key, here


def _at(written: Any, name: Any) -> Any:
    """The value at a key or an index. For the text of a `${…}`, it is the text itself."""
    if isinstance(written, Mapping):
        return written.get(name)
    return written[name] if isinstance(written, list) else written


def annotate(text: str, origins: Iterable[str]) -> str:
    """Block-style YAML with the origin of each value as a comment at the end of its line.

    text: the YAML. origins: one for each value, in the order of the text.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    parts, done = [], 0
    for end, origin in zip(_ends(node), origins, strict=True):
        parts += [text[done:end], f"  # {origin}"]
        done = end
    return "".join([*parts, text[done:]])


def _ends(node: yaml.Node) -> Iterator[int]:
    """The index in the text where each scalar, empty mapping or empty list ends."""
    if isinstance(node, yaml.MappingNode) and node.value:
        inner = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode) and node.value:
        inner = node.value
    else:
        yield node.end_mark.index
        return
    for value in inner:
        yield from _ends(value)
