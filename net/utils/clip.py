"""Clips with who is there in them: what the feeder hands to networks and losses.

N clips, C channels, T frames, P future frames, V joints, M bodies.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from net.utils.channels import joints_there


class Clip(NamedTuple):
    """N clips, seen in one view.

    x: (N, C, T, V, M), 0 where a body is absent.
    present: (N, M, T) bool, which body is there in which frame.
    """

    x: Tensor
    present: Tensor

    @classmethod
    def of(cls, x: Tensor, present: Tensor | None = None) -> "Clip":
        """Clips (N, C, T, V, M) from outside; without `present` a body is in the frames where it is not 0.

        Raises:
            ValueError: x has another number of axes.
        """
        if x.dim() != 5:
            raise ValueError(f"input has shape {tuple(x.shape)}; clips are (N, C, T, V, M)")
        return cls(x, presence(x) if present is None else present)

    def frames(self, first: int | None, last: int | None) -> "Clip":
        """Frames `first` to `last`, as a slice has them."""
        return Clip(self.x[:, :, first:last], self.present[:, :, first:last])


@dataclass
class Batch:
    """N clips as a loader makes them.

    views: one per view asked for: the frames that are seen. Of features (N, D) in place of poses, `present` has one
        frame for the whole clip.
    future: the P frames after those of the first view; None where no loss needs them.
    label, index, num_body: (N,) int64; `label` is -1 for a clip without one, `index` the place in the feeder,
        `num_body` how many bodies are there.
    """

    views: list[Clip]
    future: Clip | None
    label: Tensor
    index: Tensor
    num_body: Tensor


def presence(x: Tensor) -> Tensor:
    """Which bodies of clips x (N, C, T, V, M) are not 0 in which frames, (N, M, T) bool."""
    return (x != 0).permute(0, 4, 2, 3, 1).flatten(3).any(3)


def seen_joints(poses: Tensor, present: Tensor) -> Tensor:
    """Which joints of poses (..., V, C) are there, (..., V) bool: of bodies `present` (...), those not at 0."""
    return joints_there(poses) & present[..., None]
