"""Parses text files with one row of numbers per frame."""

import codecs
import io

import numpy as np

from feeder.recordings.ntu import read_number
from feeder.recordings.recording import RecordingError


def parse_rows(data: bytes, num_value: int, *, delimiter: str | None = None) -> np.ndarray:
    """Rows (T, num_value) float32 of the content of a file.

    Args:
        data: the content; a byte order mark and blanks at its end are left out.
        num_value: numbers in a row.
        delimiter: between numbers; None for blanks.

    Raises:
        RecordingError: there is no row, or a row is not `num_value` finite numbers.
    """
    data = data.removeprefix(codecs.BOM_UTF8).rstrip()
    if not data:
        raise RecordingError(None, "no frames")
    try:
        rows = np.loadtxt(io.BytesIO(data), np.float32, comments=None, delimiter=delimiter, ndmin=2)
        # NumPy skips empty lines, which would shift the frames after them.
        regular = rows.shape == (data.count(b"\n") + 1, num_value) and np.isfinite(rows).all()
    except ValueError:
        regular = False
    if regular:
        return rows
    return _parse_by_line(data, num_value, None if delimiter is None else delimiter.encode())


def _parse_by_line(data: bytes, num_value: int, delimiter: bytes | None) -> np.ndarray:
    """`parse_rows`, line by line: slow, but accepts any line ends, and errors name the line."""
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split(delimiter) if line.strip() else []
        if len(words) != num_value:
            raise RecordingError(number, f"{len(words)} values; a frame has {num_value}")
        rows.append([read_number(word, number) for word in words])
    return np.array(rows, np.float32)
