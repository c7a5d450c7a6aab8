"""Answers about recordings: which action a recording shows, when, and which poses come next.

    recogniser = Recogniser.load("work_dir/nw_ucla/st_gcn/joint/best.pt")
    recogniser(poses)  # [("throw", 0.93), ("carry", 0.04), ...]

T frames, V joints, M bodies, C coordinates, K classes, W windows, P frames to come.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from feeder.feeder import Feeder
from feeder.prepared import prepared_in_memory
from feeder.ragged import RaggedBatch
from feeder.recordings.bodies import as_given
from feeder.recordings.cuts import find_cuts, is_cut
from feeder.recordings.files import Recorded, recorded_poses
from feeder.recordings.recording import Recording, RecordingError
from feeder.recordings.resample import resample
from processor.classification import Classification
from processor.experiment import view_of
from processor.timeline import window_begins
from processor.trained import Trained, load_trained
from torchlight.seed import derive_seed

# Names and probabilities of classes, best first.
Ranking = list[tuple[str, float]]
# Windows that are made into views at a time.
WINDOW_BATCH = 64


class Answer(NamedTuple):
    """What a stream shows at a frame.

    frame: the last frame of the window, counted from 0.
    seconds: when that frame was, the first one being at 0; NaN where the frame rate is not known.
    top: all classes, best first; empty where no body is in the window.
    """

    frame: int
    seconds: float
    top: Ranking


class Recogniser:
    """Names actions by one network, or by several of different streams whose scores are averaged.

    Attributes:
        class_names: one per class.
        skeleton: of the joints that poses must have.
        num_frame: T of a window, by default: as many as a view of the network has.
        frame_rate: frames a second that the networks were trained with; None where that is not known.
    """

    def __init__(self, members: Sequence[Trained]) -> None:
        """Raises ValueError: no network, one that predicts poses, or networks of different classes or joints."""
        if not members:
            raise ValueError("there are no weights; name one checkpoint or more")
        first = members[0]
        for member in members:
            if not isinstance(member.experiment, Classification):
                raise ValueError(
                    f"{member.path} are weights of {member.name}, which gives poses and no classes; use PosePredictor"
                )
            for what in ("class_names", "skeleton", "channels", "frame_rate"):
                mine, others = getattr(member, what), getattr(first, what)
                if mine != others:
                    raise ValueError(
                        f"{member.path} has other {what.replace('_', ' ')} than {first.path}; fuse networks of the "
                        "same data"
                    )
        self.members = tuple(members)
        self.class_names, self.skeleton, self.frame_rate = first.class_names, first.skeleton, first.frame_rate
        self._views = [view_of(m.config.test_view, m.config, m.skeleton) for m in members]
        self._fixed = [view.deterministic() for view in self._views]
        self.num_frame = max(view.num_frame for view in self._views)

    @classmethod
    def load(cls, *paths: str | Path, device: str = "auto", **how: object) -> "Recogniser":
        """The recogniser of one checkpoint or more; see `load_trained` for the arguments and what is raised."""
        return cls([load_trained(path, device=device, **how) for path in paths])  # type: ignore[arg-type]

    def __call__(
        self, poses: np.ndarray | Tensor, *, frame_rate: float | None = None, repeat: int | None = None
    ) -> Ranking:
        """All classes and their probabilities, best first, of a recording as a whole.

        Args:
            poses: (T, V, C) of one body or (M, T, V, C), metres, zero where a body or joint is not seen.
            frame_rate: frames a second of the recording; None for that of the networks' data.
            repeat: views that are averaged; None for as many as in the test of the run.

        Raises:
            RecordingError: poses of another shape, NaN or infinity in them, or no body.
        """
        recorded = recorded_poses("poses", np.asarray(poses), self.skeleton, len(self.members[0].channels))
        return self.rank(self.probabilities([recorded._replace(frame_rate=frame_rate)], repeat=repeat)[0])

    def rank(self, probability: np.ndarray) -> Ranking:
        """Names and probabilities (K,) of all classes, best first."""
        order = np.argsort(-probability, kind="stable")
        return [(self.class_names[k], float(probability[k])) for k in order]

    def probabilities(self, recordings: Sequence[Recorded], *, repeat: int | None = None) -> np.ndarray:
        """Probabilities (n, K) float32 of recordings as wholes, by the run's own test view, repeats and seed.

        Recordings in the order of a run's test part get the scores that the run's `scores.npz` has.

        Raises:
            RecordingError: a recording has other joints.
        """
        return self.scores(recordings, repeat=repeat).softmax(1).numpy()

    def scores(self, recordings: Sequence[Recorded], *, repeat: int | None = None) -> Tensor:
        """Class scores (n, K) that `probabilities` are made of, the mean over the networks."""
        for recorded in recordings:
            self.members[0].refuse_other_joints(recorded)
        tracks = [resample(each.tracks, each.frame_rate, self.frame_rate) for each in recordings]
        names = [each.name for each in recordings]
        total = torch.zeros(len(tracks), len(self.class_names))
        if not tracks:
            return total
        for member in self.members:
            experiment, config = member.experiment, member.config
            assert isinstance(experiment, Classification)
            source = prepared_in_memory(tracks, names, skeleton=self.skeleton, class_names=self.class_names)
            feeder = Feeder(
                source,
                "all",
                part="test",
                layout=self.skeleton,
                num_class=len(self.class_names),
                num_body=config.data.num_body,
            )
            views = [config.test_view] * (config.test_repeat if repeat is None else repeat)
            loader = experiment.loader(feeder, views, batch_size=config.test_batch_size, shuffle=False)
            with torch.no_grad():
                order, scores = experiment.score(loader)
            total[order] += scores / len(self.members)
        return total

    def windows(
        self,
        recorded: Recorded,
        ends: Sequence[int],
        *,
        num_frame: int | None = None,
        repeat: int = 1,
    ) -> np.ndarray:
        """Probabilities (W, K) of the windows of a recording that end at some of its frames.

        Bodies are chosen within each window. No window reaches across a cut, see `feeder.recordings.cuts`. A window
        without a body has probabilities 0.

        Args:
            recorded: the recording.
            ends: last frame of each window, counted from 0.
            num_frame: frames of a window, in those of the recording; fewer where it begins later. None for `window_of`.
            repeat: views of a window that are averaged: 1 for the deterministic one, or so many that are drawn, by the
                run's seed and the window's last frame.
        """
        self.members[0].refuse_other_joints(recorded)
        if any(not 0 <= end < recorded.recording.num_frame for end in ends):
            raise ValueError(
                f"windows end at {list(ends)}; frames are 0 to {recorded.recording.num_frame - 1}"
            )
        size = self.window_of(recorded.frame_rate) if num_frame is None else num_frame
        begins = window_begins(ends, size, self.cuts(recorded)).tolist()
        found = np.zeros((len(ends), len(self.class_names)), np.float32)
        for start in range(0, len(ends), WINDOW_BATCH):
            parts: dict[int, np.ndarray] = {}
            for place, end in enumerate(ends[start : start + WINDOW_BATCH], start):
                with suppress(RecordingError):  # no body is there
                    parts[place] = recorded.choose(recorded.recording.part(begins[place], end + 1))
            if parts:
                tracks = [resample(part, recorded.frame_rate, self.frame_rate) for part in parts.values()]
                found[list(parts)] = self._window_probabilities(tracks, [ends[k] for k in parts], repeat)
        return found

    @torch.inference_mode()
    def _window_probabilities(
        self, tracks: Sequence[np.ndarray], ends: Sequence[int], repeat: int
    ) -> np.ndarray:
        """Probabilities (W, K) of windows, of each the tracks (M, T, V, C) and the last frame; in float32.

        In a lower precision they would depend on how many windows come at once: a stream has one.
        """
        total = torch.zeros(len(tracks), len(self.class_names))
        for member, view, fixed in zip(self.members, self._views, self._fixed, strict=True):
            device = member.experiment.device
            sent = [torch.from_numpy(each).to(device) for each in tracks]
            if repeat == 1:
                data = fixed(RaggedBatch.of_tracks(sent), torch.Generator())
            else:
                seed = member.config.seed
                data = torch.cat(
                    [
                        view(
                            RaggedBatch.of_tracks([each] * repeat),
                            torch.Generator().manual_seed(derive_seed(seed, "window", end)),
                        )
                        for each, end in zip(sent, ends, strict=True)
                    ]
                )
            scores = member.model(data).float().cpu()
            total += scores.unflatten(0, (-1, repeat)).mean(1) / len(self.members)
        return total.softmax(1).numpy()

    def cuts(self, recorded: Recorded) -> list[int]:
        """First frames of the parts of a recording that was cut, but the first part's; see `feeder.recordings.cuts`."""
        rate = self.frame_rate if recorded.frame_rate is None else recorded.frame_rate
        return find_cuts(recorded.recording, rate)

    def window_of(self, frame_rate: float | None) -> int:
        """Frames of a recording at some rate that make a window as long as a view of the networks."""
        if frame_rate is None or self.frame_rate is None:
            return self.num_frame
        return max(1, round(self.num_frame * frame_rate / self.frame_rate))

    def stream(
        self,
        *,
        window: int | None = None,
        stride: int | None = None,
        frame_rate: float | None = None,
        repeat: int = 1,
    ) -> "Stream":
        """Answers about frames as they come; see `Stream`."""
        return Stream(self, window=window, stride=stride, frame_rate=frame_rate, repeat=repeat)


