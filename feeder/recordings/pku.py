"""Reads skeleton files of PKU-MMD.

A file has one row per frame: x, y, z in metres of the 25 joints of two bodies, one after the other. An absent body is
zeros.
"""

import numpy as np

from feeder.recordings.bodies import CHOICES as ALL_CHOICES
from feeder.recordings.ntu import NUM_JOINT
from feeder.recordings.recording import Recording
from feeder.recordings.rows import parse_rows

NUM_BODY = 2
NUM_VALUE = NUM_BODY * NUM_JOINT * 3
# `denoise` is left out, because there are no ids. The two others only order the two bodies.
CHOICES = {name: ALL_CHOICES[name] for name in ("energy", "first")}


def parse_poses(data: bytes) -> np.ndarray:
    """Poses (T, 2, 25, 3) float32 of the content of a skeleton file.

    Raises:
        RecordingError: there is no row, or a row is not 150 finite numbers.
    """
    return parse_rows(data, NUM_VALUE).reshape(-1, NUM_BODY, NUM_JOINT, 3)


def as_recording(poses: np.ndarray) -> Recording:
    """The recording of poses (T, 2, V, 3), without bodies that are absent from all frames.

    Raises:
        RecordingError: no frame has a body.
    """
    return Recording.of_tracks(poses.swapaxes(0, 1)).part(0, len(poses))
