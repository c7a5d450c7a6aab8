"""Streams, the input features of a network: joints, bones and their motion (2s-AGCN, Shi et al., CVPR 2019).

Shapes: poses (..., T, V, C); `parents` (V,) are those of the `Skeleton`. The last of the channels "xyc" is confidence.
The confidence of a difference is the smaller one of its two ends. The difference is zero if one end was not seen.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from feeder.ragged import constant
from net.utils.channels import has_confidence, joints_there


def joint(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Positions of the joints, (..., T, V, C): the poses themselves."""
    return poses


def bone(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Each joint minus its parent, (..., T, V, C); zero at the root."""
    of_parents = poses.index_select(-2, constant(tuple(parents), torch.int64, poses.device))
    return _difference(poses, of_parents, channels)


def motion(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Next frame minus this one, (..., T, V, C); zero in the last frame."""
    moved = _difference(poses[..., 1:, :, :], poses[..., :-1, :, :], channels)
    return F.pad(moved, (0, 0, 0, 0, 0, 1))


def bone_motion(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Motion of the bones, (..., T, V, C)."""
    return motion(bone(poses, parents, channels), parents, channels)


def _difference(end: Tensor, begin: Tensor, channels: str) -> Tensor:
    """`end` (..., C) minus `begin` (..., C)."""
    if not has_confidence(channels):
        return end - begin
    # By position, not by confidence: joints interpolated over a gap have confidence 0.
    there = (joints_there(end) & joints_there(begin))[..., None]
    confidence = torch.minimum(end[..., -1:], begin[..., -1:])
    return torch.cat(((end - begin)[..., :-1] * there, confidence), -1)


# Streams whose frames are differences between frames.
MOVING = (motion.__name__, bone_motion.__name__)

STREAMS: dict[str, Callable[[Tensor, Sequence[int], str], Tensor]] = {
    stream.__name__: stream for stream in (joint, bone, motion, bone_motion)
}
