"""Predictions as the mean of those for a clip and for its mirror image.

N clips, C channels, T frames, V joints, M bodies of a clip.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from net.utils.clip import Clip
from net.utils.layouts import get_skeleton


class Mirror(nn.Module):
    """Mirrors poses along x: x is negated, left and right joints are exchanged.

    layout: of the joints.
    in_channels: C; x is the first one.
    """

    swap: Tensor
    sign: Tensor

    def __init__(self, layout: str, in_channels: int) -> None:
        super().__init__()
        self.register_buffer("swap", torch.tensor(get_skeleton(layout).swap), persistent=False)
        sign = torch.tensor([-1.0, *[1.0] * (in_channels - 1)])[:, None, None, None]
        self.register_buffer("sign", sign, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """From poses (N, C, T, V, M) to their mirror images."""
        return x.index_select(3, self.swap) * self.sign.to(x.dtype)

    def mean(self, forecast: Callable[[Clip], Tensor], clip: Clip) -> Tensor:
        """The mean of what is forecast for a clip, and the mirror image of what is forecast for its mirror image."""
        return (forecast(clip) + self(forecast(Clip(self(clip.x), clip.present)))) / 2
