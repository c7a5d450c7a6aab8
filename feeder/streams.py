"""Streams: what of a moving skeleton a network sees. Each is linear, and made of a view's frames as they are.

Shapes: poses (..., T, V, C); the joints' parents come from the `Skeleton`. Confidence, the last of the channels
"xyc", is no place: a difference has the smaller one of its two ends, and is zero where one of them was not seen.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from feeder.ragged import constant
from net.utils.channels import has_confidence, joints_there


def joint(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Positions."""
    return poses


def bone(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Joint minus its parent; zero at the root."""
    of_parents = poses.index_select(-2, constant(tuple(parents), torch.int64, poses.device))
    return _difference(poses, of_parents, channels)


def motion(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Next frame minus this one; zero in the last frame."""
    moved = _difference(poses[..., 1:, :, :], poses[..., :-1, :, :], channels)
    return F.pad(moved, (0, 0, 0, 0, 0, 1))


def bone_motion(poses: Tensor, parents: Sequence[int], channels: str = "xyz") -> Tensor:
    """Motion of the bones."""
    return motion(bone(poses, parents, channels), parents, channels)


def _difference(end: Tensor, begin: Tensor, channels: str) -> Tensor:
    """From poses `begin` (..., C) to poses `end` (..., C)."""
    if not has_confidence(channels):
        return end - begin
    # Where a gap was filled there is a place without confidence.
    there = (joints_there(end) & joints_there(begin))[..., None]
    confidence = torch.minimum(end[..., -1:], begin[..., -1:])
    return torch.cat(((end - begin)[..., :-1] * there, confidence), -1)


# Streams whose frames are differences between frames.
MOVING = (motion.__name__, bone_motion.__name__)

STREAMS: dict[str, Callable[[Tensor, Sequence[int], str], Tensor]] = {
    stream.__name__: stream for stream in (joint, bone, motion, bone_motion)
}
