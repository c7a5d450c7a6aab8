"""Answers about recordings: which action a recording shows, and when.

    recogniser = Recogniser.load("work_dir/nw_ucla/st_gcn/joint/best.pt")
    recogniser(poses)  # [("throw", 0.93), ("carry", 0.04), ...]

T frames, V joints, M bodies, C coordinates, K classes, W windows.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from feeder.feeder import Feeder
from feeder.prepared import prepared_in_memory
from feeder.ragged import RaggedBatch
from feeder.recordings.cuts import find_cuts
from feeder.recordings.files import Recorded, recorded_poses
from feeder.recordings.linking import LinkLimits
from feeder.recordings.recording import RecordingError
from feeder.recordings.resample import resample
from net.utils.clip import Clip
from processor.labels import score
from processor.stream import Ranking, Stream, refuse_numbers
from processor.timeline import Timeline, frame_probabilities, usual_stride, window_begins, window_ends
from processor.trained import Trained, as_array, load_trained
from torchlight.seed import derive_seed

# Windows that are made into views at a time.
WINDOW_BATCH = 64


class Recogniser:
    """Names actions by one network, or by several of different streams whose scores are averaged.

    Attributes:
        class_names: one per class.
        skeleton: of the joints that poses must have.
        num_frame: T of a window, by default: as many as a view of the network has.
        frame_rate: frames a second that the networks were trained with; None where that is not known.
    """

    def __init__(self, members: Sequence[Trained]) -> None:
        """Raises ValueError: no network, or one that predicts poses.

        Nor may networks differ in classes, joints, channels or frame rate.
        """
        if not members:
            raise ValueError("there are no weights; name one checkpoint or more")
        first = members[0]
        for member in members:
            if not member.experiment.task.names_actions:
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
        self._views = [member.test_view() for member in members]
        self._fixed = [view.deterministic() for view in self._views]
        self.num_frame = max(view.num_frame for view in self._views)

    @classmethod
    def load(
        cls,
        *paths: str | Path,
        config: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        device: str = "auto",
        plugins: Sequence[str] = (),
    ) -> "Recogniser":
        """The recogniser of one checkpoint or more; see `load_trained` for the arguments and what is raised."""
        return cls(
            [
                load_trained(path, config=config, class_names=class_names, device=device, plugins=plugins)
                for path in paths
            ]
        )

    def __call__(
        self, poses: np.ndarray | Tensor, *, frame_rate: float | None = None, repeat: int | None = None
    ) -> Ranking:
        """All classes and their probabilities, best first, of a recording as a whole.

        Args:
            poses: (T, V, C) of one body or (M, T, V, C), in the unit of the networks' data, zero where a body or
                joint is not seen.
            frame_rate: frames a second of the recording; None for that of the networks' data.
            repeat: views that are averaged; None for as many as in the test of the run.

        Raises:
            RecordingError: poses of another shape, NaN or infinity in them, or no body.
            ValueError: a frame rate that is not above 0, or a number of views below 1.
        """
        refuse_numbers(frame_rate=frame_rate, repeat=repeat)
        recorded = recorded_poses("poses", as_array(poses), self.skeleton, self.members[0].channels)
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
            source = prepared_in_memory(
                tracks,
                names,
                skeleton=self.skeleton,
                class_names=self.class_names,
                channels=member.channels,
            )
            feeder = Feeder(
                source,
                "all",
                part="test",
                layout=self.skeleton,
                num_class=len(self.class_names),
                num_body=config.data.num_body,
                channels=member.channels,
            )
            views = [config.test_view] * (config.test_repeat if repeat is None else repeat)
            loader = experiment.loader(feeder, views, batch_size=config.test_batch_size, shuffle=False)
            with torch.no_grad():
                order, scores = score(experiment, loader)
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

        `feeder.recordings.files.recorded_poses` makes a recording of an array. Bodies are chosen within each window. No
        window reaches across a cut, see `feeder.recordings.cuts`. A window without a body has probabilities 0.

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
        return self._windows(recorded, begins, ends, repeat)

    def _windows(
        self, recorded: Recorded, begins: Sequence[int], ends: Sequence[int], repeat: int
    ) -> np.ndarray:
        """Probabilities (W, K) of windows from frames `begins` to frames `ends`; 0 without a body."""
        found = np.zeros((len(ends), len(self.class_names)), np.float32)
        for start in range(0, len(ends), WINDOW_BATCH):
            parts: dict[int, np.ndarray] = {}
            for place, end in enumerate(ends[start : start + WINDOW_BATCH], start):
                with suppress(RecordingError):  # no body is there
                    parts[place] = recorded.choose(recorded.recording.part(begins[place], end + 1))
            if parts:
                tracks = [resample(part, recorded.frame_rate, self.frame_rate) for part in parts.values()]
                found[list(parts)] = self.window_probabilities(tracks, [ends[k] for k in parts], repeat)
        return found

    def timeline(
        self, recorded: Recorded, *, window: int | None = None, stride: int | None = None, repeat: int = 1
    ) -> Timeline:
        """What a recording shows when, by windows that begin anew after each cut.

        Args:
            recorded: the recording.
            window: frames of a window, in those of the recording; None for `window_of`.
            stride: frames from window to window; None for `usual_stride`.
            repeat: see `windows`.

        Raises:
            RecordingError: it has other joints.
        """
        self.members[0].refuse_other_joints(recorded)
        size = self.window_of(recorded.frame_rate) if window is None else window
        num_frame, cuts = recorded.recording.num_frame, self.cuts(recorded)
        ends = window_ends(num_frame, size, usual_stride(size) if stride is None else stride, cuts)
        found = self._windows(recorded, window_begins(ends, size, cuts).tolist(), ends, repeat)
        return Timeline(
            ends, found, frame_probabilities(ends, found, num_frame=num_frame, window=size, cuts=cuts)
        )

    @torch.inference_mode()
    def window_probabilities(
        self, tracks: Sequence[np.ndarray], ends: Sequence[int], repeat: int
    ) -> np.ndarray:
        """Probabilities (W, K) of windows that are cut out already; in float32.

        In a lower precision they would depend on how many windows come at once: a stream has one.

        Args:
            tracks: of each window, (M, T, V, C) at the networks' frame rate.
            ends: last frame of each window.
            repeat: see `windows`.
        """
        total = torch.zeros(len(tracks), len(self.class_names))
        for member, view, fixed in zip(self.members, self._views, self._fixed, strict=True):
            device = member.experiment.device
            sent = [torch.from_numpy(each).to(device) for each in tracks]
            if repeat == 1:
                shown = fixed.show(RaggedBatch.of_tracks(sent), torch.Generator())
            else:
                seed = member.config.seed
                drawn = [
                    view.show(
                        RaggedBatch.of_tracks([each] * repeat),
                        torch.Generator().manual_seed(derive_seed(seed, "window", end)),
                    )
                    for each, end in zip(sent, ends, strict=True)
                ]
                shown = Clip(*map(torch.cat, zip(*drawn, strict=True)))
            scores = member.method.scores(shown).float().cpu()
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
        limits: LinkLimits | None = None,
    ) -> Stream:
        """Answers about frames as they come; see `Stream`."""
        return Stream(self, window=window, stride=stride, frame_rate=frame_rate, repeat=repeat, limits=limits)
