"""Prediction of the next poses of a recording, in its own coordinates, by a network that `prediction` trained.

T frames, V joints, M bodies, C coordinates, P predicted frames.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from feeder.normalise import NORMALISE
from feeder.ragged import RaggedBatch, place
from feeder.recordings.cuts import find_cuts
from feeder.recordings.files import Recorded, recorded_poses
from feeder.recordings.recording import RecordingError
from feeder.recordings.resample import resample
from net.utils.clip import Clip
from processor.prediction import PredictionConfig
from processor.prediction_metrics import as_recorded, roll_out
from processor.trained import Trained, as_array, load_trained


class PosePredictor:
    """Predicts the next poses of a recording by one network, or by several, whose poses are averaged.

    Attributes:
        observe: number of frames that the network sees, at the end of a recording.
        predict: default of P: the number of frames that the first network's run predicted.
        frame_rate: frames a second of observed and predicted poses; None where unknown.
    """

    def __init__(self, members: Sequence[Trained]) -> None:
        """Raises ValueError: no network; one is not of `prediction`; or they differ in data or in what they see."""
        if not members:
            raise ValueError("there are no weights; name one checkpoint or more")
        for member in members:
            if not isinstance(member.config, PredictionConfig):
                raise ValueError(f"{member.path} are weights of {member.name}, which predicts no poses")
            for what, (mine, others) in _seen_by(member, members[0]).items():
                if mine != others:
                    raise ValueError(
                        f"{member.path} has {what} {mine}, and {members[0].path} has {others}; average networks of the "
                        "same data and view"
                    )
        self.members = tuple(members)
        first, config = members[0], members[0].config
        assert isinstance(config, PredictionConfig)
        self.skeleton, self.frame_rate = first.skeleton, first.frame_rate
        self.observe, self.predict = config.observe, config.predict
        self._num_body, self._view = config.data.num_body, config.test_view

    @classmethod
    def load(
        cls,
        *paths: str | Path,
        config: str | Path | None = None,
        device: str = "auto",
        plugins: Sequence[str] = (),
    ) -> "PosePredictor":
        """The predictor of one or more checkpoints; see `load_trained` for arguments and exceptions."""
        return cls([load_trained(path, config=config, device=device, plugins=plugins) for path in paths])

    def __call__(
        self, poses: np.ndarray | Tensor, *, frame_rate: float | None = None, count: int | None = None
    ) -> np.ndarray:
        """The next poses (M, P, V, C) after poses (T, V, C) or (M, T, V, C), in metres; see `next_poses`."""
        recorded = recorded_poses("poses", as_array(poses), self.skeleton, self.members[0].channels)
        return self.next_poses(recorded._replace(frame_rate=frame_rate), count=count)

    @torch.inference_mode()
    def next_poses(self, recorded: Recorded, *, count: int | None = None) -> np.ndarray:
        """The next poses (M, P, V, C) float32 of a recording, at the network's frame rate, in its coordinates.

        If the view centres every frame on the first body, the place of that body is not predicted: it stays at its last
        place. A body or joint that is absent from the last frame is 0.

        Args:
            recorded: the recording.
            count: P; None for as many as the run predicted.

        Raises:
            RecordingError: the recording has other joints, fewer frames after the last cut than the network sees, or
                no body in the last frame.
        """
        self.members[0].refuse_other_joints(recorded)
        begin = find_cuts(recorded.recording, recorded.frame_rate or self.frame_rate)[-1:]
        part = recorded.tracks
        if begin:  # frames before the cut belong to another scene
            part = recorded.choose(recorded.recording.part(begin[0], recorded.recording.num_frame))
        tracks = resample(part, recorded.frame_rate, self.frame_rate)[: self._num_body]
        num_frame = tracks.shape[1]
        if num_frame < self.observe:
            at = "" if self.frame_rate is None else f" at {self.frame_rate:g} frames a second"
            after = f" after the cut at frame {begin[0]}" if begin else ""
            raise RecordingError(
                None,
                f"{num_frame} frames{at}{after}, and the network sees {self.observe}; give a longer recording",
            )
        last = torch.from_numpy(tracks[:, -1])
        if not last.any():
            raise RecordingError(None, "no body in the last frame, so that no pose can be predicted")
        device = self.members[0].experiment.device
        batch = RaggedBatch.of_tracks([torch.from_numpy(tracks).to(device)])
        bodies = batch.tracks(len(tracks))
        positions = torch.arange(num_frame - self.observe, num_frame, dtype=torch.float64)[None]
        normalisation = NORMALISE[self._view.normalise]
        seen, matrix = normalisation.apply(batch, bodies, positions, self.skeleton, self.members[0].channels)
        if matrix is not None:
            seen = seen @ matrix.mT
        x, present = (
            place(each, bodies, num_clip=1, num_body=len(tracks))
            for each in (seen, batch.present(bodies, positions))
        )
        clip = Clip(x.permute(0, 4, 2, 3, 1), present)
        count = self.predict if count is None else count
        futures = [roll_out(member.method.forecast, clip, count) for member in self.members]
        moved = torch.stack(futures).mean(0)[0].permute(3, 1, 2, 0)  # (M, P, V, C)
        turn = None if matrix is None else matrix[:, -1]
        return as_recorded(moved, seen[:, -1], turn, last.to(device)).cpu().numpy()


def _seen_by(member: Trained, other: Trained) -> dict[str, tuple[object, object]]:
    """What two networks of `prediction` must have in common, in words, and what each has."""
    mine, others = member.config, other.config
    assert isinstance(mine, PredictionConfig)
    assert isinstance(others, PredictionConfig)
    return {
        "layout": (member.skeleton.name, other.skeleton.name),
        "channels": (member.channels, other.channels),
        "frame rate": (member.frame_rate, other.frame_rate),
        "observe": (mine.observe, others.observe),
        "test_view.normalise": (mine.test_view.normalise, others.test_view.normalise),
        "data.num_body": (mine.data.num_body, others.data.num_body),
    }
