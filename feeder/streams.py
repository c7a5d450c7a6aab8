"""Streams: what of a moving skeleton a network sees. Each is linear, and made of a view's frames as they are.

Shapes: poses (..., T, V, C); the joints' parents come from the `Skeleton`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from feeder.ragged import constant


def joint(poses: Tensor, parents: Sequence[int]) -> Tensor:
    """Positions."""
    return poses


def bone(poses: Tensor, parents: Sequence[int]) -> Tensor:
    """Joint minus its parent; zero at the root."""
    return poses - poses.index_select(-2, constant(tuple(parents), torch.int64, poses.device))


def motion(poses: Tensor, parents: Sequence[int]) -> Tensor:
    """Next frame minus this one; zero in the last frame."""
    moved = torch.zeros_like(poses)
    torch.sub(poses[..., 1:, :, :], poses[..., :-1, :, :], out=moved[..., :-1, :, :])
    return moved


def bone_motion(poses: Tensor, parents: Sequence[int]) -> Tensor:
    """Motion of the bones."""
    return motion(bone(poses, parents), parents)


# Streams whose frames are differences between frames.
MOVING = (motion.__name__, bone_motion.__name__)

STREAMS: dict[str, Callable[[Tensor, Sequence[int]], Tensor]] = {
    stream.__name__: stream for stream in (joint, bone, motion, bone_motion)
}
