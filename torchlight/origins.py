"""Where each value of a config comes from, as a YAML comment behind it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

DEFAULT = "default"


def origins(
    value: Any, written: Any, sources: Mapping[str, str], key: str = "", around: str = DEFAULT
) -> Iterator[tuple[str, str]]:
    """Dotted key and origin of every value that is no mapping or list, and of empty ones.

    Args:
        value: the config, or what is at `key` of it, as mappings, lists and scalars.
        written: the same before `${…}` was resolved. What a `${…}` gave comes from where that stands.
        sources: where each dotted key was set.
        key: of `value`; "" for the whole config.
        around: origin of what has none of its own.
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
    """What is at a key or an index; below a `${…}` that is the same text."""
    if isinstance(written, Mapping):
        return written.get(name)
    return written[name] if isinstance(written, list) else written


def annotate(text: str, origins: Iterable[str]) -> str:
    """Block-style YAML with the origin of each value, in their order, as a comment at the end of its line."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    parts, done = [], 0
    for end, origin in zip(_ends(node), origins, strict=True):
        parts += [text[done:end], f"  # {origin}"]
        done = end
    return "".join([*parts, text[done:]])


def _ends(node: yaml.Node) -> Iterator[int]:
    """Where every value ends that holds no others."""
    if isinstance(node, yaml.MappingNode) and node.value:
        inner = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode) and node.value:
        inner = node.value
    else:
        yield node.end_mark.index
        return
    for value in inner:
        yield from _ends(value)