class Stream:
    """Answers about the last frames of a recording that goes on.

    The answer at a frame is that of `Recogniser.windows` about the window that ends there. After a cut the stream
    begins anew, see `feeder.recordings.cuts`.

    Args:
        recogniser: what answers.
        window: frames that an answer is about; None for as long as a view of the networks.
        stride: frames from one answer to the next; None for a quarter of the window.
        frame_rate: frames a second of the stream; None for that of the networks' data.
        repeat: see `Recogniser.windows`.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        window: int | None = None,
        stride: int | None = None,
        frame_rate: float | None = None,
        repeat: int = 1,
    ) -> None:
        self.recogniser, self.repeat = recogniser, repeat
        self.frame_rate = recogniser.frame_rate if frame_rate is None else frame_rate
        self.window = recogniser.window_of(frame_rate) if window is None else window
        self.stride = max(1, self.window // 4) if stride is None else stride
        for what, value in (("window", self.window), ("stride", self.stride), ("repeat", repeat)):
            if value < 1:
                raise ValueError(f"{what} is {value}; give 1 or more")
        # The bodies of each of the last frames, (M, V, C).
        self._frames: deque[np.ndarray] = deque(maxlen=self.window)
        self.num_frame = 0
        # Numbers of frames: the first after the last cut, the first after the last answer, the last with a body.
        self._begin = self._answered = self._seen = 0
        self._last: np.ndarray | None = None  # the bodies of that one

    def push(self, bodies: np.ndarray) -> list[Answer]:
        """Take the next frame; every `stride` frames there is an answer, about the window that ends with it.

        Where the frame begins a new part, the last answer about the part before comes first.

        Args:
            bodies: (V, C) of one body or (M, V, C), metres; M may be 0. Joints that are not seen are 0.

        Raises:
            ValueError: another shape, NaN or infinity; the frame is not taken.
        """
        bodies = np.asarray(bodies, np.float32)
        skeleton = self.recogniser.skeleton
        bodies = bodies[None] if bodies.ndim == 2 else bodies
        num_channel = len(self.recogniser.members[0].channels)
        if bodies.size == 0:
            bodies = np.zeros((0, skeleton.num_joint, num_channel), np.float32)
        if bodies.ndim != 3 or bodies.shape[1:] != (skeleton.num_joint, num_channel):
            raise ValueError(
                f"a frame has shape {bodies.shape}; needed is ({skeleton.num_joint} joints, {num_channel}) of layout "
                f"{skeleton.name!r}, or that for each body"
            )
        if not np.isfinite(bodies).all():
            raise ValueError("a coordinate is NaN or infinite; give 0 for a joint that was not seen")
        answers = []
        if bodies.any():
            if self._begins_anew(bodies):
                answers += self.finish()
                self._frames.clear()
                self._begin = self.num_frame
            self._seen, self._last = self.num_frame, bodies
        self._frames.append(bodies)
        self.num_frame += 1
        if (self.num_frame - self._begin) % self.stride == 0:
            answers.append(self._answer())
        return answers

    def finish(self) -> list[Answer]:
        """The answer about the last window; none if it was given, or no frame came."""
        return [self._answer()] if self.num_frame > self._answered else []

    def _begins_anew(self, bodies: np.ndarray) -> bool:
        """Whether the next frame, of bodies (M, V, C), begins a new part."""
        if self._last is None:
            return False
        return is_cut(self._last, bodies, self.num_frame - self._seen, self.frame_rate)

    def _answer(self) -> Answer:
        self._answered = self.num_frame
        frame = self.num_frame - 1
        seconds = float("nan") if self.frame_rate is None else frame / self.frame_rate
        recording = Recording(
            num_body=np.array([len(bodies) for bodies in self._frames]),
            body=np.concatenate([np.arange(len(bodies)) for bodies in self._frames]),
            joints=np.concatenate(self._frames),
        )
        try:
            tracks = as_given(recording.part(0, len(self._frames)))
        except RecordingError:  # no body is there
            return Answer(frame, seconds, [])
        tracks = resample(tracks, self.frame_rate, self.recogniser.frame_rate)
        probability = self.recogniser._window_probabilities([tracks], [frame], self.repeat)
        return Answer(frame, seconds, self.recogniser.rank(probability[0]))
