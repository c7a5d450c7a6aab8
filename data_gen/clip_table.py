"""A table of clips, written by a person: which file is of which class, subject and part.

Nothing here opens a clip's file.
"""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feeder.prepared import MAX_CLASS, NO_LABEL, PARTS
from torchlight.build import nearest

REQUIRED = ("file", "label", "subject")
FILLED = ("file", "subject")  # of these, what may not be empty
SPLIT = "split_"
# Spreadsheets write semicolons where a comma is the decimal point.
SEPARATORS = (",", ";", "\t")
WORDS = ("train", "val", "test")
MAX_DIGIT = 18  # what int64 holds for sure

Split = dict[str, list[int]]


@dataclass(frozen=True)
class Table:
    """Columns of one cell per clip.

    label: empty for a clip without one.
    split: benchmark -> one of `WORDS` per clip, empty where the benchmark leaves it out.
    unused: names of the columns that mean nothing here.
    """

    file: list[str]
    label: list[str]
    subject: list[str]
    split: dict[str, list[str]]
    unused: list[str]


def read_table(path: Path) -> Table:
    """Read and check a table.

    Raises:
        ValueError: it is not a CSV, a column, cell or word is missing or wrong, or a file is listed twice.
    """
    header, rows = _read_cells(path)
    benchmarks = _check_header(path, header)
    seen: dict[str, int] = {}
    columns: dict[str, list[str]] = {name: [] for name in header}
    for line, row in rows:
        where = f"--table {path}, line {line}"
        if len(row) != len(header):
            raise ValueError(
                f"{where}: {len(row)} cells, but {len(header)} columns; put a cell that holds the separator in "
                "double quotes"
            )
        cells = dict(zip(header, row, strict=True))
        for name in FILLED:
            if not cells[name]:
                raise ValueError(f"{where}: {name} is empty; fill it in, or remove the line")
        for name in benchmarks:
            if cells[name] not in ("", *WORDS):
                raise ValueError(f"{where}: {name} is {cells[name]!r}; write {', '.join(WORDS)}, or nothing")
        # As a program on Windows writes it, too.
        file = Path(os.path.normpath(cells["file"].replace("\\", "/"))).as_posix()
        if file in seen:
            raise ValueError(f"{where}: file {file} is also in line {seen[file]}; remove one of the two")
        seen[file] = line
        for name, cell in cells.items():
            columns[name].append(cell)
    return Table(
        file=list(seen),
        label=columns["label"],
        subject=columns["subject"],
        split={benchmark: columns[name] for name, benchmark in benchmarks.items()},
        unused=[name for name in header if name not in REQUIRED and name not in benchmarks],
    )


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the other rows with their lines."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            lines = csv.reader(file, strict=True, delimiter=_separator(first))
            header = _column_names(next(lines, []))
            rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(row)]
    except UnicodeDecodeError as error:
        raise ValueError(f"--table {path} is not in UTF-8 ({error}); save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(
            f"--table {path} is no table with columns set apart by commas, semicolons or tabs: {error}"
        ) from None
    if not rows:
        raise ValueError(f"--table {path} lists no clip")
    return header, rows


def _separator(first: str) -> str:
    """What sets the columns apart: of `SEPARATORS`, the first by which a table's first line names most of them."""

    def num_known(separator: str) -> int:
        return len({*_column_names(next(csv.reader([first], delimiter=separator), []))} & {*REQUIRED})

    return max(SEPARATORS, key=num_known)


