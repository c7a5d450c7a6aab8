"""Answers about frames as they come.

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
    """What a stream shows at a frame.

    frame: the last frame of the window, counted from 0.
    seconds: when that frame was, the first one being at 0; NaN where the frame rate is not known.
    top: all classes, best first; empty where no body is in the window.
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
    """Answers about the last frames of a recording that goes on.

    Without `limits` bodies are taken as given: the place in a frame says which body it is. The answer at a frame is
    then that of `Recogniser.windows` about the window that ends there. After a cut the stream begins anew, see
    `feeder.recordings.cuts`.

    Args:
        recogniser: what answers.
        window: frames that an answer is about; None for as long as a view of the networks.
        stride: frames from one answer to the next; None for a quarter of the window.
        frame_rate: frames a second of the stream; None for that of the networks' data.
        repeat: see `Recogniser.windows`.
        limits: what may be one person, where the bodies of a frame come in any order: they are linked from frame to
            frame, and those that move most are chosen. None where a body keeps its place among those of a frame.

    Raises:
        ValueError: a count below 1, or a frame rate that is not above 0.
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
        # The bodies of each of the last frames, (M, V, C), and whose they are, (M,).
        self._frames: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=self.window)
        self._linker = self._new_linker()
        self.num_frame = 0
        # Numbers of frames: the first after the last cut, the first after the last answer, the last with a body.
        self._begin = self._answered = self._seen = 0
        self._last: np.ndarray | None = None  # the bodies of that one

    def push(self, bodies: np.ndarray) -> list[Answer]:
        """Take the next frame; every `stride` frames there is an answer, about the window that ends with it.

        Where the frame begins a new part, the last answer about the part before comes first.

        Args:
            bodies: (V, C) of one body or (M, V, C), in the networks' unit; M may be 0. Joints that are not seen are 0.

        Raises:
            ValueError: another shape or unit, NaN or infinity; the frame is not taken.
        """
        bodies = np.array(bodies, np.float32)  # the caller may use its own again
        skeleton = self.recogniser.skeleton
        bodies = bodies[None] if bodies.ndim == 2 else bodies
        num_channel = len(self.channels)
        if bodies.size == 0:
            bodies = np.zeros((0, skeleton.num_joint, num_channel), np.float32)
        if bodies.ndim != 3 or bodies.shape[1:] != (skeleton.num_joint, num_channel):
            raise ValueError(
                f"a frame has shape {bodies.shape}; needed is ({skeleton.num_joint} joints, {num_channel}) of layout "
                f"{skeleton.name!r}, or that for each body"
            )
        if not np.isfinite(bodies).all():
            raise ValueError("a coordinate is NaN or infinite; give 0 for a joint that was not seen")
        # What spans so much, joints that were not seen included, may be too large; to look closely takes longer.
        if not in_plane(self.channels) and np.ptp(bodies, axis=1).max(initial=0) > MAX_SPAN:
            refuse_other_units(bodies, "give metres, or --unit mm or --unit cm where they are in those")
        answers = []
        if bodies.any():
            if self._begins_anew(bodies):
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
        """The answer about the last window; none if it was given, or no frame came."""
        return [self._answer()] if self.num_frame > self._answered else []

    def _new_linker(self) -> Linker | None:
        return None if self.limits is None else Linker(self.limits, num_coordinate(self.channels))

    def _identify(self, bodies: np.ndarray) -> np.ndarray:
        """Whose the bodies (M, V, C) of the next frame are: (M,)."""
        return np.arange(len(bodies)) if self._linker is None else self._linker.link(bodies)

    def _begins_anew(self, bodies: np.ndarray) -> bool:
        """Whether the next frame, of bodies (M, V, C), begins a new part."""
        if self._last is None:
            return False
        return is_cut(self._last, bodies, self.num_frame - self._seen, self.frame_rate, self.channels)

    def _answer(self) -> Answer:
        self._answered = self.num_frame
        frame = self.num_frame - 1
        seconds = float("nan") if self.frame_rate is None else frame / self.frame_rate
        recording = Recording(
            num_body=np.array([len(bodies) for bodies, _ in self._frames]),
            body=np.concatenate([whose for _, whose in self._frames]),
            joints=np.concatenate([bodies for bodies, _ in self._frames]),
            channels=self.channels,
        )
        choose = as_given if self._linker is None else moving
        try:
            tracks = choose(recording.part(0, len(self._frames)))
        except RecordingError:  # no body is there
            return Answer(frame, seconds, [])
        tracks = resample(tracks, self.frame_rate, self.recogniser.frame_rate)
        probability = self.recogniser.window_probabilities([tracks], [frame], self.repeat)
        return Answer(frame, seconds, self.recogniser.rank(probability[0]))
