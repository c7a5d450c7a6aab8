"""The poses to come: which of them can be judged, how far off a prediction is, and a decoder that predicts them.

N clips, M bodies, B bodies in all, C coordinates, T frames seen, P frames to come, V joints, D channels of the
feature. Where poses have a confidence, too, it stays what it was in the last frame seen.
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
    """Where a prediction can be judged: joints that are there, then and in the last frame seen, (..., P, V) bool.

    A body that is absent, has left, or is about to come is not judged. Nor is a joint at 0: it was not seen, or poses
    are centred on it, so that there is nothing to predict.

    Args:
        target: (..., P, V, C).
        last: (..., V, C).
        present: (..., P) bool, whether the body is there in the target.
        last_present: (...) bool, whether it is there in `last`.
    """
    return seen_joints(target, present) & seen_joints(last, last_present)[..., None, :]


def go_on(last: Tensor, moved: Tensor, last_present: Tensor) -> Tensor:
    """Poses (B, P, V, C) that have `moved` from the last one seen, (B, V, C), of bodies there in it, (B,).

    A joint that is not there in it, or that poses are centred on, stays where it is, at 0: it is never judged, so
    whatever was predicted for it would be free to serve other losses, and would be seen when the network goes on.

    moved: of the coordinates alone, which may be one less; the confidence behind them then stays.
    """
    moved = F.pad(moved, (0, last.shape[-1] - moved.shape[-1]))
    return (last[:, None] + moved) * seen_joints(last, last_present)[:, None, :, None]


def unit_poses(poses: Tensor) -> Tensor:
    """Poses (B, P, V, C) centred and scaled to length 1, as rows (B, P * V * C): where and how large is not told.

    Below a millimetre in all they are none, and stay short: to scale them up would make their gradient without bound.
    """
    centred = at_least_float32(poses)
    centred = centred - centred.mean((1, 2), keepdim=True)
    return F.normalize(centred.flatten(1), dim=1, eps=1e-3)


def mean_squared_error(predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Mean over the coordinates (B, P, V, C) of the joints `scored` (B, P, V), in the poses' unit, squared: ()."""
    squared = (at_least_float32(predicted) - at_least_float32(target)).square().mean(-1)
    return _masked_mean(squared, scored)


def mean_distance(predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Mean distance of the joints (B, P, V, C) that are `scored` (B, P, V), in the poses' unit: MPJPE, ()."""
    # The norm has no derivative at 0.
    squared = (at_least_float32(predicted) - at_least_float32(target)).square().sum(-1)
    return _masked_mean((squared + 1e-12).sqrt(), scored)


def _masked_mean(value: Tensor, scored: Tensor) -> Tensor:
    return (value * scored).sum() / scored.sum().clamp(min=1)


class FutureDecoder(nn.Module):
    """Predicts the next poses of a body from its feature maps and from how it moved last.

    What comes out is added to the last pose. The last layer begins at zero, that is with bodies that stand still.

    feature_dim: D of the maps.
    in_channels: C.
    channels: what the C are, see `net.utils.channels`; None if all of them are coordinates.
    num_predict: P.
    layout: see `net.utils.graph.Graph`.
    decoder_hidden: width of the blocks.
    decoder_block: graph convolutions with a residual connection.
    num_recent: frames seen last whose poses, relative to the last one, go in beside the maps; 0 for a joint that is not
        there in both.

    Raises ValueError for sizes below 1.
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
        widths = [decoder_hidden + num_recent * in_channels] + [decoder_hidden] * decoder_block
        self.blocks = nn.ModuleList(
            SpatialTemporalBlock(SpatialGraphConv(width_in, width, neighbours=neighbours), kernel_size=1)
            for width_in, width in pairwise(widths)
        )
        self.out = nn.Conv2d(decoder_hidden, num_predict * self.num_coordinate, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor, bodies: Tensor, present: Tensor) -> Tensor:
        """The next P poses (B, P, V, C), from maps (B, D, T', V) and the poses seen (B, T, V, C).

        present: (B, T) bool, in which frames seen the bodies are there.
        """
        last = bodies[:, -1]
        if is_empty(bodies):
            return bodies.new_zeros(0, self.num_predict, *bodies.shape[2:])
        # Of a clip with fewer frames the first stands for those before it.
        frame = torch.arange(-self.num_recent, 0, device=bodies.device).add(bodies.shape[1]).clamp(min=0)
        recent = bodies.index_select(1, frame)
        # What was not there in both did not move; the whole pose for a movement would outweigh all others' in the norm.
        known = seen_joints(recent, present.index_select(1, frame))
        known = known & seen_joints(last, present[:, -1])[:, None]
        recent = (recent - last[:, None]) * known[..., None]
        recent = recent.transpose(2, 3).flatten(1, 2)[:, :, None]  # (B, R * C, 1, V)
        # By way of (B, T', V, D), so that the gradient comes back in channels-last memory.
        of_frames = maps.permute(0, 2, 3, 1)
        summary = torch.cat((of_frames[:, -1:], of_frames.mean(1, keepdim=True)), 3)
        seen = self.from_maps(summary.permute(0, 3, 1, 2))
        y = torch.cat((seen, self.recent_bn(recent).to(seen.dtype)), 1)
        for block in self.blocks:
            y = block(y, self.A)
        moved = self.out(y)[:, :, 0].unflatten(1, (self.num_predict, self.num_coordinate))
        return go_on(last, moved.transpose(2, 3), present[:, -1])
