"""Choices of a recording's bodies for a clip, usually one or two tracks.

A choice is a function from a `Recording` of T frames to tracks (M, T', V, C) float32, in metres, zero where a body is
absent. `energy`, `first`, `denoise` and `moving` give one or two tracks, `as_given` gives all. A choice is needed
because a sensor sometimes reports furniture as a body, or one actor as several bodies.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feeder.recordings.recording import Recording, RecordingError
from net.utils.channels import bodies_there, joints_there, num_coordinate

MAX_TRACK = 2
ENERGY_SLOTS = 4
LONGEST_NOISE = 11  # frames
MAX_WIDTH = 0.8  # of the height
NOISY_FRAMES = 0.69754  # of all frames of a body


def first(recording: Recording) -> np.ndarray:
    """The first two bodies of each frame, as in ST-GCN (Yan et al., AAAI 2018); T' = T."""
    return _present(recording.by_slot(MAX_TRACK))


def energy(recording: Recording) -> np.ndarray:
    """The two slots with the largest spread among the first four, as in AS-GCN (Li et al., CVPR 2019); T' = T.

    The spread of a slot is std(x) + std(y) + std(z), each over all joints of the frames in which the slot is not zero.
    """
    tracks = recording.by_slot(ENERGY_SLOTS)
    if len(tracks) > 1:
        spread = [np.sqrt(_variance(track[bodies_there(track)])).sum() for track in tracks]
        tracks = tracks[np.argsort(spread, kind="stable")[::-1][:MAX_TRACK]]
    return _present(tracks)


def denoise(recording: Recording) -> np.ndarray:
    """Tracks by body id, without noise, as in CTR-GCN (Chen et al., ICCV 2021); T' = number of frames with a body.

    If there are several ids, those seen in 11 frames or fewer are removed. If all are, all are kept (the published code
    fails). Then those wider than 0.8 of their height in 69.754 % of their frames or more are removed, while another is
    left. The others are sorted by falling motion: the variance of the joints, in all frames or in the frames that are
    not too wide, whichever is smaller. In this order each body joins the first track, or the second if it overlaps
    the first. A body that overlaps both is dropped.

    As in the published code, a body that is lost and found again continues without a gap, and the second track begins
    in frame 0. The published results depend on both.
    """
    seen = recording.num_body > 0
    num_frame = int(seen.sum())
    frame = (np.cumsum(seen) - 1)[recording.frame]
    bodies = []
    for identity in range(int(recording.body.max()) + 1):
        mine = np.flatnonzero(recording.body == identity)
        start = int(frame[mine[0]])
        # An id that is twice in a frame would have more poses than there are frames.
        bodies.append(_Body(start, recording.joints[mine[: num_frame - start]]))
    if len(bodies) > 1:
        bodies = [body for body in bodies if len(body.poses) > LONGEST_NOISE] or bodies
        bodies = _by_motion(_without_wide(bodies))
    return _present(_merge(bodies, num_frame))


def moving(recording: Recording) -> np.ndarray:
    """The bodies that move most, of people who were linked into tracks; T' = T.

    A body's motion is the sum, over its frames and joints, of the squared distance from the joint's mean position. In
    order of falling motion, each body goes into the first of two tracks that is free in all its frames; else it is
    left out. So a person who is lost and found again, as another body, is in one track.
    """
    frame, body, joints = recording.frame, recording.body, recording.joints
    tracks = np.zeros((MAX_TRACK, recording.num_frame, *joints.shape[1:]), np.float32)
    order = np.argsort(body, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(body[order])) + 1)
    count = num_coordinate(recording.channels)
    motion = [_motion(joints[mine], count) for mine in rows]
    free = np.ones((MAX_TRACK, recording.num_frame), bool)
    for number in np.argsort(motion, kind="stable")[::-1]:
        mine = rows[number]
        for place in np.flatnonzero(free[:, frame[mine]].all(1))[:1]:
            tracks[place, frame[mine]] = joints[mine]
            free[place, frame[mine]] = False
    return _present(tracks)


def _motion(poses: np.ndarray, num_coordinate: int) -> float:
    """Sum of squared distances of joints (n, V, C) from their mean positions; absent joints are left out."""
    there = joints_there(poses)[..., None]
    places = poses[..., :num_coordinate].astype(np.float64)
    mean = (places * there).sum(0) / np.maximum(there.sum(0), 1)
    return float((((places - mean) * there) ** 2).sum())


def as_given(recording: Recording) -> np.ndarray:
    """All bodies by their ids, in the order of first appearance; T' = T."""
    num_body = int(recording.body.max()) + 1
    tracks = np.zeros((num_body, recording.num_frame, *recording.joints.shape[1:]), np.float32)
    tracks[recording.body, recording.frame] = recording.joints
    return _present(tracks)


@dataclass(frozen=True, eq=False)
class _Body:
    """Poses (n, V, 3) of one id, in the frames from `start` on."""

    start: int
    poses: np.ndarray

    @property
    def last(self) -> int:
        return self.start + len(self.poses) - 1

    def too_wide(self) -> np.ndarray:
        """(n,) bool, frames in which the body is too wide for a person."""
        width, height, _ = np.ptp(self.poses, axis=1).T
        return width > MAX_WIDTH * height.astype(np.float64)


def _without_wide(bodies: list[_Body]) -> list[_Body]:
    kept = list(bodies)
    for body in bodies:
        if len(kept) > 1 and body.too_wide().mean() >= NOISY_FRAMES:
            kept.remove(body)
    return kept


def _by_motion(bodies: list[_Body]) -> list[_Body]:
    def motion(body: _Body) -> float:
        variances = (_variance(poses).sum() for poses in (body.poses, body.poses[~body.too_wide()]))
        return min(variances)

    return sorted(bodies, key=motion, reverse=True)


def _merge(bodies: list[_Body], num_frame: int) -> np.ndarray:
    """Tracks (2, T', V, 3): each body goes into the first track whose span it overlaps by at most one frame."""
    tracks = np.zeros((MAX_TRACK, num_frame, *bodies[0].poses.shape[1:]), np.float32)
    spans = [(bodies[0].start, bodies[0].start), (0, 0)]
    for body in bodies:
        for track, (start, last) in enumerate(spans):
            if min(last, body.last) - max(start, body.start) <= 0:
                tracks[track, body.start : body.last + 1] = body.poses
                spans[track] = min(start, body.start), max(last, body.last)
                break
    return tracks


def _present(tracks: np.ndarray) -> np.ndarray:
    """`tracks` (M, T, V, C) without the empty ones at the end."""
    present = np.flatnonzero(tracks.any((1, 2, 3)))
    if present.size == 0:
        raise RecordingError(None, "every joint of every body is at the origin")
    return tracks[: present[-1] + 1]


def _variance(poses: np.ndarray) -> np.ndarray:
    """Variance of x, y and z over all joints of poses (n, V, 3): (3,) float64; zero without poses."""
    return poses.reshape(-1, 3).var(0, dtype=np.float64) if len(poses) else np.zeros(3)


Choice = Callable[[Recording], np.ndarray]
CHOICES: dict[str, Choice] = {"energy": energy, "first": first, "denoise": denoise}
