"""Networks written the way they usually are: contiguous (N, C, T, V) memory, eager, one operation per formula.

They are the other side of the ratios in `tools/benchmark.py` and oracles in the tests. Nothing else uses them.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class AimCLR(nn.Module):
    """AimCLR (Guo et al. 2022): momentum contrast, and its similarities found again in an extreme view.

    As in its authors' code the encoder runs three times: on the query, on the extreme view, whose maps are used
    a second time after the drop, and the slow one on the key.
    """

    queue: Tensor

    def __init__(self, encoder: STGCN, queue_size: int, feature_dim: int = 128) -> None:
        super().__init__()
        width = encoder.hidden_dim
        encoder.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, feature_dim))
        self.encoder_q, self.encoder_k = encoder, copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(feature_dim, queue_size), dim=0))
        self.pointer = 0

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Losses of (query, key, extreme) views, (N, C, T, V, M) each, whose N divides the size of the queue."""
        view, key_view, extreme_view = views
        n = len(view)
        query = F.normalize(self.encoder_q(view), dim=1)
        maps = self.encoder_q.maps(extreme_view)
        extreme, dropped = (
            F.normalize(self.encoder_q.head(self.encoder_q.pool(each, n)), dim=1)
            for each in (maps, attention_drop(maps))
        )
        with torch.no_grad():
            for slow, fast in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
                slow.data = 0.999 * slow.data + 0.001 * fast.data
            key = F.normalize(self.encoder_k(key_view), dim=1)
        logits = [
            torch.cat(
                (
                    torch.einsum("nc,nc->n", each, key)[:, None],
                    torch.einsum("nc,ck->nk", each, self.queue.clone()),
                ),
                dim=1,
            )
            / 0.07
            for each in (query, extreme, dropped)
        ]
        target = logits[0].detach().softmax(1)
        self.queue[:, self.pointer : self.pointer + n] = key.T
        self.pointer = (self.pointer + n) % self.queue.shape[1]
        return {
            "info_nce": F.cross_entropy(logits[0], torch.zeros(n, dtype=torch.long, device=view.device)),
            "extreme": -(target * logits[1].softmax(1).log()).sum(1).mean() / 2,
            "dropped": -(target * logits[2].softmax(1).log()).sum(1).mean() / 2,
        }


def attention_drop(x: Tensor, threshold: float = 0.7) -> Tensor:
    """Feature maps (N, C, T, V) without the joints, then the entries, of an attention (SimAM) above a threshold."""
    squared = (x - x.mean((2, 3), keepdim=True)).pow(2)
    variance = squared.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    attention = torch.sigmoid(squared / (4 * (variance + 1e-4)) + 0.5)
    for each in (attention.mean((1, 2), keepdim=True), attention):
        mask = (each < threshold).float()
        x = x * mask * mask.numel() / mask.sum()
    return x


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
