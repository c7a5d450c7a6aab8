"""The same work as the project does, written the way it usually is: one clip, one frame, one joint at a time.

It is the other side of the ratios in `tools/benchmark.py` and an oracle in the tests. Nothing else uses it.
"""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_JOINT = 25


# -- preparation -------------------------------------------------------------------------------------


def read_skeleton(path: Path, max_body: int = 4) -> np.ndarray:
    """All bodies of a raw `.skeleton` file by slot, (max_body, T, V, 3) in metres, line by line."""
    with open(path) as file:
        num_frame = int(file.readline())
        data = np.zeros((max_body, num_frame, NUM_JOINT, 3), dtype=np.float32)
        for t in range(num_frame):
            for m in range(int(file.readline())):
                file.readline()
                for v in range(int(file.readline())):
                    values = [float(word) for word in file.readline().split()]
                    if m < max_body:
                        data[m, t, v] = values[:3]
    return data


def choose_bodies(data: np.ndarray, num_body: int = 2) -> np.ndarray:
    """The bodies of largest spread (standard deviations of x, y, z added), (num_body, T, V, 3)."""
    spread = []
    for body in data:
        present = body[body.sum((1, 2)) != 0]
        spread.append(sum(present[..., c].std() for c in range(3)) if len(present) else 0)
    return data[np.argsort(spread)[::-1][:num_body]]


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) that turns direction a to direction b about their common normal (Rodrigues' formula)."""
    axis = np.cross(a, b)
    if np.abs(axis).sum() < 1e-6 or np.abs(a).sum() < 1e-6:
        return np.eye(3)
    axis /= np.linalg.norm(axis)
    cosine = np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)
    angle = np.arccos(cosine)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def align_torso(data: np.ndarray) -> np.ndarray:
    """AS-GCN's pre-normalisation of (M, T, V, 3): centred on the first body's spine, upright, facing."""
    out = np.zeros_like(data)
    for m in range(len(data)):
        for t in range(data.shape[1]):
            for v in range(NUM_JOINT):
                if data[m, t, v].sum() != 0:
                    out[m, t, v] = data[m, t, v] - data[0, t, 1]
    for lower, upper, direction in ((0, 1, [0, 0, 1]), (4, 8, [1, 0, 0])):
        matrix = rotation_between(out[0, 0, upper] - out[0, 0, lower], np.array(direction))
        for m in range(len(out)):
            for t in range(out.shape[1]):
                for v in range(NUM_JOINT):
                    out[m, t, v] = matrix @ out[m, t, v]
    return out


# -- views -------------------------------------------------------------------------------------------


def resize(data: np.ndarray, num_frame: int) -> np.ndarray:
    """Linear resize in time of (C, T, V, M), half-pixel centres, edges held."""
    length = data.shape[1]
    out = np.zeros((data.shape[0], num_frame, *data.shape[2:]), dtype=np.float32)
    for t in range(num_frame):
        position = min(max((t + 0.5) * length / num_frame - 0.5, 0), length - 1)
        low = int(position)
        high = min(low + 1, length - 1)
        out[:, t] = data[:, low] * (high - position if high > low else 1) + data[:, high] * (position - low)
    return out


def align_shoulders(data: np.ndarray) -> np.ndarray:
    """AimCLR's alignment of (C, T, V, M): centred on the neck, turned about y until the shoulders face along x."""
    out = np.zeros_like(data)
    for m in range(data.shape[3]):
        line = data[:, :, 8, m] - data[:, :, 4, m]
        sense = -1 if line[2].sum() >= 0 else 1
        for t in range(data.shape[1]):
            x, _, z = line[:, t]
            angle = sense * np.arccos(x / (np.sqrt(x**2 + z**2) + 1e-4))
            cos, sin = np.cos(angle), np.sin(angle)
            matrix = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
            out[:, t, :, m] = matrix @ (data[:, t, :, m] - data[:, t, 20:21, m])
    return out


def temporal_crop(data: np.ndarray, padding_ratio: int = 6) -> np.ndarray:
    """AimCLR's temporal crop of (C, T, V, M): ends reflected by T // padding_ratio, a random window of T."""
    length = data.shape[1]
    pad = length // padding_ratio
    begin = random.randint(0, pad * 2)
    padded = np.concatenate((data[:, :pad][:, ::-1], data, data[:, -pad:][:, ::-1]), axis=1)
    return padded[:, begin : begin + length]


def shear(data: np.ndarray, amplitude: float = 0.5) -> np.ndarray:
    """AimCLR's shear of (C, T, V, M) by a random matrix with unit diagonal."""
    matrix = np.array(
        [[1 if i == j else random.uniform(-amplitude, amplitude) for j in range(3)] for i in range(3)]
    )
    return np.dot(data.transpose(1, 2, 3, 0), matrix).transpose(3, 0, 1, 2)


# -- networks ----------------------------------------------------------------------------------------


