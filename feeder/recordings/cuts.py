"""Finds cuts in a recording, as in an edited film: frames after which other bodies are seen.

T frames, V joints, M bodies, C channels.
"""

import numpy as np

from feeder.recordings.recording import Recording, larger_side
from net.utils.channels import bodies_there, in_plane, joints_there, num_coordinate

# Largest mean speed of the joints of one body, in m/s; sprinters reach 12.
MAX_SPEED = 12.0
# Height of a body in metres. It gives the scale of poses in the picture, which are not in metres.
HEIGHT = 1.7
# Frames per second if the rate is not known.
DEFAULT_RATE = 30.0


def find_cuts(recording: Recording, frame_rate: float | None) -> list[int]:
    """The frames in which no body can be one of the bodies in the last frame before that has a body."""
    frames = np.unique(recording.frame[bodies_there(recording.joints)])
    if len(frames) < 2:
        return []
    bodies = recording.by_slot()[:, frames]
    channels = recording.channels
    nearest = np.min([[_distance(b[:-1], a[1:], channels) for b in bodies] for a in bodies], axis=(0, 1))
    cut = nearest > MAX_SPEED * np.diff(frames) / (frame_rate or DEFAULT_RATE)
    return frames[1:][cut].tolist()


def is_cut(
    before: np.ndarray, after: np.ndarray, num_frame: int, frame_rate: float | None, channels: str = "xyz"
) -> bool:
    """Whether no body of `after` (M, V, C) can be one of `before` (M', V, C), `num_frame` frames earlier."""
    nearest = _distance(before[None], after[:, None], channels)
    return bool(nearest.min() > MAX_SPEED * num_frame / (frame_rate or DEFAULT_RATE))


def _distance(before: np.ndarray, after: np.ndarray, channels: str) -> np.ndarray:
    """Mean distance of the joints that are present in both poses (..., V, C), in metres: (...).

    In the picture, the larger side of the larger pose stands for a height of 1.7 m. The distance is 0 if no joint is
    present in both poses, and infinite if one of the poses has no joint.
    """
    there = [joints_there(poses) for poses in (before, after)]
    places = [poses[..., : num_coordinate(channels)] for poses in (before, after)]
    both = there[0] & there[1]
    moved = np.linalg.norm(places[1] - places[0], axis=-1)
    mean = (moved * both).sum(-1) / np.maximum(both.sum(-1), 1)
    distance = np.where(there[0].any(-1) & there[1].any(-1), mean, np.inf)
    if not in_plane(channels):
        return distance
    side = np.maximum(*(larger_side(*each) for each in zip(places, there, strict=True)))
    return distance * HEIGHT / np.maximum(side, np.finfo(np.float32).tiny)