def _column_names(cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    return [name.lower() if name.lower() in REQUIRED else name for name in names]


def _check_header(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Split columns and their benchmarks."""
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise ValueError(
            f"--table {path} has no column {', '.join(missing)}; its columns are {header}. Name them in the first "
            "line, set apart by commas, semicolons or tabs"
        )
    if len(set(header)) < len(header):
        raise ValueError(f"--table {path} has two columns of one name; its columns are {header}; rename one")
    benchmarks = {}
    for name in header:
        if name.lower().startswith("split"):
            match = re.fullmatch(SPLIT + r"(\w[\w.-]*)", name)
            if match is None:
                raise ValueError(
                    f"--table {path} has a column {name!r}; columns of splits are named {SPLIT}BENCHMARK"
                )
            benchmarks[name] = match.group(1)
    return benchmarks


def number_labels(
    cells: Sequence[str], names: Sequence[str] | None, *, first_label: int = 0
) -> tuple[list[int], list[str]]:
    """Class index per clip, `NO_LABEL` where the cell is empty, and the name of each class.

    Args:
        cells: whole numbers from `first_label` on, or names; empty for a clip without a label.
        names: of the classes, in order; without them, the cells' own in sorted order.
        first_label: the number of the first class.

    Raises:
        ValueError: numbers that do not begin with `first_label`, or a number or name that is not among the names.
    """
    filled = [cell for cell in cells if cell]
    if len(filled) < len(cells):
        label, known = (
            number_labels(filled, names, first_label=first_label) if filled else ([], list(names or []))
        )
        given = iter(label)
        return [next(given) if cell else NO_LABEL for cell in cells], known
    numbers = _whole_numbers(cells)
    if numbers is None:
        strange = next((cell for cell in cells if re.fullmatch(r"[+-]?\d+", cell)), None)
        if names is None and strange is not None:
            raise ValueError(
                f"label {strange!r}: labels are all whole numbers from 0 on, or all names; "
                "if the number is a name, list the names in --class_names"
            )
        if first_label:
            raise ValueError(f"--first_label {first_label} is for labels that are numbers; leave it out")
        known = list(names or sorted(set(cells)))
        for cell in cells:
            if cell not in known:
                raise ValueError(f"label {cell!r} is not in --class_names; {nearest(cell, known)}")
        index = {name: label for label, name in enumerate(known)}
        return [index[cell] for cell in cells], known
    low, high = min(numbers), max(numbers)
    if low < first_label:
        raise ValueError(
            f"label {low}, but --first_label is {first_label}; set it to the number of the first class"
        )
    if names is None and (low > first_label or high >= MAX_CLASS):
        hint = f"if {low} is the first class, give --first_label {low}; else " if low > first_label else ""
        raise ValueError(
            f"labels are whole numbers from {low} to {high}, and classes count from {first_label}; {hint}number the "
            "classes 0, 1, 2, ..., or name all of them in --class_names"
        )
    known = list(names or map(str, range(first_label, high + 1)))
    last = first_label + len(known) - 1
    if high > last:
        hint = "; give --first_label 1 if 1 is the first class" if (low, high) == (1, last + 1) else ""
        raise ValueError(f"label {high}, but --class_names names {first_label} to {last} only{hint}")
    return [number - first_label for number in numbers], known


def number_subjects(cells: Sequence[str]) -> list[int]:
    """The subjects' numbers; names are numbered from 1 on in sorted order."""
    index = {name: number for number, name in enumerate(sorted(set(cells)), 1)}
    return _whole_numbers(cells) or [index[cell] for cell in cells]


def _whole_numbers(cells: Sequence[str]) -> list[int] | None:
    """The numbers, if all cells are whole numbers of a size to count with; 3.0 is one, as some programs write 3."""
    found = [re.fullmatch(rf"([0-9]{{1,{MAX_DIGIT}}})([.]0+)?", cell) for cell in cells]
    return None if None in found else [int(match[1]) for match in found if match]


def given_splits(words: Mapping[str, Sequence[str]], rows: Sequence[int]) -> dict[str, Split]:
    """Benchmark -> part -> indices into `rows`, which are rows of the table.

    Held out are the test clips; where the column has none, the val clips. Where it has both, the val clips are
    held out in a benchmark of their own.

    Raises:
        ValueError: a benchmark has no clips to train on, or none held out; or two have one name.
    """
    splits: dict[str, Split] = {}
    for benchmark, column in words.items():
        clips = {word: [index for index, row in enumerate(rows) if column[row] == word] for word in WORDS}
        held_out = {benchmark: "test" if "test" in column else "val"}
        if {"val", "test"} <= set(column):
            held_out[f"{benchmark}_val"] = "val"
        for name, word in held_out.items():
            if name in splits:
                raise ValueError(
                    f"benchmark {name!r} is a column, and also made of the val clips of another; rename it"
                )
            splits[name] = dict(zip(PARTS, (clips["train"], clips[word]), strict=True))
            for used in ("train", word):
                if not clips[used]:
                    raise ValueError(
                        f"benchmark {name!r} has no {used} clips that can be used; give it some in column {SPLIT}{name}"
                    )
    return splits


def draw_split(subject: np.ndarray, *, fraction: float, seed: int) -> tuple[Split, list[int]]:
    """A split by subject (N,), and the subjects held out: a `fraction` of all, but one at least.

    Raises:
        ValueError: there is one subject only.
    """
    subjects = np.unique(subject)
    if len(subjects) < 2:
        raise ValueError(f"all clips are of one subject; say in a column {SPLIT}BENCHMARK which are held out")
    count = min(max(round(fraction * len(subjects)), 1), len(subjects) - 1)
    held_out = np.sort(np.random.default_rng(seed).permutation(subjects)[:count])
    is_held_out = np.isin(subject, held_out)
    parts = (np.flatnonzero(~is_held_out).tolist(), np.flatnonzero(is_held_out).tolist())
    return dict(zip(PARTS, parts, strict=True)), held_out.tolist()
