"""Reads arrays of poses: `.npy`, `.npz`, `.mat`, nested lists in `.json`, and `.csv` with a row per frame.

An array is (T frames, V joints, C channels) or (M bodies, T, V, C); absent bodies are zero. Its axes may also be in
another order, which the shape shows or the user gives; see `feeder.recordings.axes`. Channels are x y z in space, or
x y and perhaps confidence in the picture.
"""

import csv
import itertools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any, TextIO

import numpy as np

from feeder.recordings.archives import read_mat, read_npz
from feeder.recordings.axes import arrange
from feeder.recordings.gaps import fill_gaps
from feeder.recordings.json_files import read_json
from feeder.recordings.mediapipe import LAYOUT as MEDIAPIPE
from feeder.recordings.mediapipe import is_mediapipe, read_landmarks
from feeder.recordings.picture import place_in_picture
from feeder.recordings.reading import METRES, Content, ReadOptions
from feeder.recordings.recording import Recording, RecordingError, refuse_other_units
from net.utils.channels import has_confidence, in_plane, joints_there

__all__ = ["METRES", "array_of", "as_tracks", "map_npy", "read_array", "read_tracks"]

OTHER_UNITS = "give --unit mm or --unit cm if that is their unit"
IN_PICTURE = "if they are x, y and confidence in a picture, give its size in pixels, as in --picture 640x480"
# Possible separators of columns in a .csv.
SEPARATORS = (",", ";", "\t")


def map_npy(path: Path) -> np.ndarray:
    """The array in a `.npy` file, memory-mapped, so that a header cannot request more memory than the file has.

    Raises:
        ValueError: the file holds no plain array, or its header is damaged.
        OSError: the file cannot be read.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header can fail anywhere in NumPy and Python's tokenizer
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"no plain NumPy array, or damaged ({reason})") from None


def _read_npy(path: Path, variable: str | None) -> np.ndarray:
    return map_npy(path)


def _read_json(path: Path, variable: str | None) -> np.ndarray:
    return array_of(read_json(path))


def array_of(content: Any) -> np.ndarray:
    """Nested lists of numbers as an array; null is NaN. Raises ValueError or TypeError for anything else."""
    return np.array(content, np.float64)


def _is_header(row: list[str]) -> bool:
    """Whether a row is a header: words, or 0, 1, 2, ..., as pandas writes."""
    return not any(map(_is_number, row)) or row == [str(number) for number in range(len(row))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_csv(path: Path, variable: str | None) -> np.ndarray:
    with path.open(encoding="utf-8-sig") as file:
        lines = (line for line in file if line.strip())
        first = next(lines, "")
        separator = max(SEPARATORS, key=first.count)
        if _is_header(next(csv.reader([first], delimiter=separator), [])):
            first = next(lines, "")
        if not first:
            raise RecordingError(None, "no row of numbers")
        try:
            rows = itertools.chain([first], lines)
            return np.loadtxt(rows, np.float64, comments=None, delimiter=separator, quotechar='"', ndmin=2)
        except ValueError:
            file.seek(0)
            return _parse_rows(file, separator)


def _parse_rows(file: TextIO, separator: str) -> np.ndarray:
    """Rows of numbers (rows, columns), parsed cell by cell: slow, but errors name the row."""
    rows = [row for row in csv.reader(file, delimiter=separator) if row]
    if rows and _is_header(rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise RecordingError(None, f"row {number} has {len(row)} columns, the first {len(rows[0])}")
        if wrong := next((cell for cell in row if not _is_number(cell)), None):
            raise RecordingError(None, f"row {number} holds {shorten(wrong, 30)!r}, which is no number")
    return np.array(rows, np.float64)


READERS: dict[str, Callable[[Path, str | None], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": read_npz,
    ".mat": read_mat,
    ".json": _read_json,
    ".csv": _read_csv,
}
# Exceptions that readers raise for damaged content.
DAMAGED = (
    ValueError,
    TypeError,
    OverflowError,
    KeyError,
    EOFError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_values(path: Path, variable: str | None = None) -> np.ndarray:
    """The array of numbers in a file; its axes keep their order.

    Raises:
        RecordingError: the file is missing or damaged; it holds no array of numbers; or it holds several, and
            `variable` is None.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(None, f"{path.suffix!r} is not one of {', '.join(READERS)}")
    try:
        values = reader(path, variable)
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(None, error.strerror or str(error)) from None
    except (*DAMAGED, RuntimeError, NotImplementedError) as error:  # the last two of archives
        raise RecordingError(None, f"not an array of numbers: {error}") from None
    return _numbers(values)


def _numbers(values: Any) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise RecordingError(None, "not an array of numbers")
    return values


