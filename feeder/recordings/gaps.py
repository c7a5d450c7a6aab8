"""Fills short gaps of joints that were not seen by interpolation.

T frames, V joints, B poses of all bodies in all frames, C channels.
"""

from typing import NamedTuple

import numpy as np

from feeder.recordings.recording import Recording
from net.utils.channels import bodies_there, has_confidence, joints_there

# Longest gap in frames: a third of a second at 30 frames per second.
MAX_GAP = 10


class Gaps(NamedTuple):
    """Numbers of joints that were not seen, over all poses: interpolated, or absent from a body that is present."""

    num_filled: int = 0
    num_absent: int = 0


def fill_gaps(recording: Recording, seen: np.ndarray, max_gap: int) -> tuple[Recording, Gaps]:
    """The recording with joints interpolated over gaps of up to `max_gap` frames; and the numbers of joints.

    Frames in which the body was not detected are part of a gap, too. Interpolated joints have confidence 0. Joints in
    longer gaps, before they were first seen or after they were last seen are absent: all zeros.

    Args:
        recording: T frames with B poses; each body is at most once in a frame.
        seen: (B, V) bool.
        max_gap: frames; 0 to interpolate nothing.
    """
    frame, body, joints, seen = _by_body(recording, seen, max_gap)
    count = len(frame)
    row = np.arange(count, dtype=np.int32)[:, None]
    # Rows in which each joint was last seen, and is next seen.
    before = np.maximum.accumulate(np.where(seen, row, -1), 0)
    after = np.minimum.accumulate(np.where(seen, row, count)[::-1], 0)[::-1]
    inside = ~seen & (before >= 0) & (after < count)
    at, joint = np.nonzero(inside)
    first, last = before[at, joint], after[at, joint]
    short = (body[first] == body[last]) & (frame[last] - frame[first] - 1 <= max_gap)
    at, joint, first, last = at[short], joint[short], first[short], last[short]
    share = ((frame[at] - frame[first]) / (frame[last] - frame[first])).astype(np.float32)[:, None]
    joints = np.where(seen[..., None], joints, np.float32(0))
    joints[at, joint] = (1 - share) * joints[first, joint] + share * joints[last, joint]
    if has_confidence(recording.channels):
        joints[at, joint, -1] = 0
    absent = ~joints_there(joints[bodies_there(joints)])
    order = np.lexsort((body, frame))
    filled = Recording(
        np.bincount(frame, minlength=recording.num_frame), body[order], joints[order], recording.channels
    )
    return filled, Gaps(len(at), int(absent.sum()))


def _by_body(
    recording: Recording, seen: np.ndarray, max_gap: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frame, body, joints and seen of all poses, body by body, with copies not seen in short absences of a body."""
    order = np.lexsort((recording.frame, recording.body))
    frame, body = recording.frame[order], recording.body[order]
    away = np.diff(frame, append=frame[-1:] + 1) - 1
    away[:-1][np.diff(body) != 0] = 0
    away[away > max_gap] = 0
    copies = np.repeat(np.arange(len(order)), away + 1)
    step = np.arange(len(copies)) - np.repeat(np.cumsum(away + 1) - (away + 1), away + 1)
    index = order[copies]
    return frame[copies] + step, body[copies], recording.joints[index], seen[index] & (step == 0)[:, None]
