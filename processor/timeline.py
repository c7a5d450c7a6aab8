"""Timeline of a long recording: from class probabilities of windows to a class for each frame.

T frames, K classes, W windows.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """Frames `first` to `last` of class `label` (-1 for none), and its mean probability in them."""

    first: int
    last: int
    label: int
    probability: float


class Timeline(NamedTuple):
    """Class probabilities over the time of a recording.

    ends: W last frames of windows.
    of_windows: (W, K) probabilities of the windows.
    of_frames: (T, K) probabilities of the frames, see `frame_probabilities`.
    """

    ends: Sequence[int]
    of_windows: np.ndarray
    of_frames: np.ndarray


def default_stride(window: int) -> int:
    """Frames from window to window, or from a stream's answer to the next: a quarter of a window, or 1."""
    return max(1, window // 4)


def window_ends(num_frame: int, window: int, stride: int, cuts: Sequence[int] = ()) -> list[int]:
    """Last frames of the windows of a recording: the first full window, every `stride` frames, the last frame.

    The part after each cut has its own windows. If the stride divides the window, a stream answers at these frames
    too. A stream also answers before the first full window of a part.

    Args:
        num_frame: T.
        window: frames of a window.
        stride: frames from window to window.
        cuts: first frames of new parts, see `feeder.recordings.cuts`.
    """
    ends: list[int] = []
    for begin, end in pairwise((0, *cuts, num_frame)):
        first = min(window, end - begin) - 1
        of_part = {first, *range(stride - 1, end - begin, stride), end - begin - 1}
        ends += sorted(begin + last for last in of_part if last >= first)
    return ends


def window_begins(ends: Sequence[int], window: int, cuts: Sequence[int] = ()) -> np.ndarray:
    """First frames (W,) of windows that end at `ends`; a window that would cross a cut starts after it."""
    last = np.asarray(ends, np.int64)
    parts = np.array((0, *cuts))
    return np.maximum(last + 1 - window, parts[np.searchsorted(parts, last, side="right") - 1])


def frame_probabilities(
    ends: Sequence[int], probability: np.ndarray, *, num_frame: int, window: int, cuts: Sequence[int] = ()
) -> np.ndarray:
    """Probabilities (T, K) of each frame: the mean over the windows that cover it; 0 where none does.

    Args:
        ends: last frame of each window.
        probability: (W, K) of the windows.
        num_frame: T.
        window: frames of a window.
        cuts: first frames of new parts.
    """
    last = np.asarray(ends)
    change = np.zeros((num_frame + 1, probability.shape[1] + 1))
    # The last column counts the windows.
    values = np.concatenate((probability, np.ones((len(last), 1))), 1)
    np.add.at(change, window_begins(ends, window, cuts), values)
    np.subtract.at(change, last + 1, values)
    # Rounding removes the rounding errors of the cumulative sum where there is no window.
    covered = change.cumsum(0)[:num_frame].round(12)
    return covered[:, :-1] / np.maximum(covered[:, -1:], 1)


def frame_labels(probability: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """The likeliest class of each frame, (T,) int64; -1 if its probability is 0 or below the threshold."""
    best = probability.max(1)
    return np.where((best > 0) & (best >= threshold), probability.argmax(1), -1)


def segments(label: np.ndarray, probability: np.ndarray) -> list[Segment]:
    """The runs of equal labels (T,) of frames, with the mean of their class's probabilities (T, K)."""
    starts = np.flatnonzero(np.diff(label, prepend=label[0] - 1))
    ends = [*starts[1:], len(label)]
    return [
        Segment(
            first=int(start),
            last=int(end) - 1,
            label=int(label[start]),
            probability=float(probability[start:end, label[start]].mean()) if label[start] >= 0 else 0.0,
        )
        for start, end in zip(starts, ends, strict=True)
    ]
