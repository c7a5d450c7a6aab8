"""Clips with the presence of their bodies: what the feeder gives to networks and losses.

N clips, C channels, T frames, P future frames, V joints, M bodies.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from net.utils.channels import joints_there


class Clip(NamedTuple):
    """One view of N clips.

    x: (N, C, T, V, M), 0 where a body is absent.
    present: (N, M, T) bool, in which frames each body is present.
    """

    x: Tensor
    present: Tensor

    @classmethod
    def of(cls, x: Tensor, present: Tensor | None = None) -> "Clip":
        """A `Clip` of x (N, C, T, V, M) and `present` (N, M, T); see `presence` if that is None.

        Raises:
            ValueError: x has another number of axes.
        """
        if x.dim() != 5:
            raise ValueError(f"input has shape {tuple(x.shape)}; clips are (N, C, T, V, M)")
        return cls(x, presence(x) if present is None else present)

    def frames(self, first: int | None, last: int | None) -> "Clip":
        """The frames [first:last]."""
        return Clip(self.x[:, :, first:last], self.present[:, :, first:last])


@dataclass
class Batch:
    """N clips as a loader gives them.

    views: one `Clip` for each requested view, with the frames that are seen. For features (N, D) instead of poses,
        `present` has one frame for the whole clip.
    future: the P frames after those of the first view; None if no loss needs them.
    label: (N,) int64, -1 for a clip without a label.
    index: (N,) int64, the index in the feeder.
    num_body: (N,) int64, the number of present bodies.
    generator: on the host, for what a method draws; it depends only on the seed, the epoch and the number of the
        batch. None draws from torch's global one.
    """

    views: list[Clip]
    future: Clip | None
    label: Tensor
    index: Tensor
    num_body: Tensor
    generator: torch.Generator | None = None


def presence(x: Tensor) -> Tensor:
    """In which frames each body of clips x (N, C, T, V, M) has a number other than 0, (N, M, T) bool."""
    return (x != 0).permute(0, 4, 2, 3, 1).flatten(3).any(3)


def seen_joints(poses: Tensor, present: Tensor) -> Tensor:
    """Which joints of poses (..., V, C) were seen, (..., V) bool: those of bodies `present` (...) that are not 0."""
    return joints_there(poses) & present[..., None]
