"""Where a recording is cut: what follows is another recording, as in a film that was edited.

T frames, V joints, M bodies, C coordinates.
"""

from collections.abc import Iterator

import numpy as np

from feeder.recordings.recording import Recording

# Mean speed of the joints, in m/s, above which two poses are not one body; sprinters reach 12.
MAX_SPEED = 12.0
# Frames a second where the rate is not known.
USUAL_RATE = 30.0


def find_cuts(recording: Recording, frame_rate: float | None) -> list[int]:
    """The frames that begin a new part: no body in them can be one of those in the last frame before with a body."""
    frames = np.unique(recording.frame[recording.joints.any((1, 2))])
    if len(frames) < 2:
        return []
    bodies = list(_by_slot(recording, frames))
    nearest = np.min([[_distance(b[:-1], a[1:]) for b in bodies] for a in bodies], axis=(0, 1))
    cut = nearest > MAX_SPEED * np.diff(frames) / (frame_rate or USUAL_RATE)
    return frames[1:][cut].tolist()


def is_cut(before: np.ndarray, after: np.ndarray, num_frame: int, frame_rate: float | None) -> bool:
    """Whether no body of `after` (M, V, C) can be one of `before` (M', V, C), `num_frame` frames earlier."""
    nearest = _distance(before[None], after[:, None])
    return bool(nearest.min() > MAX_SPEED * num_frame / (frame_rate or USUAL_RATE))


def _by_slot(recording: Recording, frames: np.ndarray) -> Iterator[np.ndarray]:
    """Poses (n, V, C) of the first, second, ... body of each of some frames; 0 where there is none."""
    slot, frame = recording.slot, recording.frame
    for place in range(int(recording.num_body.max())):
        poses = np.zeros((recording.num_frame, *recording.joints.shape[1:]), np.float32)
        poses[frame[slot == place]] = recording.joints[slot == place]
        yield poses[frames]


def _distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean distance of the joints that are there in both poses (..., V, C): (...).

    Poses without such a joint cannot be told apart: 0. Where one of them is no pose, it is infinite.
    """
    seen = [(poses != 0).any(-1) for poses in (before, after)]
    both = seen[0] & seen[1]
    moved = np.linalg.norm(after - before, axis=-1)
    mean = (moved * both).sum(-1) / np.maximum(both.sum(-1), 1)
    return np.where(seen[0].any(-1) & seen[1].any(-1), mean, np.inf)
