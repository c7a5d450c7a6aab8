"""Where each value of a config comes from, as a YAML comment behind it."""

from collections.abc import Iterator, Mapping
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


def annotate(text: str, origins: Mapping[str, str]) -> str:
    """Block-style YAML with the origin of each value as a comment behind it."""
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    for key, line in _ends(node, ""):
        lines[line] += f"  # {origins[key]}"
    return "".join(f"{line}\n" for line in lines)


def _ends(node: yaml.Node, prefix: str) -> Iterator[tuple[str, int]]:
    """Dotted key of every value that holds no others, and the number of the line that it ends in."""
    if isinstance(node, yaml.MappingNode) and node.value:
        items = [(str(key.value), value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode) and node.value:
        items = [(str(number), value) for number, value in enumerate(node.value)]
    else:
        yield prefix.removesuffix("."), node.end_mark.line
        return
    for name, value in items:
        yield from _ends(value, f"{prefix}{name}.")
