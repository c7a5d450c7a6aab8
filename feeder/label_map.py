"""The map from the classes of a data set to the classes of a run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.build import nearest
from torchlight.files import read_text, read_yaml


def read_label_map(
    path: str | Path, source_names: Sequence[str], *, num_class: int
) -> tuple[np.ndarray, list[str]]:
    """Read the map from the classes of a data set (sources) to the classes of a run (targets).

    A YAML file holds a mapping `{source: target}`. A CSV file has a header with the columns `source` and `target`;
    other columns are ignored. A source is a name or a number from 0. Targets are either all names or all numbers.
    Names are numbered in order of first appearance. Numbers are from 0 to `num_class` - 1; such a class gets the
    names of its sources. A source without target (empty, null or not mentioned) is left out.

    Returns:
        Target of each source class, -1 for none: (len(source_names),) int64; and the `num_class` class names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a source does not exist or is named twice, a target is out of range, or the number of target names
            is not `num_class`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"label map {path} not found; data.label_map is a YAML or CSV file")
    pairs: dict[int, str | int] = {}
    for source, target in _class_pairs(path):
        number = _source_number(source, source_names, path)
        if number in pairs:
            raise ValueError(f"label map {path} names source class {source!r} twice; keep one line")
        if target not in (None, ""):
            pairs[number] = target
    by_number = {isinstance(target, int) for target in pairs.values()}
    if len(by_number) != 1:
        raise ValueError(f"label map {path} needs targets that are all names or all numbers from 0")
    if by_number == {True}:
        sources_of: dict[int, list[str]] = {number: [] for number in range(num_class)}
        for source, target in pairs.items():
            if target not in sources_of:
                raise ValueError(
                    f"label map {path} has target {target}; num_class {num_class} has 0 to {num_class - 1}: change "
                    "the target, or data.num_class"
                )
            sources_of[target].append(source_names[source])
        names = ["/".join(sources) or str(number) for number, sources in sources_of.items()]
        targets = pairs
    else:
        names = list(dict.fromkeys(map(str, pairs.values())))
        if len(names) != num_class:
            raise ValueError(
                f"label map {path} names {len(names)} target classes, the run has {num_class}; change the map, or "
                "data.num_class"
            )
        targets = {source: names.index(str(target)) for source, target in pairs.items()}
    table = np.full(len(source_names), -1, np.int64)
    table[list(targets)] = list(targets.values())
    return table, names


def _class_pairs(path: Path) -> list[tuple[Any, Any]]:
    """The pairs (source, target) in a file; digits become numbers."""
    if path.suffix == ".csv":
        rows = list(csv.DictReader(read_text(path, f"label map {path}").splitlines()))
        if not rows or not {"source", "target"} <= rows[0].keys():
            raise ValueError(
                f"label map {path} has no rows, or no columns 'source' and 'target'; write a line 'source,target', "
                "then one line per class"
            )
        cells = [(row["source"], row["target"]) for row in rows]
        return [tuple(int(cell) if cell and cell.isdecimal() else cell for cell in pair) for pair in cells]  # type: ignore[misc]
    content = read_yaml(path, f"label map {path}")
    if not isinstance(content, Mapping):
        raise ValueError(f"label map {path} holds {type(content).__name__}; write {{source: target}}")
    return list(content.items())


def _source_number(source: Any, names: Sequence[str], path: Path) -> int:
    if isinstance(source, int) and 0 <= source < len(names):
        return source
    if source in names:
        return list(names).index(source)
    raise ValueError(
        f"label map {path}: the data set has no class {source!r}; {nearest(str(source), names)} "
        f"(or a number from 0 to {len(names) - 1})"
    )
