"""One recording: the poses of all bodies that a sensor saw, frame by frame.

T frames, V joints, M bodies, C channels, B poses of all bodies in all frames.
"""

from dataclasses import dataclass

import numpy as np

from net.utils.channels import bodies_there, joints_there

# Smallest and largest span of a body (or of a hand alone) in metres; poses beyond are in another unit.
MIN_SPAN, MAX_SPAN = 0.02, 20.0


class RecordingError(ValueError):
    """A recording that cannot be used.

    Attributes:
        line: number of the wrong line in the file, from 1; None if the error is not in a single line.
        reason: what is wrong.
    """

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Recording:
    """Poses in the order of frames; within a frame, in the sensor's order.

    num_body: (T,) int64, number of poses in each frame.
    body: (B,) int64, body of each pose; bodies are numbered by first appearance.
    joints: (B, V, C) float32; an absent joint is all zeros.
    channels: a letter for each of C: "xyz" in metres; "xy" or "xyc" in the picture. "c" is confidence, 0 for a joint
        that was not seen.
    """

    num_body: np.ndarray
    body: np.ndarray
    joints: np.ndarray
    channels: str = "xyz"

    @classmethod
    def of_tracks(cls, tracks: np.ndarray, channels: str = "xyz") -> "Recording":
        """The recording of tracks (M, T, V, C). Each frame holds all M bodies; absent ones are zeros."""
        num_body, num_frame = tracks.shape[:2]
        joints = np.ascontiguousarray(tracks.swapaxes(0, 1)).reshape(-1, *tracks.shape[2:])
        return cls(np.full(num_frame, num_body), np.tile(np.arange(num_body), num_frame), joints, channels)

    @property
    def num_frame(self) -> int:
        """T."""
        return len(self.num_body)

    @property
    def frame(self) -> np.ndarray:
        """(B,) int64, frame of each pose."""
        return np.repeat(np.arange(self.num_frame), self.num_body)

    @property
    def slot(self) -> np.ndarray:
        """(B,) int64, index of each pose within its frame."""
        before = np.cumsum(self.num_body) - self.num_body
        return np.arange(len(self.body)) - np.repeat(before, self.num_body)

    def by_slot(self, num_slot: int | None = None) -> np.ndarray:
        """Tracks (S, T, V, C) of the first S poses of each frame, zero where a frame has fewer.

        S is the largest number of poses in a frame, at most `num_slot`.
        """
        slot, num_track = self.slot, int(self.num_body.max())
        num_track = num_track if num_slot is None else min(num_track, num_slot)
        used = slot < num_track
        tracks = np.zeros((num_track, self.num_frame, *self.joints.shape[1:]), np.float32)
        tracks[slot[used], self.frame[used]] = self.joints[used]
        return tracks

    def part(self, first: int, last: int) -> "Recording":
        """The recording of frames `first` to `last` - 1; bodies that are absent from all of them are left out.

        Raises:
            RecordingError: no body is in these frames.
        """
        begin, end = (int(self.num_body[:frame].sum()) for frame in (first, last))
        body, joints = self.body[begin:end], self.joints[begin:end]
        seen = np.unique(body[bodies_there(joints)])
        kept = np.isin(body, seen)
        if not kept.any():
            raise RecordingError(None, f"no body in frames {first} to {last - 1}")
        frame = np.repeat(np.arange(last - first), self.num_body[first:last])[kept]
        # Number the bodies by first appearance again.
        _, index, inverse = np.unique(body[kept], return_index=True, return_inverse=True)
        number = np.empty(len(index), np.int64)
        number[np.argsort(index)] = np.arange(len(index))
        num_body = np.bincount(frame, minlength=last - first)
        return Recording(num_body, number[inverse], joints[kept], self.channels)


def larger_side(places: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Larger side of the bounding box of each pose (..., V, D): (...); 0 without joints. `there` is (..., V) bool."""
    low, high = box(places, there)
    return np.maximum(high - low, 0).max(-1)


def box(places: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest coordinates (..., D) of each pose (..., V, D); inf and -inf without joints.

    there: (..., V) bool, joints that are present.
    """
    # With joints as the first axis, NumPy compares whole poses, which is three times as fast.
    joints, there = np.ascontiguousarray(np.moveaxis(places, -2, 0)), np.moveaxis(there, -1, 0)[..., None]
    low = joints.min(0, initial=np.inf, where=there)
    high = joints.max(0, initial=-np.inf, where=there)
    return low, high


def refuse_other_units(poses: np.ndarray, remedy: str, *, in_picture: str | None = None) -> None:
    """Raise RecordingError if poses (..., V, C) cannot be 3-D in metres.

    Poses are accepted if the median span of a body is `MIN_SPAN` to `MAX_SPAN`; single frames may be wrong. Joints at
    0 0 0 are absent.

    Args:
        poses: x y z of each joint.
        remedy: end of the message: what to do if the unit is another one.
        in_picture: replaces `remedy` if the third number of all joints looks like a confidence.
    """
    bodies = poses.reshape(-1, *poses.shape[-2:])
    present = joints_there(bodies)
    span = larger_side(bodies, present)[present.any(1)]
    median = np.median(span) if len(span) else 1.0
    if median == 0 or MIN_SPAN <= median <= MAX_SPAN:
        return
    if median < MIN_SPAN:
        raise RecordingError(
            None, f"a body spans {1000 * median:.2g} mm, too little for a person; give the right unit"
        )
    third = bodies[present][:, 2:3]
    confidence = third.size > 0 and ((third >= 0) & (third <= 1)).all()
    beside = ", and the third number of each joint is from 0 to 1, like a confidence" if confidence else ""
    if confidence and in_picture is not None:
        remedy = in_picture
    raise RecordingError(
        None,
        f"a body spans {median:.0f}, which would be metres{beside}; coordinates look like pixels or another "
        f"unit: needed are x y z in space, in metres; {remedy}",
    )