def read_array(source: Any, options: ReadOptions) -> Content:
    """The content of an array, from the path of its file or from nested lists of numbers.

    In the picture, joints that are NaN or zero, or have confidence 0, were not seen. In space, joints that are NaN or
    zero were not seen if `max_gap` is given; without it, NaN is refused, and zeros are kept.

    Raises:
        RecordingError: see `read_values`, `arrange` and `as_tracks`.
    """
    try:
        values = read_values(source, options.variable) if isinstance(source, Path) else array_of(source)
    except DAMAGED as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(None, f"not an array of numbers: {error}") from None
    skeleton = options.skeleton
    if skeleton.name == MEDIAPIPE or (
        not options.layout_given and is_mediapipe(values) and skeleton.num_joint not in values.shape
    ):
        return read_landmarks(values, options)
    wanted = len(options.channels)
    counts = tuple(dict.fromkeys((wanted, 3, 2)))
    tracks, assumed_order = arrange(
        values, num_joint=skeleton.num_joint, num_channels=counts, axes=options.axes
    )
    assumptions = () if assumed_order is None else (assumed_order,)
    channels = options.channels
    if tracks.shape[3] != wanted:
        channels = "xy" if tracks.shape[3] == 2 else "xyc"
    elif options.picture is not None and channels == "xyz":
        channels = "xyc"
    if not in_plane(channels):
        return _in_space(tracks, options)._replace(assumptions=assumptions)
    return _in_picture(tracks, channels, options)._replace(assumptions=assumptions)


def _in_space(tracks: np.ndarray, options: ReadOptions) -> Content:
    num_joint = options.skeleton.num_joint
    if options.max_gap is None:
        return Content(Recording.of_tracks(as_tracks(tracks, num_joint=num_joint, scale=options.scale)))
    tracks = np.array(tracks, np.float64)
    seen = ~np.isnan(tracks).any(-1) & joints_there(tracks)
    tracks = as_tracks(np.where(seen[..., None], tracks, 0), num_joint=num_joint, scale=options.scale)
    recording, gaps = fill_gaps(Recording.of_tracks(tracks), _by_frame(seen[: len(tracks)]), options.max_gap)
    return Content(recording, gaps=gaps)


def _in_picture(tracks: np.ndarray, channels: str, options: ReadOptions) -> Content:
    with np.errstate(over="ignore"):
        tracks = np.array(tracks, np.float32)
    seen = ~np.isnan(tracks).any(-1) & joints_there(tracks[..., :2])
    if has_confidence(channels):
        seen &= tracks[..., 2] != 0
        confidence = tracks[seen][:, 2]
        if ((confidence < 0) | (confidence > 1)).any():
            raise RecordingError(None, "the third number of a joint is not a confidence from 0 to 1")
    tracks = np.where(seen[..., None], tracks, np.float32(0))
    if np.isinf(tracks).any():
        raise RecordingError(None, "a coordinate is infinite or too large")
    if not seen.any():
        raise RecordingError(None, "no frame has a body")
    tracks, unit = place_in_picture(tracks, options.picture)
    recording, gaps = fill_gaps(Recording.of_tracks(tracks, channels), _by_frame(seen), options.gap)
    return Content(recording, unit=unit, gaps=gaps)


def _by_frame(seen: np.ndarray) -> np.ndarray:
    """`seen` (M, T, V) in the order of poses in `Recording.of_tracks`: (T * M, V)."""
    return np.ascontiguousarray(seen.swapaxes(0, 1)).reshape(-1, seen.shape[2])


def read_tracks(path: Path, *, num_joint: int, scale: float) -> np.ndarray:
    """Tracks (M, T, V, 3) float32 of a file, times `scale`, without empty bodies at the end.

    Raises:
        RecordingError: the file is missing or of another kind; its array has another shape or unit, or holds NaN,
            infinity or only zeros.
    """
    tracks, _ = arrange(read_values(path), num_joint=num_joint, num_channels=(3,))
    return as_tracks(tracks, num_joint=num_joint, scale=scale)


def as_tracks(values: np.ndarray, *, num_joint: int, channels: str = "xyz", scale: float = 1.0) -> np.ndarray:
    """Poses (T, V, C) or (M, T, V, C) as tracks (M, T, V, C) float32, times `scale`, without empty bodies at the end.

    Raises:
        RecordingError: another shape or unit, no numbers, NaN, infinity, or only zeros.
    """
    values = _numbers(values)
    if values.ndim not in (3, 4) or values.shape[-2:] != (num_joint, len(channels)) or 0 in values.shape:
        raise RecordingError(
            None,
            f"shape {values.shape}; needed is (frames, {num_joint}, {len(channels)}), or that for each body",
        )
    with np.errstate(over="ignore"):
        tracks = (values.reshape(-1, *values.shape[-3:]) * scale).astype(np.float32)
    if not np.isfinite(tracks).all():
        raise RecordingError(
            None,
            "a coordinate is NaN, infinite or too large; write 0 0 0 for an absent joint, or give --max_gap N to fill "
            "gaps of NaN and zeros",
        )
    present = np.flatnonzero(tracks.any((1, 2, 3)))
    if len(present) == 0:
        raise RecordingError(None, "every joint is at the origin")
    if not in_plane(channels):
        refuse_other_units(tracks, OTHER_UNITS, in_picture=IN_PICTURE)
    return tracks[: present[-1] + 1]
