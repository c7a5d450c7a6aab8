"""Reads skeleton files of PKU-MMD.

A file has one row per frame: x, y, z in metres of the 25 joints of two bodies, one after the other. An absent body is
zeros.
"""

import codecs
import io

import numpy as np

from feeder.recordings.bodies import CHOICES as ALL_CHOICES
from feeder.recordings.ntu import NUM_JOINT, read_number
from feeder.recordings.recording import Recording, RecordingError

NUM_BODY = 2
NUM_VALUE = NUM_BODY * NUM_JOINT * 3
# `denoise` is left out, because there are no ids. The two others only order the two bodies.
CHOICES = {name: ALL_CHOICES[name] for name in ("energy", "first")}


def parse_poses(data: bytes) -> np.ndarray:
    """Poses (T, 2, 25, 3) float32 of the content of a skeleton file.

    Raises:
        RecordingError: there is no row, or a row is not 150 finite numbers.
    """
    data = data.removeprefix(codecs.BOM_UTF8).rstrip()
    if not data:
        raise RecordingError(None, "no frames")
    try:
        rows = np.loadtxt(io.BytesIO(data), np.float32, comments=None, ndmin=2)
        # NumPy skips empty lines, which would shift the frames after them.
        regular = rows.shape == (data.count(b"\n") + 1, NUM_VALUE) and np.isfinite(rows).all()
    except ValueError:
        regular = False
    if not regular:
        rows = _parse_by_line(data)
    return rows.reshape(-1, NUM_BODY, NUM_JOINT, 3)


def _parse_by_line(data: bytes) -> np.ndarray:
    """`parse_poses`, line by line: slow, but accepts any line ends, and errors name the line."""
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split()
        if len(words) != NUM_VALUE:
            raise RecordingError(number, f"{len(words)} values; a frame has {NUM_VALUE}")
        rows.append([read_number(word, number) for word in words])
    return np.array(rows, np.float32)


def as_recording(poses: np.ndarray) -> Recording:
    """The recording of poses (T, 2, V, 3), without bodies that are absent from all frames.

    Raises:
        RecordingError: no frame has a body.
    """
    return Recording.of_tracks(poses.swapaxes(0, 1)).part(0, len(poses))
