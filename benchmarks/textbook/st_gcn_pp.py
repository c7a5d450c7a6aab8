"""ST-GCN++ (Duan et al. 2022) with one module per formula, over contiguous (N, C, T, V) memory."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.textbook.st_gcn import make_residual

# Width as a multiple of the base, and stride, of the ten blocks.
BLOCKS = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))


class GraphConv(nn.Module):
    """1x1 convolution to K subsets, then the adjacency, which is learned; batch norm, residual."""

    def __init__(self, in_channels: int, out_channels: int, A: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(A.clone())
        self.conv = nn.Conv2d(in_channels, out_channels * len(A), 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.residual = make_residual(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C_out, T, V)."""
        n, _, t, v = x.shape
        y = self.conv(x).view(n, len(self.A), -1, t, v)
        y = torch.einsum("nkctv,kvw->nctw", y, self.A).contiguous()
        return F.relu(self.bn(y) + self.residual(x))


def activated(in_channels: int, out_channels: int) -> list[nn.Module]:
    """1x1 convolution, batch norm, ReLU."""
    return [nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.ReLU()]


class TemporalConv(nn.Module):
    """Six branches over frames, one after the other, joined by a 1x1 convolution."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        part = channels // 6
        first = channels - 5 * part
        branches = [
            nn.Sequential(
                *activated(channels, size),
                nn.Conv2d(size, size, (3, 1), (stride, 1), (dilation, 0), (dilation, 1)),
            )
            for dilation, size in enumerate((first, part, part, part), 1)
        ]
        branches.append(
            nn.Sequential(*activated(channels, part), nn.MaxPool2d((3, 1), (stride, 1), padding=(1, 0)))
        )
        branches.append(nn.Sequential(nn.Conv2d(channels, part, 1, (stride, 1))))
        self.branches = nn.ModuleList(branches)
        self.join = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T', V)."""
        return self.join(torch.cat([branch(x) for branch in self.branches], 1))


class Block(nn.Module):
    """Graph convolution, temporal convolution, shortcut."""

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, stride: int, residual: bool) -> None:
        super().__init__()
        self.gcn = GraphConv(in_channels, out_channels, A)
        self.tcn = TemporalConv(out_channels, stride)
        self.residual = make_residual(in_channels, out_channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C_out, T', V)."""
        y = self.tcn(self.gcn(x))
        return F.relu(y if self.residual is None else y + self.residual(x))


class STGCNPP(nn.Module):
    """ST-GCN++ over (N, C, T, V, M): ten blocks, mean over everything, linear scores."""

    def __init__(self, A: Tensor, num_class: int, hidden_channels: int) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(3 * A.shape[-1])
        widths = [3, *(times * hidden_channels for times, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            Block(widths[k], widths[k + 1], A, stride, residual=k > 0) for k, (_, stride) in enumerate(BLOCKS)
        )
        self.fc = nn.Linear(widths[-1], num_class)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, num_class)."""
        n, c, t, v, m = x.shape
        y = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t))
        y = y.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for block in self.blocks:
            y = block(y)
        return self.fc(y.mean((2, 3)).view(n, m, -1).mean(1))
