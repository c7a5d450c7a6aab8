"""Networks that only predict poses, without an encoder of actions.

N clips, M bodies of a clip, B present bodies, C channels, D of them coordinates, T frames seen, P future frames,
V joints, K = V * D numbers of a pose.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from net.encoder import at_bodies, place_bodies, split_bodies
from net.future import add_displacement, mean_distance, scored_joints
from net.loss import at_least_float32
from net.method import FUTURE, POSES, Loss, Method, Output, no_loss
from net.mirror import Mirror
from net.utils.channels import num_predictable
from net.utils.clip import Batch, Clip, seen_joints
from net.utils.layouts import get_skeleton


class Predictor(Method):
    """Trains a network that maps the poses seen of one body to displacements from its last pose.

    A subclass gives `displacement`.

    num_observe: T.
    num_predict: P.
    channels: names of the C, see `net.utils.channels`; None if all are coordinates.
    mirror: `forecast` gives the mean for a clip and its mirror image, see `net.mirror.Mirror`. The network should be
        trained on mirrored poses, too.

    Losses: `future`, the mean distance between predicted and true joints; `velocity`, the same of the differences
    between successive predicted frames (as in siMLPe, Guo et al., WACV 2023). Both are in the unit of the view.

    Raises ValueError for sizes below 1, or `channels` that do not match in_channels.
    """

    LOSSES = (Loss("future", needs=(FUTURE, POSES)), Loss("velocity", needs=(FUTURE, POSES)))

    def __init__(
        self,
        in_channels: int,
        *,
        layout: str,
        num_observe: int,
        num_predict: int,
        channels: str | None,
        mirror: bool,
    ) -> None:
        super().__init__()
        for name, size in {"num_observe": num_observe, "num_predict": num_predict}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; give 1 frame or more")
        self.in_channels, self.num_observe, self.num_predict = in_channels, num_observe, num_predict
        self.num_coordinate = num_predictable(channels, in_channels)
        self.num_joint = get_skeleton(layout).num_joint
        self.mirror = Mirror(layout, in_channels) if mirror else None

    @property
    def pose_dim(self) -> int:
        """K."""
        return self.num_joint * self.num_coordinate

    def displacement(self, poses: Tensor) -> Tensor:
        """Displacements (P, B, K) from the last of the poses (T, B, K)."""
        raise NotImplementedError

    @property
    def varies_batch(self) -> bool:
        """See `Method`; absent bodies are left out."""
        return True

    @property
    def has_unused_parameters(self) -> bool:
        """See `Method`."""
        return False

    def missing_losses(self, active: Collection[str]) -> tuple[str, ...]:
        """See `Method`."""
        return ()

    def parameter_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """See `Method`."""
        return {}

    def encoder_layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Method`."""
        return ()

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Method`."""
        return state

    def forecast(self, clip: Clip) -> Tensor:
        """See `Method`."""
        return self._forecast(clip) if self.mirror is None else self.mirror.mean(self._forecast, clip)

    def _forecast(self, clip: Clip) -> Tensor:
        poses, present, mask = self._split(clip)
        return place_bodies(self._predict(poses, present), clip.x.shape[0], mask).permute(0, 4, 2, 3, 1)

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`."""
        clip, ahead = batch.views[0], batch.future
        assert ahead is not None
        poses, present, mask = self._split(clip)
        if not len(poses):
            return Output(dict.fromkeys(wanted, no_loss(self)))
        predicted = self._predict(poses, present)
        target = ahead.x.permute(0, 4, 2, 3, 1)[mask]
        scored = scored_joints(target, poses[:, -1], ahead.present[mask], present[:, -1])
        predicted, target = (
            at_least_float32(each[..., : self.num_coordinate]) for each in (predicted, target)
        )
        losses = {}
        if "future" in wanted:
            losses["future"] = mean_distance(predicted, target, scored)
        if "velocity" in wanted:
            both = scored[:, 1:] & scored[:, :-1]
            losses["velocity"] = mean_distance(predicted.diff(dim=1), target.diff(dim=1), both)
        return Output(losses)

    def _split(self, clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
        """Poses (B, T, V, C) and presence (B, T) of the present bodies, and which they are among all, (N, M) bool.

        Raises ValueError: the clips have another shape.
        """
        if clip.x.shape[2] != self.num_observe:
            raise ValueError(
                f"a clip has {clip.x.shape[2]} frames, and this network sees {self.num_observe}; set observe and "
                "model_args.num_observe to the same number"
            )
        poses, mask = split_bodies(clip, self.num_joint, self.in_channels, skip_empty=True)
        assert mask is not None
        return poses, at_bodies(clip.present, mask), mask

    def _predict(self, poses: Tensor, present: Tensor) -> Tensor:
        """The next poses (B, P, V, C) of bodies that are `present` (B, T)."""
        seen = seen_joints(poses, present)
        # A joint that was not seen stands where it is in the last frame.
        whole = torch.where(seen[..., None], poses, poses[:, -1:])[..., : self.num_coordinate]
        moved = self.displacement(whole.flatten(2).transpose(0, 1)).unflatten(2, (self.num_joint, -1))
        return add_displacement(poses[:, -1], moved.transpose(0, 1).to(poses.dtype), present[:, -1])


class TimeLinear(nn.Linear):
    """A linear layer over frames. Because frames are the first axis, it is one matrix product for all bodies."""

    def forward(self, x: Tensor) -> Tensor:
        """From (T, B, K) to (T', B, K)."""
        mixed = torch.addmm(self.bias[:, None], self.weight, x.flatten(1))
        return mixed.unflatten(1, x.shape[1:])


def over_frames(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix (T', T) times the frames of x (T, B, K): (T', B, K)."""
    return (matrix @ x.flatten(1)).unflatten(1, x.shape[1:])


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II of `size` frames, (size, size) float32: its transpose is the inverse."""
    frame = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(torch.pi / size * (frame + 0.5) * frame[:, None]) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.float()
