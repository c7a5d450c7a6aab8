"""Dropout that does not hold up a CPU."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout`, which on the CPU takes some 8 times as long: here 8 or 16 random bits decide about each number.

    The probability is rounded to 1 / 65536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if x.device.type != "cpu" or not self.training or not 0 < self.p < 1:
            return super().forward(x)
        width, kind = (8, torch.int8) if (self.p * 2**8).is_integer() else (16, torch.int16)
        dropped = min(round(self.p * 2**width), 2**width - 1)
        words = torch.empty(-(-x.numel() * width // 64), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(kind)[: x.numel()].ge_(dropped - 2 ** (width - 1)).view(x.shape).to(x.dtype)
        kept *= 2**width / (2**width - dropped)
        return x.mul_(kept) if self.inplace else x * kept
