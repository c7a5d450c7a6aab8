"""Dropout that is fast on CPUs."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout`, about 8 times as fast on the CPU: it draws only 8 or 16 random bits for each number.

    On the CPU, the probability is rounded to a multiple of 1 / 65536.
    """

    def forward(self, x: Tensor) -> Tensor:
        """X of any shape, with random entries set to 0 and the others scaled up."""
        if x.device.type != "cpu" or not self.training or not 0 < self.p < 1:
            return super().forward(x)
        num_bit, dtype = (8, torch.int8) if (self.p * 2**8).is_integer() else (16, torch.int16)
        dropped = min(round(self.p * 2**num_bit), 2**num_bit - 1)
        words = torch.empty(-(-x.numel() * num_bit // 64), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(dtype)[: x.numel()].ge_(dropped - 2 ** (num_bit - 1)).view(x.shape).to(x.dtype)
        kept *= 2**num_bit / (2**num_bit - dropped)
        return x.mul_(kept) if self.inplace else x * kept
