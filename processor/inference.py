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
from processor.classification import score
from processor.online import Ranking, Stream, refuse_numbers
from processor.timeline import Timeline, default_stride, frame_probabilities, window_begins, window_ends
from processor.trained import Trained, as_array, load_trained
from torchlight.seed import derive_seed

# Number of windows in a batch.
WINDOW_BATCH = 64


class Recogniser:
    """Recognises actions by one network, or by several (of different streams), whose scores are averaged.

    Attributes:
        class_names: one per class.
        skeleton: of the joints that poses must have.
        num_frame: default length T of a window: that of the networks' longest test view.
        frame_rate: frames a second of the networks' training data; None where unknown.
    """

    def __init__(self, members: Sequence[Trained]) -> None:
        """Raises ValueError: no network; one predicts poses; or they differ in classes, joints, channels or rate."""
        if not members:
            raise ValueError("there are no weights; name one checkpoint or more")
        first = members[0]
        for member in members:
            if not member.experiment.task.names_actions:
                raise ValueError(
                    f"{member.path} are weights of {member.name}, which gives no classes; for poses use PosePredictor"
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
        """The recogniser of one or more checkpoints; see `load_trained` for arguments and exceptions."""
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
            poses: (T, V, C) of one body, or (M, T, V, C), in the unit of the networks' data; 0 where a body or joint
                is not seen.
            frame_rate: frames a second of the recording; None for the rate of the networks' data.
            repeat: number of views to average; None for `test_repeat` of the run.

        Raises:
            RecordingError: poses have another shape, contain NaN or infinity, or have no body.
            ValueError: `frame_rate` is not above 0, or `repeat` is below 1.
        """
        refuse_numbers(frame_rate=frame_rate, repeat=repeat)
        recorded = recorded_poses("poses", as_array(poses), self.skeleton, self.members[0].channels)
        return self.rank(self.probabilities([recorded._replace(frame_rate=frame_rate)], repeat=repeat)[0])

    def rank(self, probability: np.ndarray) -> Ranking:
        """Pairs of class name and probability, best first, from probabilities (K,)."""
        order = np.argsort(-probability, kind="stable")
        return [(self.class_names[k], float(probability[k])) for k in order]

    def probabilities(self, recordings: Sequence[Recorded], *, repeat: int | None = None) -> np.ndarray:
        """Probabilities (n, K) float32 of whole recordings, by the run's own test view, repeats and seed.

        The recordings of a run's test part, in its order, get the scores of the run's `scores.npz`.

        Raises:
            RecordingError: a recording has other joints.
        """
        return self.scores(recordings, repeat=repeat).softmax(1).numpy()

    def scores(self, recordings: Sequence[Recorded], *, repeat: int | None = None) -> Tensor:
        """Class scores (n, K) before the softmax, averaged over the networks; see `probabilities`."""
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
        """Probabilities (W, K) of the windows of a recording that end at given frames.

        `feeder.recordings.files.recorded_poses` makes a recording of an array. Bodies are chosen within each window.
        Windows do not cross a cut, see `feeder.recordings.cuts`. A window without a body has probabilities 0.

        Args:
            recorded: the recording.
            ends: last frame of each window, counted from 0.
            num_frame: length of a window in frames of the recording; windows at the start of a recording or after a
                cut are shorter. None for `window_of`.
            repeat: number of views of a window to average. 1 takes the deterministic view. More views are drawn at
                random, seeded by the run's seed and the window's last frame.

        Raises:
            RecordingError: the recording has other joints.
            ValueError: a window ends outside the recording.
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
                with suppress(RecordingError):  # the window has no body
                    parts[place] = recorded.choose(recorded.recording.part(begins[place], end + 1))
            if parts:
                tracks = [resample(part, recorded.frame_rate, self.frame_rate) for part in parts.values()]
                found[list(parts)] = self.window_probabilities(tracks, [ends[k] for k in parts], repeat)
        return found

    def timeline(
        self, recorded: Recorded, *, window: int | None = None, stride: int | None = None, repeat: int = 1
    ) -> Timeline:
        """Class probabilities over the time of a recording, from windows that do not cross a cut.

        Args:
            recorded: the recording.
            window: length of a window in frames of the recording; None for `window_of`.
            stride: frames from window to window; None for `default_stride`.
            repeat: see `windows`.

        Raises:
            RecordingError: the recording has other joints.
        """
        self.members[0].refuse_other_joints(recorded)
        size = self.window_of(recorded.frame_rate) if window is None else window
        num_frame, cuts = recorded.recording.num_frame, self.cuts(recorded)
        ends = window_ends(num_frame, size, default_stride(size) if stride is None else stride, cuts)
        found = self._windows(recorded, window_begins(ends, size, cuts).tolist(), ends, repeat)
        return Timeline(
            ends, found, frame_probabilities(ends, found, num_frame=num_frame, window=size, cuts=cuts)
        )

    @torch.inference_mode()
    def window_probabilities(
        self, tracks: Sequence[np.ndarray], ends: Sequence[int], repeat: int
    ) -> np.ndarray:
        """Probabilities (W, K) of windows that are cut out already; in float32.

        A lower precision would make them depend on the number of windows in a batch; a stream has batches of one.

        Args:
            tracks: for each window, (M, T, V, C) at the networks' frame rate.
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
        """Frames of a recording that come first after a cut; see `feeder.recordings.cuts`."""
        rate = self.frame_rate if recorded.frame_rate is None else recorded.frame_rate
        return find_cuts(recorded.recording, rate)

    def window_of(self, frame_rate: float | None) -> int:
        """Length of a window in frames of a recording, which lasts as long as `num_frame` at the networks' rate.

        frame_rate: of the recording; None for the networks' rate.
        """
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
        """A recogniser of single frames as they arrive; see `Stream` for the arguments."""
        return Stream(self, window=window, stride=stride, frame_rate=frame_rate, repeat=repeat, limits=limits)
