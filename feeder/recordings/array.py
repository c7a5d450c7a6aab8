"""Reads arrays of poses: `.npy`, nested lists in `.json`, and `.csv` with a row per frame.

An array is (T frames, V joints, x y z) or (M bodies, T, V, x y z), zero where a body is absent.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from feeder.recordings.recording import RecordingError, refuse_other_units
from feeder.recordings.ucla import parse_json

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
NUM_CHANNEL = 3
# What may set the columns of a .csv apart.
SEPARATORS = (",", ";", "\t")


def map_npy(path: Path) -> np.ndarray:
    """The array in a `.npy` file, memory-mapped, so that a header cannot ask for more memory than the file has.

    Raises:
        ValueError: it holds no plain array, or its header is damaged.
        OSError: it cannot be read.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header can fail anywhere in NumPy and Python's tokenizer
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"no plain NumPy array, or damaged ({said})") from None


def _read_npy(path: Path, num_joint: int) -> np.ndarray:
    return map_npy(path)


def _read_json(path: Path, num_joint: int) -> np.ndarray:
    return array_of(parse_json(path.read_bytes()))


def array_of(content: Any) -> np.ndarray:
    """Nested lists of numbers as an array. Raises ValueError or TypeError for anything else."""
    return np.array(content, np.float64)


def _is_header(row: list[str]) -> bool:
    """Whether a row names the columns: by words, or by 0, 1, 2, ..., as pandas does."""
    return not any(map(_is_number, row)) or row == [str(number) for number in range(len(row))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_csv(path: Path, num_joint: int) -> np.ndarray:
    text = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
    first = text.readline()
    text.seek(0)
    separator = max(SEPARATORS, key=first.count)
    rows = [row for row in csv.reader(text, delimiter=separator) if row]
    if rows and _is_header(rows[0]):
        rows = rows[1:]
    width = num_joint * NUM_CHANNEL
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise RecordingError(None, f"row {number} has {len(row)} columns, the first {len(rows[0])}")
        if wrong := next((cell for cell in row if not _is_number(cell)), None):
            raise RecordingError(None, f"row {number} holds {shorten(wrong, 30)!r}, which is no number")
    values = np.array(rows, np.float64)
    if values.ndim != 2 or values.shape[1] % width:
        raise RecordingError(None, f"rows of {values.shape[-1]} numbers; needed are {width} for each body")
    return values.reshape(len(values), -1, num_joint, NUM_CHANNEL).swapaxes(0, 1)


READERS: dict[str, Callable[[Path, int], np.ndarray]] = {
    ".npy": _read_npy,
    ".json": _read_json,
    ".csv": _read_csv,
}


def read_tracks(path: Path, *, num_joint: int, scale: float) -> np.ndarray:
    """Tracks (M, T, V, 3) float32 of a file, times `scale`, without empty bodies at the end.

    Raises:
        RecordingError: it is missing, not of its kind, of another shape, in another unit, or holds NaN, infinity or
            zeros only.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(None, f"{path.suffix!r} is not one of {', '.join(READERS)}")
    try:
        values = reader(path, num_joint)
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(None, error.strerror or str(error)) from None
    except (ValueError, TypeError, OverflowError, csv.Error) as error:
        raise RecordingError(None, f"not an array of numbers: {error}") from None
    return as_tracks(values, num_joint=num_joint, scale=scale)


def as_tracks(
    values: np.ndarray, *, num_joint: int, num_channel: int = NUM_CHANNEL, scale: float = 1.0
) -> np.ndarray:
    """Poses (T, V, C) or (M, T, V, C) as tracks (M, T, V, C) float32, times `scale`, without empty bodies at the end.

    Raises:
        RecordingError: another shape or unit, no numbers, NaN, infinity, or zeros only.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise RecordingError(None, "not an array of numbers")
    if values.ndim not in (3, 4) or values.shape[-2:] != (num_joint, num_channel) or 0 in values.shape:
        raise RecordingError(
            None,
            f"shape {values.shape}; needed is (frames, {num_joint}, {num_channel}), or that for each body",
        )
    with np.errstate(over="ignore"):
        tracks = (values.reshape(-1, *values.shape[-3:]) * scale).astype(np.float32)
    if not np.isfinite(tracks).all():
        raise RecordingError(
            None, "a coordinate is NaN, infinite or too large; write a missing joint as 0 0 0"
        )
    present = np.flatnonzero(tracks.any((1, 2, 3)))
    if len(present) == 0:
        raise RecordingError(None, "every joint is at the origin")
    refuse_other_units(tracks, "give --unit mm or --unit cm where they are in those")
    return tracks[: present[-1] + 1]
