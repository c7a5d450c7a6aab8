"""Reads a user's table of clips: file, class, subject and part of each clip. It does not open the clips' files."""

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
FILLED = ("file", "subject")  # required columns without empty cells
SPLIT = "split_"
# Spreadsheets write semicolons in languages with a decimal comma.
SEPARATORS = (",", ";", "\t")
WORDS = ("train", "val", "test")
MAX_DIGIT = 18  # int64 holds all numbers of so many digits

Split = dict[str, list[int]]


@dataclass(frozen=True)
class Table:
    """Columns with one cell per clip.

    label: empty for a clip without a label.
    split: benchmark -> one of `WORDS` per clip, empty for clips that are not in the benchmark.
    unused: names of the columns that are not used.
    """

    file: list[str]
    label: list[str]
    subject: list[str]
    split: dict[str, list[str]]
    unused: list[str]


def read_table(path: Path) -> Table:
    """Read and check a table.

    Raises:
        ValueError: the table is not a CSV, a column or cell is missing or wrong, or a file is listed twice.
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
        # Windows programs write backslashes.
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
    """The header, and the other rows with their line numbers."""
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
            f"--table {path} is not a table with columns separated by commas, semicolons or tabs: {error}"
        ) from None
    if not rows:
        raise ValueError(f"--table {path} lists no clip")
    return header, rows


def _separator(first: str) -> str:
    """The separator of columns: the one of `SEPARATORS` that gives the most required columns in the first line."""

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
            f"--table {path} has no column {', '.join(missing)}; its columns are {header}. Name the columns in the "
            "first line, separated by commas, semicolons or tabs"
        )
    if len(set(header)) < len(header):
        raise ValueError(
            f"--table {path} has two columns with the same name; its columns are {header}; rename one"
        )
    benchmarks = {}
    for name in header:
        if name.lower().startswith("split"):
            match = re.fullmatch(SPLIT + r"(\w[\w.-]*)", name)
            if match is None:
                raise ValueError(
                    f"--table {path} has a column {name!r}; name columns of splits {SPLIT}BENCHMARK"
                )
            benchmarks[name] = match.group(1)
    return benchmarks


def number_labels(
    cells: Sequence[str], names: Sequence[str] | None, *, first_label: int = 0
) -> tuple[list[int], list[str]]:
    """Class index per clip, `NO_LABEL` for an empty cell; and the name of each class.

    Args:
        cells: whole numbers from `first_label` on, or names; empty for a clip without a label.
        names: of the classes, in order; None for the names in the cells, sorted.
        first_label: the number of the first class.

    Raises:
        ValueError: numbers do not begin with `first_label`, or a number or name is not among `names`.
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
                f"label {strange!r}: labels must be all whole numbers from 0, or all names; "
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
            f"labels are whole numbers from {low} to {high}, but classes count from {first_label}; {hint}number the "
            "classes 0, 1, 2, ..., or name all of them in --class_names"
        )
    known = list(names or map(str, range(first_label, high + 1)))
    last = first_label + len(known) - 1
    if high > last:
        hint = "; give --first_label 1 if 1 is the first class" if (low, high) == (1, last + 1) else ""
        raise ValueError(f"label {high}, but --class_names has names only for {first_label} to {last}{hint}")
    return [number - first_label for number in numbers], known


def number_subjects(cells: Sequence[str]) -> list[int]:
    """The number of each subject; names are numbered from 1 in sorted order."""
    index = {name: number for number, name in enumerate(sorted(set(cells)), 1)}
    return _whole_numbers(cells) or [index[cell] for cell in cells]


def _whole_numbers(cells: Sequence[str]) -> list[int] | None:
    """The numbers, if all cells are whole numbers of at most `MAX_DIGIT` digits; 3.0 is one, too. Else None."""
    found = [re.fullmatch(rf"([0-9]{{1,{MAX_DIGIT}}})([.]0+)?", cell) for cell in cells]
    return None if None in found else [int(match[1]) for match in found if match]


def given_splits(words: Mapping[str, Sequence[str]], rows: Sequence[int]) -> dict[str, Split]:
    """Benchmark -> part -> indices into `rows`, which are rows of the table.

    The test clips are held out, or the val clips if the column has no test clips. If it has both, the val clips are
    held out in a second benchmark, `<name>_val`.

    Raises:
        ValueError: a benchmark has no training clip or no held-out clip, or two benchmarks have one name.
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
                    f"benchmark {name!r} is a column, and also the name for the val clips of another; rename the column"
                )
            splits[name] = dict(zip(PARTS, (clips["train"], clips[word]), strict=True))
            for used in ("train", word):
                if not clips[used]:
                    raise ValueError(
                        f"benchmark {name!r} has no usable {used} clips; add some in column {SPLIT}{name}"
                    )
    return splits


def draw_split(subject: np.ndarray, *, fraction: float, seed: int) -> tuple[Split, list[int]]:
    """A random split by subject (N,), and the held-out subjects: the `fraction` of all subjects, at least one.

    Raises:
        ValueError: there is only one subject.
    """
    subjects = np.unique(subject)
    if len(subjects) < 2:
        raise ValueError(
            f"all clips are of one subject; add a column {SPLIT}BENCHMARK with the part of each clip"
        )
    count = min(max(round(fraction * len(subjects)), 1), len(subjects) - 1)
    held_out = np.sort(np.random.default_rng(seed).permutation(subjects)[:count])
    is_held_out = np.isin(subject, held_out)
    parts = (np.flatnonzero(~is_held_out).tolist(), np.flatnonzero(is_held_out).tolist())
    return dict(zip(PARTS, parts, strict=True)), held_out.tolist()
