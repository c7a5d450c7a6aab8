"""Views of clips of equal length, by operations that `torch.export` can record as a graph.

Shapes: N clips, M bodies, B = N * M bodies in all, T frames, V joints, C channels, D coordinates among them.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.augment import DirectStep, LinearStep, UnitBox, with_confidence
from feeder.normalise import Frames, first_seen, hold_last_seen
from feeder.views import View
from net.utils.channels import joints_there, num_coordinate


class DenseClips:
    """`feeder.normalise.Clips` of equal length; no operation is in place.

    bodies: (N, M, T, V, C), as recorded; absent bodies and joints are zero.
    channels: a letter for each of C; see `net.utils.channels`.
    """

    def __init__(self, bodies: Tensor, channels: str) -> None:
        self.bodies, self.coordinates = bodies, bodies[..., : num_coordinate(channels)]

    def poses(self, origin: Callable[[Frames], Tensor] | None = None) -> Tensor:
        """See `Clips`."""
        poses = self.bodies.flatten(0, 1)
        if origin is None:
            return poses
        there = joints_there(poses)[..., None]
        begin = origin(slice(None))[:, :, None]
        begin = F.pad(begin, (0, poses.shape[-1] - begin.shape[-1]))
        return torch.where(there, poses - begin, 0)

    def centred_poses(self, joint: int) -> Tensor:
        """See `Clips`."""
        poses = self.poses()
        return poses - poses[:, :, joint, None]

    def first_body(self, joint: int) -> Callable[[Frames], Tensor]:
        """See `Clips`."""
        held = hold_last_seen(self.coordinates[:, 0, :, joint])
        return lambda frame: self.of_tracks(held[:, frame])

    def first_pose(self, joint: int) -> Tensor:
        """See `Clips`."""
        first = self.coordinates[:, 0]
        frame = first_seen(first[:, :, joint])[:, None, None, None]
        return first.gather(1, frame.expand(-1, 1, *first.shape[2:]))[:, 0]

    def whole_clip(self, joints: Sequence[int], channel: int) -> Tensor:
        """See `Clips`."""
        poses = self.poses()
        return torch.stack([poses[:, :, joint, channel] for joint in joints], -1)

    def of_tracks(self, values: Tensor) -> Tensor:
        """See `Clips`."""
        return values[:, None].expand(-1, self.bodies.shape[1], *values.shape[1:]).flatten(0, 1)


class DenseView(nn.Module):
    """A view without random steps, for clips that already have its frames.

    view: its `deterministic()` version is used, without sampling.

    Raises ValueError: a step in space cannot be recorded.
    """

    def __init__(self, view: View) -> None:
        super().__init__()
        self.channels = view.channels
        self.skeleton, self.stream, self.normalisation = view.skeleton, view.stream, view.base.normalise
        self.steps = [_recordable(step, view.channels) for step in view.deterministic().augment]

    def forward(self, poses: Tensor) -> Tensor:
        """The network's input (N, C, T, V, M) from poses (N, T, V, C, M), as recorded."""
        bodies, _ = self.normalise(poses.permute(0, 4, 1, 2, 3))
        for step in self.steps:
            bodies = step(bodies)
        return self.stream(bodies, self.skeleton.parents, self.channels).permute(0, 4, 2, 3, 1)

    def normalise(self, bodies: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalised bodies (N, M, T, V, C), and the matrices (B, 1 or T, D, D) applied to them, or None."""
        poses, matrix = self.normalisation.of(DenseClips(bodies, self.channels), self.skeleton)
        if matrix is not None:
            poses = poses @ matrix.mT
        return poses.unflatten(0, bodies.shape[:2]), matrix


def _recordable(step: LinearStep | DirectStep, channels: str) -> Callable[[Tensor], Tensor]:
    """The function on bodies (N, M, T, V, C) of a step without randomness."""
    if isinstance(step, UnitBox):
        return partial(step.apply_dense, channels=channels)
    count = num_coordinate(channels)
    drawn = step.draw(1, count, torch.Generator()) if isinstance(step, LinearStep) else None
    if drawn is not None and drawn.matrix is not None and drawn.swap is None:
        turned = drawn.matrix[0].mT
        return lambda bodies: with_confidence(bodies[..., :count] @ turned, bodies, channels)
    raise ValueError(f"augment step {type(step).__name__} cannot be part of a graph")
