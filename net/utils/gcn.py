"""Graph convolution over joints and the spatial-temporal block of ST-GCN.

B bodies (N clips x M), C channels, T frames, V joints, K adjacency subsets, F = B * T. Feature maps
(B, C, T, V) are kept in channels-last memory, that is as (B, T, V, C): the joints of a frame are rows of C
neighbouring numbers, and no convolution has to change the layout.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.utils.dropout import Dropout


class GraphConv(nn.Module):
    """What a block does over joints: `forward(x, *graph)` takes x (B, in_channels, T, V) to (B, out_channels, T, V)."""

    in_channels: int
    out_channels: int


class SpatialGraphConv(GraphConv):
    """Graph convolution: y[w] = sum_k sum_v A[k, v, w] (W_k x[v] + b_k)  (Yan et al., AAAI 2018, eq. 10).

    in_channels, out_channels: C and C'.
    neighbours: the entries of A that may differ from 0; share one object between all layers of a network.
    """

    def __init__(self, in_channels: int, out_channels: int, *, neighbours: "Neighbours") -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv = nn.Conv2d(in_channels, out_channels * neighbours.num_subset, 1)
        self.neighbours = neighbours

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        """From x (B, C, T, V) and A (K, V, V), 0 but where `neighbours` says, to (B, C', T, V)."""
        weight, bias = by_subset(self.conv, len(A))
        return add_bias(graph_conv(x, A, weight, self.neighbours), bias_of_joints(A, bias))


def by_subset(conv: nn.Conv2d, num_subset: int) -> tuple[Tensor, Tensor]:
    """Weight (S, C', C) and bias (S, C') of a 1x1 convolution to the S subsets' C' channels, one after another."""
    assert conv.bias is not None
    weight = conv.weight[..., 0, 0].unflatten(0, (num_subset, -1))
    return weight, conv.bias.unflatten(0, (num_subset, -1))


def graph_conv(x: Tensor, A: Tensor, weight: Tensor, neighbours: "Neighbours") -> Tensor:
    """Graph convolution with the same adjacency for all bodies, without a bias: (B, C, T, V) -> (B, C', T, V).

    The adjacency is applied to whichever side of the 1x1 convolution has fewer channels.

    A: (K, V, V), 0 but where `neighbours` says. weight: (K, C', C).
    """
    if weight.shape[2] > weight.shape[1]:
        return neighbours.sum(_pointwise(x, weight.flatten(0, 1)), A)
    return _pointwise(neighbours.spread(x, A), weight.transpose(0, 1).flatten(1))


def graph_conv_by_body(x: Tensor, A: Tensor, weight: Tensor) -> Tensor:
    """Graph convolution with each body's own adjacency, without a bias: (B, C, T, V) -> (B, C', T, V).

    A: (B, K, V, V). weight: (K, C', C).
    """
    if weight.shape[2] > weight.shape[1]:
        y = _pointwise(x, weight.flatten(0, 1))
        rows = y.permute(0, 2, 3, 1).unflatten(3, (A.shape[1], -1)).flatten(2, 3)  # (B, T, V * K, C')
        by_row = A.permute(0, 3, 2, 1).flatten(2)  # (B, V, V * K)
        return torch.matmul(by_row[:, None].to(rows.dtype), rows).permute(0, 3, 1, 2)
    rows = x.permute(0, 2, 3, 1)  # (B, T, V, C)
    by_row = A.permute(0, 3, 1, 2).flatten(1, 2)  # (B, V * K, V)
    spread = torch.matmul(by_row[:, None].to(rows.dtype), rows)  # (B, T, V * K, C)
    spread = spread.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
    return _pointwise(spread, weight.transpose(0, 1).flatten(1))


def _pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution with weight (C', C)."""
    return F.conv2d(x, weight[..., None, None])


def bias_of_joints(A: Tensor, bias: Tensor) -> Tensor:
    """What a bias (K, C') of the subsets adds up to at each joint: (..., V, C') for adjacencies (..., K, V, V)."""
    return A.sum(-2).transpose(-1, -2).to(bias.dtype) @ bias


def add_bias(y: Tensor, bias: Tensor) -> Tensor:
    """Maps (B, C', T, V) plus a bias of each joint, (V, C') or (B, 1, V, C')."""
    return (y.permute(0, 2, 3, 1) + bias.to(y.dtype)).permute(0, 3, 1, 2)


def normalise_rows(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    """Batch norm of each coordinate of each joint: rows (N, T, ...) in, as many out."""
    return norm(rows.flatten(2).flatten(0, 1)).view(rows.shape)


# What a temporal convolution sees before the first frame and after the last.
PaddingMode = Literal["zeros", "replicate"]


class SpatialTemporalBlock(nn.Module):
    """Graph convolution over joints, then over frames, with a residual connection (ST-GCN, section 3.4).

    gcn: the graph convolution, from C to C' channels.
    kernel_size: frames that the temporal convolution sees; odd.
    stride: every stride-th frame is kept.
    padding: frames at either end; None for as many as keep the length.
    padding_mode: what these hold, see `torch.nn.Conv2d`. With "zeros" a map tells where in the clip its frames are;
        with "replicate" that of a clip that stands still is the same throughout.
    dropout: probability.
    residual: whether the input is added to the output (through a 1x1 convolution where their shapes differ).
    """

    def __init__(
        self,
        gcn: GraphConv,
        *,
        kernel_size: int = 9,
        stride: int = 1,
        padding: int | None = None,
        padding_mode: PaddingMode = "zeros",
        dropout: float = 0.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.gcn = gcn
        in_channels, out_channels = gcn.in_channels, gcn.out_channels
        padding = kernel_size // 2 if padding is None else padding
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(
                out_channels,
                out_channels,
                (kernel_size, 1),
                (stride, 1),
                (padding, 0),
                padding_mode=padding_mode,
            ),
            nn.BatchNorm2d(out_channels),
            Dropout(dropout, inplace=True),
        )
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            self.residual = nn.Sequential(
                StridedPointwiseConv(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor, *graph: Tensor) -> Tensor:
        """From x (B, C, T, V), and what `gcn` takes beside it, to (B, C', T', V)."""
        y = self.tcn(self.gcn(x, *graph))
        if self.residual is not None:
            y += self.residual(x)
        return F.relu_(y)


class StridedPointwiseConv(nn.Conv2d):
    """1x1 convolution of every stride-th frame.

    Frames are picked before a convolution without stride, which costs the same. On the CPU the weights'
    gradient of a strided one writes past its buffer where channels-last maps have fewer than 16 channels and
    the threads share the batch unevenly (oneDNN issue 6035, torch 2.13 and 2.14).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.frame_stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', ceil(T / stride), V)."""
        return super().forward(x[:, :, :: self.frame_stride])


def initialise(module: nn.Module) -> None:
    """Weights as ST-GCN begins with them: convolutions N(0, 0.02), batch norms N(1, 0.02), biases 0."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class Neighbours:
    """Sums over neighbouring joints, weighted by an adjacency A (K, V, V) most of whose entries are 0.

    mask: (K, V, V) bool, the entries of A that may differ from 0.
    """

    def __init__(self, mask: Tensor) -> None:
        self.num_subset = len(mask)
        self._spread = _SparseProduct(mask.permute(2, 0, 1).flatten(0, 1))
        self._sum = _SparseProduct(mask.permute(2, 1, 0).flatten(1))

    def spread(self, x: Tensor, A: Tensor) -> Tensor:
        """y[k, w] = sum_v A[k, v, w] x[v].

        x (B, C, T, V), A (K, V, V) -> (B, K * C, T, V).
        """
        rows = x.permute(0, 2, 3, 1)  # (B, T, V, C)
        y = self._spread(A.permute(2, 0, 1).flatten(0, 1), rows.flatten(0, 1))  # (F, V * K, C)
        return y.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)

    def sum(self, x: Tensor, A: Tensor) -> Tensor:
        """y[w] = sum_k sum_v A[k, v, w] x[k, v].

        x (B, K * C, T, V), A (K, V, V) -> (B, C, T, V).
        """
        rows = x.permute(0, 2, 3, 1).unflatten(3, (len(A), -1))  # (B, T, V, K, C)
        y = self._sum(A.permute(2, 1, 0).flatten(1), rows.flatten(0, 1).flatten(1, 2))  # (F, V, C)
        return y.view(x.shape[0], -1, *y.shape[1:]).permute(0, 3, 1, 2)


class _SparseProduct:
    """y[f] = matrix @ x[f] for every frame f, where most of the matrix is 0.

    On the CPU rows are summed one by one: in the graph of a body a row of 25 has some 3 entries, and small
    dense products run far below the speed of large ones. Elsewhere the product is a dense one.
    """

    MAX_DENSITY = 0.125  # measured: above it the dense product is faster on the CPU too
    FEW_FRAMES = 64  # an answer about one window: the dense product is faster, too

    def __init__(self, mask: Tensor) -> None:
        out, source = mask.nonzero(as_tuple=True)
        self.entries = out, source
        self.is_sparse = len(out) <= self.MAX_DENSITY * mask.numel()
        self.rows = _RowSum(source, out, *reversed(mask.shape))
        self.transposed = _RowSum(out, source, *mask.shape)

    def __call__(self, matrix: Tensor, x: Tensor) -> Tensor:
        """From matrix (R, V) and x (F, V, C) to (F, R, C)."""
        # What is compiled or traced sees one operation, of any number of frames, and not a break in the graph.
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        # Look at the number of frames last: a recorded graph must not depend on it.
        is_dense = x.device.type != "cpu" or not self.is_sparse or recorded
        if is_dense or (not torch.is_grad_enabled() and len(x) <= self.FEW_FRAMES):
            return torch.matmul(matrix.to(x.dtype), x)
        return _SparseProductFunction.apply(matrix[self.entries], x, self)


class _SparseProductFunction(torch.autograd.Function):
    """`_SparseProduct` with its derivatives, which are sums over the same pairs of rows."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, product: _SparseProduct) -> Tensor:
        """From values (P,) and x (F, V, C) to (F, R, C)."""
        ctx.save_for_backward(values, x)
        ctx.product = product
        # Where a gradient is wanted, embedding_bag also makes what its own derivative needs, at 8 times the cost.
        return product.rows(values.detach(), x.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """From grad (F, R, C) to the gradients of values and x."""
        values, x = ctx.saved_tensors
        grad_values = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = ctx.product.transposed(values, grad)
        if ctx.needs_input_grad[0]:
            products = _products_all if grad.element_size() < 4 else _products_gathered
            grad_values = products(grad, x, *ctx.product.entries).to(values.dtype)
        return grad_values, grad_x, None


# Numbers made at a time on the way to products of rows: few enough to stay in the cache.
CHUNK = 2**20


def _products_gathered(left: Tensor, right: Tensor, row_left: Tensor, row_right: Tensor) -> Tensor:
    """Of each pair of rows, the product summed over frames and channels: left (F, R, C), right (F, V, C) -> (P,)."""
    total = left.new_zeros(len(row_left) * left.shape[2])
    step = max(1, CHUNK // len(total))
    for part, other in zip(left.split(step), right.split(step), strict=True):
        total += part.index_select(1, row_left).mul_(other.index_select(1, row_right)).flatten(1).sum(0)
    return total.view(len(row_left), -1).sum(1)


def _products_all(left: Tensor, right: Tensor, row_left: Tensor, row_right: Tensor) -> Tensor:
    """`_products_gathered` by way of all pairs of rows: in half precision, 1.5 to 5 times as fast."""
    total = left.new_zeros(left.shape[1], right.shape[1], dtype=torch.float32)
    step = max(1, CHUNK // total.numel())
    for part, other in zip(left.split(step), right.split(step), strict=True):
        total += torch.bmm(part, other.transpose(1, 2)).sum(0)
    return total[row_left, row_right]


class _RowSum:
    """Weighted sums of rows within each frame: y[f, bag[p]] += value[p] x[f, row[p]] for every pair p."""

    def __init__(self, row: Tensor, bag: Tensor, num_row: int, num_bag: int) -> None:
        self.order = torch.argsort(bag, stable=True)
        self.row = row[self.order]
        self.start = torch.searchsorted(bag[self.order], torch.arange(num_bag))
        self.num_row = num_row
        self._lists: tuple[Tensor, Tensor] | None = None

    def __call__(self, values: Tensor, x: Tensor) -> Tensor:
        """From values (P,) and x (F, num_row, C) to (F, num_bag, C)."""
        frames = len(x)
        row, start = self._indices(frames)
        weights = values[self.order].to(x.dtype).repeat(frames)
        y = F.embedding_bag(row, x.flatten(0, 1), start, mode="sum", per_sample_weights=weights)
        return y.view(frames, -1, x.shape[2])

    def _indices(self, frames: int) -> tuple[Tensor, Tensor]:
        """Rows to sum, and where each bag starts in that list; of all frames one after another."""
        # The lists of fewer frames are the beginnings of those of more: only the longest need be kept.
        if self._lists is None or len(self._lists[0]) < frames * len(self.row):
            frame = torch.arange(frames, dtype=torch.int32)[:, None]
            row = frame * self.num_row + self.row.int()
            start = frame * len(self.row) + self.start.int()
            self._lists = row.flatten(), start.flatten()
        row, start = self._lists
        return row[: frames * len(self.row)], start[: frames * len(self.start)]
