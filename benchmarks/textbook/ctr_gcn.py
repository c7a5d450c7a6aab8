"""CTR-GCN (Chen et al. 2021) with one operation per formula, over contiguous (N, C, T, V) memory."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.textbook.st_gcn import make_residual


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
        self.residual = make_residual(in_channels, out_channels, stride) if residual else None

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