class STGCNBlock(nn.Module):
    """1x1 convolution to K subsets, then the adjacency; temporal convolution; shortcut."""

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, stride: int, residual: bool) -> None:
        super().__init__()
        self.num_subset = len(A)
        self.graph = nn.Conv2d(in_channels, out_channels * len(A), 1)
        self.importance = nn.Parameter(torch.ones_like(A))
        self.temporal = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
        )
        self.residual: nn.Module | None = None
        if residual:
            self.residual = nn.Identity()
            if in_channels != out_channels or stride != 1:
                self.residual = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
                )

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C_out, T', V)."""
        shortcut = 0 if self.residual is None else self.residual(x)
        y = self.graph(x)
        n, _, t, v = y.shape
        y = torch.einsum("nkctv,kvw->nctw", y.view(n, self.num_subset, -1, t, v), A * self.importance)
        return F.relu(self.temporal(y.contiguous()) + shortcut)


class STGCN(nn.Module):
    """ST-GCN (Yan et al. 2018) over (N, C, T, V, M): ten blocks, mean over everything, linear scores."""

    def __init__(self, A: Tensor, num_class: int, hidden_channels: int, hidden_dim: int = 256) -> None:
        super().__init__()
        h = hidden_channels
        widths = [3, h, h, h, h, 2 * h, 2 * h, 2 * h, 4 * h, 4 * h, hidden_dim]
        self.register_buffer("A", A)
        self.data_bn = nn.BatchNorm1d(3 * A.shape[-1])
        self.blocks = nn.ModuleList(
            STGCNBlock(i, o, A, stride=2 if k in (4, 7) else 1, residual=k > 0)
            for k, (i, o) in enumerate(pairwise(widths))
        )
        self.head = nn.Linear(hidden_dim, num_class)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, num_class)."""
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for block in self.blocks:
            x = block(x, self.A)
        return self.head(x.mean((2, 3)).view(n, m, -1).mean(1))


class CTRGC(nn.Module):
    """Channel-wise topology refinement of one subset (Chen et al. 2021, eq. 2-5)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        relation = 8 if in_channels == 3 else in_channels // 8
        self.conv1 = nn.Conv2d(in_channels, relation, 1)
        self.conv2 = nn.Conv2d(in_channels, relation, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(relation, out_channels, 1)

    def forward(self, x: Tensor, A: Tensor, alpha: Tensor) -> Tensor:
        """(N, C, T, V), (V, V) -> (N, C_out, T, V)."""
        a, b, value = self.conv1(x).mean(2), self.conv2(x).mean(2), self.conv3(x)
        topology = self.conv4(torch.tanh(a.unsqueeze(-1) - b.unsqueeze(-2))) * alpha + A
        return torch.einsum("ncuv,nctv->nctu", topology, value)


class CTRGCNBlock(nn.Module):
    """Three refined graph convolutions, then four temporal branches, each with a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, stride: int, residual: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(CTRGC(in_channels, out_channels) for _ in A)
        self.PA = nn.Parameter(A.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(out_channels)
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        width = out_channels // 4

        def entry() -> list[nn.Module]:
            return [nn.Conv2d(out_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU()]

        self.branches = nn.ModuleList(
            nn.Sequential(
                *entry(),
                nn.Conv2d(width, width, (5, 1), (stride, 1), (2 * dilation, 0), (dilation, 1)),
                nn.BatchNorm2d(width),
            )
            for dilation in (1, 2)
        )
        self.branches.append(
            nn.Sequential(*entry(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(width))
        )
        self.branches.append(
            nn.Sequential(nn.Conv2d(out_channels, width, 1, (stride, 1)), nn.BatchNorm2d(width))
        )
        self.residual: nn.Module | None = None
        if residual:
            self.residual = nn.Identity()
            if in_channels != out_channels or stride != 1:
                self.residual = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
                )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C_out, T', V)."""
        y = sum(conv(x, A, self.alpha) for conv, A in zip(self.convs, self.PA, strict=True))
        y = F.relu(self.bn(y) + self.down(x))
        y = torch.cat([branch(y) for branch in self.branches], dim=1)
        return F.relu(y if self.residual is None else y + self.residual(x))


class CTRGCN(nn.Module):
    """CTR-GCN (Chen et al. 2021) over (N, C, T, V, M): ten blocks, mean over everything, linear scores."""

    def __init__(self, A: Tensor, num_class: int, num_body: int = 2, base_channels: int = 64) -> None:
        super().__init__()
        b = base_channels
        widths = [3, b, b, b, b, 2 * b, 2 * b, 2 * b, 4 * b, 4 * b, 4 * b]
        self.data_bn = nn.BatchNorm1d(num_body * 3 * A.shape[-1])
        self.blocks = nn.ModuleList(
            CTRGCNBlock(i, o, A, stride=2 if k in (4, 7) else 1, residual=k > 0)
            for k, (i, o) in enumerate(pairwise(widths))
        )
        self.head = nn.Linear(4 * b, num_class)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, num_class)."""
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v).contiguous()
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)).view(n, m, -1).mean(1))
