"""Recognition of frames as they arrive.

T frames, V joints, M bodies, C channels.
"""

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feeder.recordings.bodies import as_given, moving
from feeder.recordings.cuts import is_cut
from feeder.recordings.linking import Linker, LinkLimits
from feeder.recordings.recording import MAX_SPAN, Recording, RecordingError, refuse_other_units
from feeder.recordings.resample import resample
from net.utils.channels import bodies_there, in_plane, num_coordinate
from processor.timeline import default_stride

if TYPE_CHECKING:  # which makes streams
    from processor.inference import Recogniser

# Names and probabilities of classes, best first.
Ranking = list[tuple[str, float]]


class Answer(NamedTuple):
    """The answer of a stream at a frame.

    frame: the last frame of the window, counted from 0.
    seconds: time of that frame after the first one; NaN if the frame rate is unknown.
    top: all classes, best first; empty if the window has no body.
    """

    frame: int
    seconds: float
    top: Ranking


def refuse_numbers(*, frame_rate: float | None = None, **counts: int | None) -> None:
    """Raise ValueError for a frame rate that is not a number above 0, or a count below 1; None is allowed."""
    if frame_rate is not None and not 0 < frame_rate < math.inf:
        raise ValueError(f"frame_rate is {frame_rate}; give a number above 0")
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")


class Stream:
    """Recognises the last frames of a recording that still continues.

    Without `limits` a body keeps its index in all frames. The answer at a frame then equals that of
    `Recogniser.windows` for the window that ends there. After a cut the stream starts again, see
    `feeder.recordings.cuts`.

    Args:
        recogniser: gives the answers.
        window: length of a window in frames; None for as long as a view of the networks.
        stride: frames from one answer to the next; None for a quarter of the window.
        frame_rate: frames a second of the stream; None for the rate of the networks' data.
        repeat: see `Recogniser.windows`.
        limits: for bodies in any order: limits for linking them from frame to frame; the linked bodies that move most
            are chosen. None if each body keeps its index.

    Raises:
        ValueError: a count is below 1, or the frame rate is not above 0.
    """

    def __init__(
        self,
        recogniser: "Recogniser",
        *,
        window: int | None = None,
        stride: int | None = None,
        frame_rate: float | None = None,
        repeat: int = 1,
        limits: LinkLimits | None = None,
    ) -> None:
        refuse_numbers(frame_rate=frame_rate)
        self.recogniser, self.repeat, self.limits = recogniser, repeat, limits
        self.channels = recogniser.members[0].channels
        self.frame_rate = recogniser.frame_rate if frame_rate is None else frame_rate
        self.window = recogniser.window_of(frame_rate) if window is None else window
        self.stride = default_stride(self.window) if stride is None else stride
        refuse_numbers(window=self.window, stride=self.stride, repeat=repeat)
        # For each of the last frames: its bodies (M, V, C), and their identities (M,).
        self._frames: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=self.window)
        self._linker = self._new_linker()
        self.num_frame = 0
        # Indices of frames: the first after the last cut, the first after the last answer, the last with a body.
        self._begin = self._answered = self._seen = 0
        self._last: np.ndarray | None = None  # the bodies of the last frame with a body

    def push(self, bodies: np.ndarray) -> list[Answer]:
        """Add the next frame; returns an answer every `stride` frames, for the window that ends with the frame.

        If the frame is the first after a cut, the last answer for the frames before the cut comes first.

        Args:
            bodies: (V, C) of one body or (M, V, C), in the networks' unit; M may be 0. Joints that are not seen are 0.

        Raises:
            ValueError: another shape or unit, NaN or infinity; the frame is not added.
        """
        bodies = np.array(bodies, np.float32)  # a copy: the caller may change its array
        skeleton = self.recogniser.skeleton
        bodies = bodies[None] if bodies.ndim == 2 else bodies
        num_channel = len(self.channels)
        if bodies.size == 0:
            bodies = np.zeros((0, skeleton.num_joint, num_channel), np.float32)
        if bodies.ndim != 3 or bodies.shape[1:] != (skeleton.num_joint, num_channel):
            raise ValueError(
                f"a frame has shape {bodies.shape}; give ({skeleton.num_joint} joints, {num_channel}) of layout "
                f"{skeleton.name!r}, or one such array for each body"
            )
        if not np.isfinite(bodies).all():
            raise ValueError("a coordinate is NaN or infinite; give 0 for a joint that was not seen")
        # A cheap test first: it includes unseen joints at 0, which the slower check leaves out.
        if not in_plane(self.channels) and np.ptp(bodies, axis=1).max(initial=0) > MAX_SPAN:
            refuse_other_units(bodies, "give metres, or set --unit mm or --unit cm")
        answers = []
        if bodies.any():
            if self._is_after_cut(bodies):
                answers += self.finish()
                self._frames.clear()
                self._begin = self.num_frame
                self._linker = self._new_linker()
            self._seen, self._last = self.num_frame, bodies
        if self._linker is not None:
            bodies = bodies[bodies_there(bodies)]
        self._frames.append((bodies, self._identify(bodies)))
        self.num_frame += 1
        if (self.num_frame - self._begin) % self.stride == 0:
            answers.append(self._answer())
        return answers

    def finish(self) -> list[Answer]:
        """The answer for the last window; empty if it has been given already, or without frames."""
        return [self._answer()] if self.num_frame > self._answered else []

    def _new_linker(self) -> Linker | None:
        return None if self.limits is None else Linker(self.limits, num_coordinate(self.channels))

    def _identify(self, bodies: np.ndarray) -> np.ndarray:
        """Identities (M,) of the bodies (M, V, C) of the next frame."""
        return np.arange(len(bodies)) if self._linker is None else self._linker.link(bodies)

    def _is_after_cut(self, bodies: np.ndarray) -> bool:
        """Whether the next frame, of bodies (M, V, C), is the first after a cut."""
        if self._last is None:
            return False
        return is_cut(self._last, bodies, self.num_frame - self._seen, self.frame_rate, self.channels)

    def _answer(self) -> Answer:
        self._answered = self.num_frame
        frame = self.num_frame - 1
        seconds = float("nan") if self.frame_rate is None else frame / self.frame_rate
        recording = Recording(
            num_body=np.array([len(bodies) for bodies, _ in self._frames]),
            body=np.concatenate([identities for _, identities in self._frames]),
            joints=np.concatenate([bodies for bodies, _ in self._frames]),
            channels=self.channels,
        )
        choose = as_given if self._linker is None else moving
        try:
            tracks = choose(recording.part(0, len(self._frames)))
        except RecordingError:  # the window has no body
            return Answer(frame, seconds, [])
        tracks = resample(tracks, self.frame_rate, self.recogniser.frame_rate)
        probability = self.recogniser.window_probabilities([tracks], [frame], self.repeat)
        return Answer(frame, seconds, self.recogniser.rank(probability[0]))
