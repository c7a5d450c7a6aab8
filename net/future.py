"""The poses to come: which of them can be judged, how far off a prediction is, and a decoder that predicts them.

N clips, M bodies, B bodies in all, C coordinates, T frames seen, P frames to come, V joints, D channels of the feature.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from net.loss import at_least_float32
from net.utils.backbone import Backbone
from net.utils.gcn import Neighbours, SpatialGraphConv, SpatialTemporalBlock
from net.utils.graph import Graph


def body_poses(clips: Tensor, present: Tensor | None) -> Tensor:
    """Poses (B, T, V, C) of clips (N, C, T, V, M): of all bodies, or of those `present` (N, M)."""
    bodies = clips.permute(0, 4, 2, 3, 1)
    return bodies.flatten(0, 1) if present is None else bodies[present]


def scored_joints(target: Tensor, last: Tensor) -> Tensor:
    """Where a prediction can be judged: joints that are there, then and in the last frame seen, (B, P, V) bool.

    A joint that is not there has only zeros.

    Args:
        target: (B, P, V, C).
        last: (B, V, C).
    """
    return (target != 0).any(-1) & (last != 0).any(-1)[:, None]


def mean_squared_error(predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Mean over the coordinates (B, P, V, C) of the joints `scored` (B, P, V), in metres squared: ()."""
    squared = (at_least_float32(predicted) - at_least_float32(target)).square().mean(-1)
    return _masked_mean(squared, scored)


def mean_distance(predicted: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Mean distance of the joints (B, P, V, C) that are `scored` (B, P, V), in metres: MPJPE, ()."""
    # The norm has no derivative at 0.
    squared = (at_least_float32(predicted) - at_least_float32(target)).square().sum(-1)
    return _masked_mean((squared + 1e-12).sqrt(), scored)


def _masked_mean(value: Tensor, scored: Tensor) -> Tensor:
    return (value * scored).sum() / scored.sum().clamp(min=1)
