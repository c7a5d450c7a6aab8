"""Reads skeleton files of PKU-MMD.

A file has a row per frame: x, y, z in metres of the 25 joints of one body, then of another, zeros for a body that
is absent.
"""

import codecs
import io

import numpy as np

from feeder.recordings.bodies import CHOICES as ALL_CHOICES
from feeder.recordings.ntu import NUM_JOINT, read_number
from feeder.recordings.recording import Recording, RecordingError

NUM_BODY = 2
NUM_VALUE = NUM_BODY * NUM_JOINT * 3
# There are no ids to follow a body by, and no more than two bodies to choose from: what is left is their order.
CHOICES = {name: ALL_CHOICES[name] for name in ("energy", "first")}


def parse_poses(data: bytes) -> np.ndarray:
    """Poses (T, 2, 25, 3) float32 of the content of a skeleton file.

    Raises:
        RecordingError: no rows, or one that is not of 150 finite numbers.
    """
    data = data.removeprefix(codecs.BOM_UTF8).rstrip()
    if not data:
        raise RecordingError(None, "no frames")
    try:
        rows = np.loadtxt(io.BytesIO(data), np.float32, comments=None, ndmin=2)
        # Empty lines are passed over, which would shift the frames behind them.
        regular = rows.shape == (data.count(b"\n") + 1, NUM_VALUE) and np.isfinite(rows).all()
    except ValueError:
        regular = False
    if not regular:
        rows = _parse_by_line(data)
    return rows.reshape(-1, NUM_BODY, NUM_JOINT, 3)


def _parse_by_line(data: bytes) -> np.ndarray:
    """`parse_poses`, line by line: slow, but knows which line is wrong and takes any line ends."""
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split()
        if len(words) != NUM_VALUE:
            raise RecordingError(number, f"{len(words)} values; a frame has {NUM_VALUE}")
        rows.append([read_number(word, number) for word in words])
    return np.array(rows, np.float32)


def as_recording(poses: np.ndarray) -> Recording:
    """The recording of poses (T, 2, V, 3), without the bodies that are absent from all of it.

    Raises:
        RecordingError: no body is there.
    """
    return Recording.of_tracks(poses.swapaxes(0, 1)).part(0, len(poses))
