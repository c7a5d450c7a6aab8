"""Future poses: which joints can be scored, the error of a prediction, and a decoder that predicts poses.

N clips, M bodies of a clip, B bodies of all clips, C channels of a joint, T frames seen, P future frames, V joints,
D channels of the feature. A confidence is not predicted: it keeps its value in the last frame seen.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.loss import at_least_float32
from net.utils.channels import num_predictable
from net.utils.clip import seen_joints
from net.utils.gcn import Neighbours, SpatialGraphConv, SpatialTemporalBlock
from net.utils.graph import Graph
from net.utils.tracing import is_empty


def body_poses(clips: Tensor, rows: Tensor | None) -> Tensor:
    """Poses (B, T, V, C) of clips (N, C, T, V, M): of all bodies, or of those at `rows` (B,) among all N * M."""
    bodies = clips.permute(0, 4, 2, 3, 1).flatten(0, 1)
    return bodies if rows is None else bodies.index_select(0, rows)


def scored_joints(target: Tensor, last: Tensor, present: Tensor, last_present: Tensor) -> Tensor:
    """Which joints of a prediction can be scored, (..., P, V) bool: those seen in the target and in the last frame.

    A joint at 0 is not scored: either it was not seen, or the poses are centred on it and there is nothing to predict.

    Args:
        target: (..., P, V, C).
        last: (..., V, C), the last frame seen.
        present: (..., P) bool, whether the body is present in the target.
        last_present: (...) bool, whether the body is present in `last`.
    """
    return seen_joints(target, present) & seen_joints(last, last_present)[..., None, :]


def add_displacement(last: Tensor, displacement: Tensor, last_present: Tensor) -> Tensor:
    """The last poses plus displacements, (B, P, V, C).

    A joint that is 0 in the last pose stays 0: it was not seen, or poses are centred on it. Such a joint is never
    scored. Without this, its prediction would be free to lower other losses, and would enter further predictions.

    last: (B, V, C), the last frame seen.
    displacement: (B, P, V, D), of the D coordinates. A confidence behind them stays as in `last`.
    last_present: (B,) bool, whether the body is present in `last`.
    """
    displacement = F.pad(displacement, (0, last.shape[-1] - displacement.shape[-1]))
    return (last[:, None] + displacement) * seen_joints(last, last_present)[:, None, :, None]


def unit_poses(poses: Tensor) -> Tensor:
    """Poses (B, P, V, C) without place and size, as rows (B, P * V * C): centred and scaled to length 1.

    A row that is shorter than 1e-3 (a millimetre) is divided by 1e-3 instead, which bounds the gradient.
    """
    centred = at_least_float32(poses)
    centred = centred - centred.mean((1, 2), keepdim=True)
    return F.normalize(centred.flatten(1), dim=1, eps=1e-3)


def mean_squared_error(predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Mean squared error of poses (B, P, V, C) over the coordinates of the joints `scored` (B, P, V): ().

    Its unit is that of the poses, squared.
    """
    squared = (at_least_float32(predicted) - at_least_float32(target)).square().mean(-1)
    return _masked_mean(squared, scored)


def mean_distance(predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """MPJPE: mean distance of poses (B, P, V, C) over the joints `scored` (B, P, V), in the poses' unit, ()."""
    # 1e-12 is added because the norm has no derivative at 0.
    squared = (at_least_float32(predicted) - at_least_float32(target)).square().sum(-1)
    return _masked_mean((squared + 1e-12).sqrt(), scored)


def _masked_mean(value: Tensor, scored: Tensor) -> Tensor:
    return (value * scored).sum() / scored.sum().clamp(min=1)


class FutureDecoder(nn.Module):
    """Predicts the next poses of a body from its feature maps and its recent motion.

    The output is a displacement from the last pose. The last layer is initialised with 0, so an untrained decoder
    predicts bodies that stand still.

    feature_dim: D of the maps.
    in_channels: C.
    channels: names of the C, see `net.utils.channels`; None if all of them are coordinates.
    num_predict: P.
    layout: see `net.utils.graph.Graph`.
    decoder_hidden: channels of the blocks.
    decoder_block: number of graph convolutions, each with a residual connection.
    num_recent: R, number of the last frames whose poses are a second input, relative to the last pose. A joint that is
        not seen in both poses is 0 there.

    Raises ValueError for sizes below 1, or `channels` that do not match in_channels.
    """

    A: Tensor

    def __init__(
        self,
        feature_dim: int,
        in_channels: int,
        *,
        num_predict: int,
        layout: str,
        decoder_hidden: int,
        decoder_block: int,
        num_recent: int,
        channels: str | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "num_predict": num_predict,
            "decoder_hidden": decoder_hidden,
            "decoder_block": decoder_block,
            "num_recent": num_recent,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")
        A = torch.tensor(Graph(layout).A, dtype=torch.float32)
        self.register_buffer("A", A)
        self.num_predict, self.num_recent = num_predict, num_recent
        self.num_coordinate = num_predictable(channels, in_channels)
        self.from_maps = nn.Conv2d(2 * feature_dim, decoder_hidden, 1)
        self.recent_bn = nn.BatchNorm2d(num_recent * in_channels)
        neighbours = Neighbours(A != 0)
        dims = [decoder_hidden + num_recent * in_channels] + [decoder_hidden] * decoder_block
        self.blocks = nn.ModuleList(
            SpatialTemporalBlock(SpatialGraphConv(in_dim, out_dim, neighbours=neighbours), kernel_size=1)
            for in_dim, out_dim in pairwise(dims)
        )
        self.out = nn.Conv2d(decoder_hidden, num_predict * self.num_coordinate, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor, bodies: Tensor, present: Tensor) -> Tensor:
        """The next P poses (B, P, V, C), from maps (B, D, T', V) and the poses seen, `bodies` (B, T, V, C).

        present: (B, T) bool, in which frames the bodies are present.
        """
        last = bodies[:, -1]
        if is_empty(bodies):
            return bodies.new_zeros(0, self.num_predict, *bodies.shape[2:])
        # A clip with fewer frames repeats its first.
        frame = torch.arange(-self.num_recent, 0, device=bodies.device).add(bodies.shape[1]).clamp(min=0)
        recent = bodies.index_select(1, frame)
        # Joints not seen in both poses have motion 0: a whole pose instead would dominate the batch norm's statistics.
        seen = (
            seen_joints(recent, present.index_select(1, frame)) & seen_joints(last, present[:, -1])[:, None]
        )
        recent = (recent - last[:, None]) * seen[..., None]
        recent = recent.transpose(2, 3).flatten(1, 2)[:, :, None]  # (B, R * C, 1, V)
        # By way of (B, T', V, D), so that the gradient is in channels-last memory.
        of_frames = maps.permute(0, 2, 3, 1)
        summary = torch.cat((of_frames[:, -1:], of_frames.mean(1, keepdim=True)), 3)
        y = self.from_maps(summary.permute(0, 3, 1, 2))
        y = torch.cat((y, self.recent_bn(recent).to(y.dtype)), 1)
        for block in self.blocks:
            y = block(y, self.A)
        displacement = self.out(y)[:, :, 0].unflatten(1, (self.num_predict, self.num_coordinate))
        return add_displacement(last, displacement.transpose(2, 3), present[:, -1])
