"""Graph convolution over joints and the spatial-temporal block of ST-GCN.

B bodies (N clips x M), C channels, T frames, V joints, K adjacency subsets, F = B * T. Feature maps
(B, C, T, V) are in channels-last memory, that is, stored as (B, T, V, C). Each joint of a frame is then a row of C
adjacent numbers, and no convolution has to change the memory layout.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.utils.dropout import Dropout


class GraphConv(nn.Module):
    """The part of a block that works over joints.

    `forward(x, *graph)` maps x (B, in_channels, T, V) to (B, out_channels, T, V).
    """

    in_channels: int
    out_channels: int


class SpatialGraphConv(GraphConv):
    """Graph convolution: y[w] = sum_k sum_v A[k, v, w] (W_k x[v] + b_k)  (Yan et al., AAAI 2018, eq. 10).

    in_channels, out_channels: C and C'.
    neighbours: the entries of A that may differ from 0. All layers of a network should share one object.
    """

    def __init__(self, in_channels: int, out_channels: int, *, neighbours: "Neighbours") -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv = nn.Conv2d(in_channels, out_channels * neighbours.num_subset, 1)
        self.neighbours = neighbours

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        """From x (B, C, T, V) and A (K, V, V) to (B, C', T, V). A may differ from 0 only at `neighbours`."""
        weight, bias = by_subset(self.conv, len(A))
        return add_bias(graph_conv(x, A, weight, self.neighbours), bias_of_joints(A, bias))


def by_subset(conv: nn.Conv2d, num_subset: int) -> tuple[Tensor, Tensor]:
    """Weight (S, C', C) and bias (S, C') of a 1x1 convolution with S * C' outputs, sorted by the S subsets."""
    assert conv.bias is not None
    weight = conv.weight[..., 0, 0].unflatten(0, (num_subset, -1))
    return weight, conv.bias.unflatten(0, (num_subset, -1))


def graph_conv(x: Tensor, A: Tensor, weight: Tensor, neighbours: "Neighbours") -> Tensor:
    """Graph convolution with the same adjacency for all bodies, without a bias: (B, C, T, V) -> (B, C', T, V).

    The adjacency is applied on the side of the 1x1 convolution that has fewer channels.

    A: (K, V, V), 0 outside `neighbours`. weight: (K, C', C).
    """
    if weight.shape[2] > weight.shape[1]:
        return neighbours.sum(_pointwise(x, weight.flatten(0, 1)), A)
    return _pointwise(neighbours.spread(x, A), weight.transpose(0, 1).flatten(1))


def graph_conv_by_body(x: Tensor, A: Tensor, weight: Tensor) -> Tensor:
    """Graph convolution with a separate adjacency for each body, without a bias: (B, C, T, V) -> (B, C', T, V).

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
    """1x1 convolution with weight (C', C): (B, C, T, V) -> (B, C', T, V)."""
    return F.conv2d(x, weight[..., None, None])


def bias_of_joints(A: Tensor, bias: Tensor) -> Tensor:
    """The bias of each joint, (..., V, C'), from the bias (K, C') of the subsets and adjacencies (..., K, V, V).

    It is sum_k sum_v A[k, v, w] b_k for joint w.
    """
    return A.sum(-2).transpose(-1, -2).to(bias.dtype) @ bias


def add_bias(y: Tensor, bias: Tensor) -> Tensor:
    """Maps y (B, C', T, V) plus a bias of each joint, (V, C') or (B, 1, V, C')."""
    return (y.permute(0, 2, 3, 1) + bias.to(y.dtype)).permute(0, 3, 1, 2)


def normalise_rows(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    """Batch norm of each coordinate of each joint: rows (N, T, ...) -> (N, T, ...)."""
    return norm(rows.flatten(2).flatten(0, 1)).view(rows.shape)


# What a temporal convolution sees before the first frame and after the last.
PaddingMode = Literal["zeros", "replicate"]


class SpatialTemporalBlock(nn.Module):
    """Graph convolution over joints, convolution over frames, and a residual connection (ST-GCN, section 3.4).

    gcn: the graph convolution, from C to C' channels.
    kernel_size: frames of the temporal convolution; odd.
    stride: every stride-th frame is kept.
    padding: number of frames added at each end; None for kernel_size // 2, which keeps the length.
    padding_mode: content of these frames, see `torch.nn.Conv2d`. With "zeros", a map depends on where in the clip its
        frames are. With "replicate", the map of a motionless clip is the same in all frames.
    dropout: probability.
    residual: add the input to the output, through a 1x1 convolution if their shapes differ.
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
        """From x (B, C, T, V) to (B, C', T', V). `graph`: further arguments of `gcn`."""
        y = self.tcn(self.gcn(x, *graph))
        if self.residual is not None:
            y += self.residual(x)
        return F.relu_(y)


class StridedPointwiseConv(nn.Conv2d):
    """1x1 convolution of every stride-th frame.

    It selects the frames first and then convolves without stride, which costs the same. On the CPU, the weight gradient
    of a strided convolution writes past its buffer if channels-last maps have fewer than 16 channels and the threads
    share the batch unevenly (oneDNN issue 6035, torch 2.13 and 2.14).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.frame_stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', ceil(T / stride), V)."""
        return super().forward(x[:, :, :: self.frame_stride])


def initialise(module: nn.Module) -> None:
    """Initialise a module as ST-GCN does: convolutions N(0, 0.02), batch norms N(1, 0.02), biases 0."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class Neighbours:
    """Sums over neighbouring joints, weighted by a sparse adjacency A (K, V, V).

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
    """y[f] = matrix @ x[f] for every frame f, with a sparse matrix.

    On the CPU, rows are summed one by one: a row of 25 joints has about 3 entries, and small dense products are
    slow there. On other devices the product is dense.
    """

    MAX_DENSITY = 0.125  # measured: above it, the dense product is faster on the CPU, too
    FEW_FRAMES = (
        64  # without gradients, up to this number (inference on one window) the dense product is faster
    )

    def __init__(self, mask: Tensor) -> None:
        out, source = mask.nonzero(as_tuple=True)
        self.entries = out, source
        self.is_sparse = len(out) <= self.MAX_DENSITY * mask.numel()
        self.rows = _RowSum(source, out, *reversed(mask.shape))
        self.transposed = _RowSum(out, source, *mask.shape)

    def __call__(self, matrix: Tensor, x: Tensor) -> Tensor:
        """From matrix (R, V) and x (F, V, C) to (F, R, C)."""
        # A compiled or traced graph gets one operation for any number of frames, without a graph break.
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
        # Look at the number of frames last: a recorded graph must not depend on it.
        is_dense = x.device.type != "cpu" or not self.is_sparse or recorded
        if is_dense or (not torch.is_grad_enabled() and len(x) <= self.FEW_FRAMES):
            return torch.matmul(matrix.to(x.dtype), x)
        return _SparseProductFunction.apply(matrix[self.entries], x, self)


class _SparseProductFunction(torch.autograd.Function):
    """`_SparseProduct` with its derivatives, which are sums over the same P pairs of rows."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, product: _SparseProduct) -> Tensor:
        """From values (P,) and x (F, V, C) to (F, R, C)."""
        ctx.save_for_backward(values, x)
        ctx.product = product
        # Detached: otherwise embedding_bag also prepares its own derivative, at 8 times the cost.
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


# Size of the temporary tensors when rows are multiplied: small enough for the cache.
CHUNK = 2**20


def _products_gathered(left: Tensor, right: Tensor, row_left: Tensor, row_right: Tensor) -> Tensor:
    """Dot products of P pairs of rows, summed over frames and channels: left (F, R, C), right (F, V, C) -> (P,)."""
    total = left.new_zeros(len(row_left) * left.shape[2])
    step = max(1, CHUNK // len(total))
    for part, other in zip(left.split(step), right.split(step), strict=True):
        total += part.index_select(1, row_left).mul_(other.index_select(1, row_right)).flatten(1).sum(0)
    return total.view(len(row_left), -1).sum(1)


def _products_all(left: Tensor, right: Tensor, row_left: Tensor, row_right: Tensor) -> Tensor:
    """`_products_gathered` computed from all R x V pairs: in half precision, this is 1.5 to 5 times as fast."""
    total = left.new_zeros(left.shape[1], right.shape[1], dtype=torch.float32)
    step = max(1, CHUNK // total.numel())
    for part, other in zip(left.split(step), right.split(step), strict=True):
        total += torch.bmm(part, other.transpose(1, 2)).sum(0)
    return total[row_left, row_right]


class _RowSum:
    """Weighted sums of rows within each frame: y[f, bag[p]] += values[p] x[f, row[p]] for every pair p."""

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
        """Indices of the rows to sum, and the start of each bag in that list, for all frames one after another."""
        # The lists for few frames are prefixes of the lists for many frames: keep only the longest.
        if self._lists is None or len(self._lists[0]) < frames * len(self.row):
            frame = torch.arange(frames, dtype=torch.int32)[:, None]
            row = frame * self.num_row + self.row.int()
            start = frame * len(self.row) + self.start.int()
            self._lists = row.flatten(), start.flatten()
        row, start = self._lists
        return row[: frames * len(self.row)], start[: frames * len(self.start)]
