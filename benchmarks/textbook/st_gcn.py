"""ST-GCN (Yan et al. 2018) with one operation per formula, over contiguous (N, C, T, V) memory."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def make_residual(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The residual of a block: the input, by way of a 1x1 convolution where the shape changes."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels))


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
        self.residual = make_residual(in_channels, out_channels, stride) if residual else None

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
        self.head: nn.Module = nn.Linear(hidden_dim, num_class)
        self.hidden_dim = hidden_dim

    def maps(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N * M, D, T', V)."""
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for block in self.blocks:
            x = block(x, self.A)
        return x

    def pool(self, maps: Tensor, num_clip: int) -> Tensor:
        """(N * M, D, T', V) -> (N, D)."""
        return maps.mean((2, 3)).view(num_clip, -1, maps.shape[1]).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, num_class)."""
        return self.head(self.pool(self.maps(x), len(x)))
