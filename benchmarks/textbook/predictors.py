"""siMLPe (Guo et al. 2023) and the mixer for pose prediction, over all bodies of (N, C, T, V, M), absent ones too."""

import math

import torch
from torch import Tensor, nn


def cosine_transform(size: int) -> Tensor:
    """(size, size), by its formula: the orthonormal DCT-II."""
    rows = [
        [math.cos(math.pi / size * (frame + 0.5) * order) * math.sqrt(2 / size) for frame in range(size)]
        for order in range(size)
    ]
    matrix = torch.tensor(rows)
    matrix[0] /= math.sqrt(2)
    return matrix


class OverTime(nn.Module):
    """A linear layer over frames and a layer norm over channels."""

    def __init__(self, num_frame: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(num_frame, num_frame), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.norm(self.linear(x.transpose(1, 2).contiguous()).transpose(1, 2).contiguous())


class MixerBlock(nn.Module):
    """Over frames, then an MLP over channels."""

    def __init__(self, num_frame: int, width: int) -> None:
        super().__init__()
        self.over_time = OverTime(num_frame, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + nn.functional.gelu(self.over_time(x))
        return x + self.mlp(x)


class SiMLPe(nn.Module):
    """Blocks over frames of the T poses seen; the first P frames of the result are displacements."""

    dct: Tensor

    def __init__(self, num_joint: int, num_observe: int, num_predict: int, num_block: int) -> None:
        super().__init__()
        width = 3 * num_joint
        self.register_buffer("dct", cosine_transform(num_observe))
        self.num_predict = num_predict
        self.first = nn.Linear(width, width)
        self.blocks = nn.ModuleList(OverTime(num_observe, width) for _ in range(num_block))
        self.last = nn.Linear(width, width)

    def forward(self, poses: Tensor) -> Tensor:
        """Next poses (B, P, K) of poses (B, T, K)."""
        y = self.first(torch.matmul(self.dct, poses))
        for block in self.blocks:
            y = y + block(y)
        return poses[:, -1:] + torch.matmul(self.dct.t(), self.last(y))[:, : self.num_predict]


class Mixer(nn.Module):
    """Blocks over frames and channels; the last P frames of the result are displacements."""

    dct: Tensor

    def __init__(
        self, num_joint: int, num_observe: int, num_predict: int, width: int, num_block: int
    ) -> None:
        super().__init__()
        num_frame = num_observe + num_predict
        self.register_buffer("dct", cosine_transform(num_frame))
        self.num_predict = num_predict
        self.first = nn.Linear(3 * num_joint, width)
        self.blocks = nn.ModuleList(MixerBlock(num_frame, width) for _ in range(num_block))
        self.last = nn.Linear(width, 3 * num_joint)

    def forward(self, poses: Tensor) -> Tensor:
        """Next poses (B, P, K) of poses (B, T, K)."""
        whole = torch.cat([poses, poses[:, -1:].repeat(1, self.num_predict, 1)], dim=1)
        y = self.first(torch.matmul(self.dct, whole))
        for block in self.blocks:
            y = block(y)
        return poses[:, -1:] + torch.matmul(self.dct.t(), self.last(y))[:, -self.num_predict :]


def rows(clips: Tensor) -> Tensor:
    """Poses (N * M, T, V * C) of clips (N, C, T, V, M)."""
    n, c, t, v, m = clips.shape
    return clips.permute(0, 4, 2, 3, 1).reshape(n * m, t, v * c)


def loss(network: nn.Module, seen: Tensor, future: Tensor) -> Tensor:
    """Mean distance of joints, plus that of their velocities; seen, future: (N, C, T or P, V, M)."""
    predicted, true = network(rows(seen)), rows(future)
    velocities = predicted[:, 1:] - predicted[:, :-1], true[:, 1:] - true[:, :-1]
    return distance(predicted, true) + distance(*velocities)


def distance(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean distance of joints of poses (B, P, V * 3)."""
    return (predicted - true).reshape(*true.shape[:2], -1, 3).norm(dim=3).mean()
