"""AS-GCN (Li et al. 2019): blocks with structural and actional adjacency, scores, and the next poses.

Its parameters have the published names, so it loads a state dict of `net.as_gcn.Model`.

N clips, C coordinates or channels, T frames, V joints, M bodies, B = N * M, D channels of a feature,
K structural and L actional subsets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.textbook.as_gcn_links import Links
from benchmarks.textbook.st_gcn import make_residual
from net.utils.clip import Batch


class GraphConv(nn.Module):
    """1x1 convolution to K + L subsets, then the adjacency of all bodies and that of each."""

    def __init__(self, in_channels: int, out_channels: int, num_subset: int) -> None:
        super().__init__()
        self.num_subset = num_subset
        self.conv = nn.Conv2d(in_channels, out_channels * num_subset, 1)

    def forward(self, x: Tensor, A: Tensor, links: Tensor) -> Tensor:
        """(B, C, T, V), (K, V, V), (B, L, V, V) -> (B, C', T, V)."""
        return both_products(self.conv(x), A, links)


def both_products(y: Tensor, A: Tensor, links: Tensor) -> Tensor:
    """(B, (K + L) * C', T, V), (K, V, V), (B, L, V, V) -> (B, C', T, V)."""
    n, channels, t, v = y.shape
    num_subset = len(A) + links.shape[1]
    y = y.view(n, num_subset, channels // num_subset, t, v)
    structural = torch.einsum("nkctv,kvw->nctw", y[:, : len(A)], A)
    actional = torch.einsum("nkctv,nkvw->nctw", y[:, len(A) :], links)
    return (structural + 0.5 * actional).contiguous()


class Block(nn.Module):
    """Graph convolution, temporal convolution, shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_subset: int,
        *,
        dropout: float,
        stride: int = 1,
        kernel_size: int = 9,
        padding: int | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.gcn = GraphConv(in_channels, out_channels, num_subset)
        padding = kernel_size // 2 if padding is None else padding
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (kernel_size, 1), (stride, 1), (padding, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout),
        )
        self.residual = make_residual(in_channels, out_channels, stride) if residual else None

    def forward(self, x: Tensor, A: Tensor, links: Tensor) -> Tensor:
        """(B, C, T, V) -> (B, C', T', V)."""
        shortcut = 0 if self.residual is None else self.residual(x)
        return F.relu(self.tcn(self.gcn(x, A, links)) + shortcut)


class PoseBlock(nn.Module):
    """The last block of the future head, of transposed convolutions."""

    def __init__(self, in_channels: int, out_channels: int, num_subset: int, dropout: float) -> None:
        super().__init__()
        deconv = nn.ConvTranspose2d(in_channels, out_channels * num_subset, 1)
        self.gcn_recon = nn.ModuleDict({"deconv": deconv})
        self.tcn_recon = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.ConvTranspose2d(out_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, A: Tensor, links: Tensor) -> Tensor:
        """(B, C, 1, V) -> (B, C', 1, V)."""
        return self.tcn_recon(both_products(self.gcn_recon["deconv"](x), A, links))


class ASGCN(nn.Module):
    """Nine blocks and scores, seven more and the next 10 frames, over 290 frames of (N, 3, T, V, M)."""

    A: Tensor

    def __init__(
        self, A: Tensor, num_class: int, *, hidden_channels: int = 64, hidden: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__()
        num_link, h = 2, hidden_channels
        num_subset = len(A) + num_link
        self.register_buffer("A", A)
        self.data_bn = nn.BatchNorm1d(3 * A.shape[1])
        width_in = 3
        for index, width in enumerate((h, h, h, 2 * h, 2 * h, 2 * h, 4 * h, 4 * h, 4 * h)):
            stride = 2 if index in (3, 6) else 1
            block = Block(width_in, width, num_subset, dropout=dropout, stride=stride, residual=index > 0)
            self.add_module(f"class_layer_{index}", block)
            width_in = width
        for index, (kernel_size, stride) in enumerate(((9, 1), (9, 2), (9, 2), (9, 2), (3, 2))):
            block = Block(
                width_in, 2 * h, num_subset, dropout=dropout, stride=stride, kernel_size=kernel_size
            )
            self.add_module(f"recon_layer_{index}", block)
            width_in = 2 * h
        self.recon_layer_5 = Block(
            2 * h, 2 * h, num_subset, dropout=dropout, kernel_size=5, padding=0, residual=False
        )
        self.recon_layer_6 = PoseBlock(2 * h + 3, 30, num_subset, dropout)
        self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones_like(A)) for _ in range(9))
        self.edge_importance_recon = nn.ParameterList(nn.Parameter(torch.ones_like(A)) for _ in range(9))
        self.fcn = nn.Conv2d(4 * h, num_class, 1)
        self.links = Links(A.shape[1], num_link, hidden, dropout)

    def seen(self, x: Tensor) -> Tensor:
        """The 50 frames that links are inferred from: (N, C, T, V, M) -> (B, 50, V, C)."""
        frames = [int((number + 0.5) * x.shape[2] / 50) for number in range(50)]
        return x[:, :, frames].permute(0, 4, 2, 3, 1).flatten(0, 1).contiguous()

    def maps(self, x: Tensor, links: Tensor, *, as_published: bool) -> Tensor:
        """(N, C, T, V, M) and (B, L, V, V) -> (B, D, T', V).

        In the published code layer 1 runs twice, and its first output is not used.
        """
        n, c, t, v, m = x.shape
        y = self.data_bn(x.permute(0, 4, 3, 1, 2).contiguous().view(n * m, v * c, t))
        y = y.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for index, importance in enumerate(self.edge_importance):
            layer = self.get_submodule(f"class_layer_{index}")
            if as_published and index == 1:
                layer(y, self.A * importance, links)
            y = layer(y, self.A * importance, links)
        return y

    def scores(self, maps: Tensor, num_clip: int) -> Tensor:
        """(B, D, T', V) -> (N, num_class)."""
        pooled = F.avg_pool2d(maps, maps.shape[2:]).view(num_clip, -1, maps.shape[1], 1, 1).mean(1)
        return self.fcn(pooled).flatten(1)

    def future(self, maps: Tensor, links: Tensor, last: Tensor) -> Tensor:
        """(B, D, 73, V), (B, L, V, V), last pose (B, C, 1, V) -> next poses (B, C, 10, V)."""
        y = maps
        for index in range(6):
            y = self.get_submodule(f"recon_layer_{index}")(
                y, self.A * self.edge_importance_recon[index], links
            )
        y = self.recon_layer_6(torch.cat((y, last), 1), self.A * self.edge_importance_recon[6], links)
        return last + y.view(len(y), 3, 10, -1)


def last_poses(x: Tensor) -> Tensor:
    """(N, C, T, V, M) -> (B, C, 1, V)."""
    return x[:, :, -1:].permute(0, 4, 1, 2, 3).flatten(0, 1)


def links_loss(model: ASGCN, batch: Batch) -> Tensor:
    """Loss of the first phase: Gaussian likelihood of the next frames, and the links' divergence from their prior."""
    seen = model.seen(batch.views[0].x)
    inferred = model.links(seen)
    nll = ((inferred.predicted - seen[:, 1:]) ** 2 / (2 * 5e-4)).sum() / (len(seen) * seen.shape[2])
    prior = torch.log(torch.tensor([0.95, 0.025, 0.025]).to(seen))
    kl = inferred.probability * (torch.log(inferred.probability + 1e-16) - prior)
    return nll + kl.sum() / (len(seen) * seen.shape[2])


def backbone_loss(model: ASGCN, batch: Batch, *, as_published: bool) -> Tensor:
    """Loss of the second phase: cross-entropy, and the squared error of the first body's next frames.

    The published code does more: the decoder of the links predicts frames that no loss uses, layer 1 runs twice,
    and gradients are computed for the links, whose weights do not change.
    """
    assert batch.future is not None
    x, future, label = batch.views[0].x, batch.future.x, batch.label
    if as_published:
        links = model.links(model.seen(x)).adjacency
    else:
        with torch.no_grad():
            links = model.links.adjacency(model.links.draw(model.seen(x))[1])
    maps = model.maps(x, links, as_published=as_published)
    predicted = model.future(maps, links, last_poses(x)).unflatten(0, (len(x), -1))
    of_first_body = F.mse_loss(predicted[:, 0], future[..., 0])
    return F.cross_entropy(model.scores(maps, len(x)), label) + 0.01 * of_first_body


def infer(model: ASGCN, x: Tensor, *, as_published: bool) -> Tensor:
    """Scores (N, num_class) of clips (N, C, T, V, M).

    The published code also runs the links' decoder and the future head, and runs layer 1 twice.
    """
    if not as_published:
        links = model.links.adjacency(model.links.draw(model.seen(x))[1])
        return model.scores(model.maps(x, links, as_published=False), len(x))
    links = model.links(model.seen(x)).adjacency
    maps = model.maps(x, links, as_published=True)
    model.future(maps, links, last_poses(x))
    return model.scores(maps, len(x))
