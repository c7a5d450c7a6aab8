"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021).

N clips, C channels, T frames, V joints, M bodies of a clip, B = N * M bodies of all clips, K adjacency subsets,
R channels in which joints are compared, D channels of the feature. Feature maps (B, C, T, V) are in channels-last
memory.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.encoder import Encoder, Features
from net.utils.clip import Clip
from net.utils.gcn import StridedPointwiseConv, normalise_rows
from net.utils.graph import Graph
from net.utils.tracing import is_traced

# Channels (in units of base_channels) and stride of the ten blocks.
BLOCKS = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))
TEMPORAL_KERNEL = 5
DILATIONS = (1, 2)
NUM_BRANCH = len(DILATIONS) + 2


class Model(Encoder):
    """Ten blocks of refined graph convolution and multi-scale temporal convolution, the mean, and a linear head.

    The parameters have the names and shapes of the published weights.

    in_channels: coordinates of a joint.
    num_class: scores to give.
    layout: see `net.utils.layouts.get_skeleton`; the graph is its `digraph`.
    num_body: M; the batch norm of the input has separate statistics for each body.
    base_channels: channels of the first blocks, doubled at the fifth and eighth; 64 as published.
    dropout: probability before the head.
    adaptive: every block learns its own adjacency, initialised with the graph's. If False, all keep the graph's.

    Raises ValueError for base_channels that the temporal branches cannot share equally, and for what `Graph` refuses.
    """

    HEAD = "fc"

    def __init__(
        self,
        in_channels: int = 3,
        num_class: int = 60,
        *,
        layout: str = "ntu-rgb+d",
        num_body: int = 2,
        base_channels: int = 64,
        dropout: float = 0.0,
        adaptive: bool = True,
    ) -> None:
        super().__init__()
        if base_channels < 8 or base_channels % NUM_BRANCH:
            raise ValueError(
                f"base_channels is {base_channels}; give a multiple of {NUM_BRANCH} that is at least 8"
            )
        A = torch.tensor(Graph(layout, "digraph").A, dtype=torch.float32)
        self.in_channels, self.num_joint, self.num_body = in_channels, A.shape[1], num_body
        self.data_bn = nn.BatchNorm1d(num_body * in_channels * self.num_joint)
        in_dim = in_channels
        for number, (factor, stride) in enumerate(BLOCKS, start=1):
            out_dim = factor * base_channels
            block = Block(in_dim, out_dim, A, stride=stride, adaptive=adaptive, residual=number > 1)
            self.add_module(f"l{number}", block)
            in_dim = out_dim
        self.drop_out = nn.Dropout(dropout)
        self.feature_dim = in_dim
        self.fc = nn.Linear(in_dim, num_class)
        nn.init.normal_(self.fc.weight, 0.0, math.sqrt(2.0 / num_class))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def apply_head(self, features: Tensor) -> Tensor:
        """See `Encoder`; dropout comes first."""
        return super().apply_head(self.drop_out(features))

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`: the batch norm of the input, then the blocks."""
        blocks = [self.get_submodule(f"l{number}") for number in range(1, len(BLOCKS) + 1)]
        return [list(module.parameters()) for module in (self.data_bn, *blocks)]

    def encode(self, clip: Clip) -> Features:
        """Maps (B, D, ceil(T / 4), V) of all bodies, including absent ones; see `Encoder`.

        Raises:
            ValueError: the clips have another shape.
        """
        x = clip.x
        expected = (self.in_channels, self.num_joint, self.num_body)
        if x.dim() != 5 or (x.shape[1], x.shape[3], x.shape[4]) != expected:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; this network takes (N, {self.in_channels}, T, "
                f"{self.num_joint}, {self.num_body}): set in_channels, layout and num_body to those of the data"
            )
        rows = x.permute(0, 2, 4, 3, 1)  # (N, T, M, V, C)
        y = normalise_rows(self.data_bn, rows)
        y = y.permute(0, 2, 4, 1, 3).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for number in range(1, len(BLOCKS) + 1):
            y = self.get_submodule(f"l{number}")(y)
        return Features.of_maps(y, x.shape[0])


class Block(nn.Module):
    """Refined graph convolution, then multi-scale temporal convolution, with a residual connection."""

    def __init__(
        self, in_channels: int, out_channels: int, A: Tensor, *, stride: int, adaptive: bool, residual: bool
    ) -> None:
        super().__init__()
        self.gcn1 = RefinedGraphConv(in_channels, out_channels, A, adaptive=adaptive)
        self.tcn1 = MultiScaleTemporalConv(out_channels, stride=stride)
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            self.residual = TemporalConv(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', ceil(T / stride), V)."""
        y = self.tcn1(self.gcn1(x))
        if self.residual is not None:
            y += self.residual(x)
        return F.relu_(y)


class RefinedGraphConv(nn.Module):
    """Graph convolution with a separate adjacency for each body and channel, batch norm, and a residual connection.

    A'_k[u, v] = A_k[u, v] + alpha conv4_k(tanh(conv1_k(m)[u] - conv2_k(m)[v])), where m is the mean of x over frames;
    y[u] = sum_k sum_v A'_k[u, v] conv3_k(x)[v] (paper, eq. 2-6).

    A: (K, V, V), the adjacency; the initial value of the parameter `PA` if adaptive.
    """

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, *, adaptive: bool) -> None:
        super().__init__()
        relation = in_channels // 8 if in_channels >= 16 else 8
        self.convs = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv1": nn.Conv2d(in_channels, relation, 1),
                    "conv2": nn.Conv2d(in_channels, relation, 1),
                    "conv3": nn.Conv2d(in_channels, out_channels, 1),
                    "conv4": nn.Conv2d(relation, out_channels, 1),
                }
            )
            for _ in A
        )
        if adaptive:
            self.PA = nn.Parameter(A.clone())
        else:
            self.register_buffer("PA", A.clone(), persistent=False)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', T, V)."""
        weight, bias = self._stacked("conv3")  # (K, C', C, 1, 1), (K, C')
        # Frames become the innermost dimension, so that the sum over joints is one matrix product per channel.
        z = F.conv2d(x.transpose(2, 3).contiguous(), weight.transpose(0, 1).flatten(0, 1), bias.T.flatten())
        z = z.unflatten(1, (-1, len(weight))).flatten(2, 3)  # (B, C', K * V, T)
        y = torch.matmul(self.topology(x), z)  # (B, C', V, T)
        y = self.bn(y.transpose(2, 3).contiguous(memory_format=torch.channels_last))
        y += self.down(x)
        return F.relu_(y)

    def topology(self, x: Tensor) -> Tensor:
        """The refined adjacency: x (B, C, T, V) -> (B, C', V, K * V). Entry [u, k * V + v] is from joint v to u."""
        mean = x.permute(0, 2, 3, 1).mean(1)  # (B, V, C); 1x1 convolutions commute with it
        query, key = (
            F.linear(mean, weight.flatten(0, 1).flatten(1), bias.flatten())
            .unflatten(2, bias.shape)
            .permute(0, 2, 3, 1)
            for weight, bias in (self._stacked("conv1"), self._stacked("conv2"))
        )  # (B, K, R, V)
        relation = torch.tanh(query[..., None] - key[..., None, :]).flatten(3)  # (B, K, R, V * V)
        # One product computes alpha (W r + b) + PA, with PA and a row of ones as two more channels of r.
        weight, bias = self._stacked("conv4")  # (K, C', R, 1, 1), (K, C')
        shared = self.PA.flatten(1)[:, None].expand(x.shape[0], -1, -1, -1)
        rows = torch.cat([relation, shared, torch.ones_like(shared)], 2)  # (B, K, R + 2, V * V)
        bias = bias[..., None] * self.alpha
        columns = torch.cat(
            [weight.flatten(2) * self.alpha, torch.ones_like(bias), bias], 2
        )  # (K, C', R + 2)
        A = torch.matmul(columns, rows).unflatten(3, self.PA.shape[1:])  # (B, K, C', V, V)
        return A.permute(0, 2, 3, 1, 4).flatten(3)

    def _stacked(self, name: str) -> tuple[Tensor, Tensor]:
        """Weights (K, out, in, 1, 1) and biases (K, out) of one convolution of all subsets."""
        convs = [getattr(subset, name) for subset in self.convs]
        return torch.stack([conv.weight for conv in convs]), torch.stack([conv.bias for conv in convs])


class MultiScaleTemporalConv(nn.Module):
    """Four branches, each of a quarter of the channels, concatenated.

    Two are dilated convolutions over frames, one is max pooling over frames, one is a 1x1 convolution alone.
    """

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        part = channels // NUM_BRANCH
        after: list[list[nn.Module]] = [
            [
                nn.ReLU(inplace=True),
                TemporalConv(part, part, TEMPORAL_KERNEL, stride=stride, dilation=dilation),
            ]
            for dilation in DILATIONS
        ]
        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        after += [[nn.ReLU(inplace=True), pool, nn.BatchNorm2d(part)], []]
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, part, 1), nn.BatchNorm2d(part), *modules) for modules in after
        )
        self.stride = stride
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C, ceil(T / stride), V)."""
        branches = [cast(nn.Sequential, branch) for branch in self.branches]
        firsts = [cast(nn.Conv2d, branch[0]) for branch in branches]
        weight, bias = (torch.cat([getattr(conv, name) for conv in firsts]) for name in ("weight", "bias"))
        *parts, last = _split(F.conv2d(x, weight, bias), NUM_BRANCH)
        parts.append(last[:, :, :: self.stride].contiguous(memory_format=torch.channels_last))
        return _concatenate(branch[1:](part) for branch, part in zip(branches, parts, strict=True))


def _split(x: Tensor, count: int) -> Sequence[Tensor]:
    """Equal parts of the channels."""
    # A traced graph cannot contain `_Split`: other programs cannot run a Python function.
    return x.chunk(count, 1) if is_traced() else _Split.apply(x, count)


def _concatenate(parts: Iterable[Tensor]) -> Tensor:
    """Parts with equally many channels, concatenated along the channels."""
    return torch.cat(tuple(parts), 1) if is_traced() else _Concatenate.apply(*parts)


class _Split(torch.autograd.Function):
    """Equal parts of the channels, in channels-last memory, because batch norm is slow on slices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> tuple[Tensor, ...]:
        """From x (B, C, T, V) to `count` parts (B, C / count, T, V)."""
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in x.chunk(count, 1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """From the gradients of the parts to that of x."""
        return torch.cat(grads, 1), None


class _Concatenate(torch.autograd.Function):
    """Inverse of `_Split`; its gradients, too, are in channels-last memory."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        """From parts (B, C / count, T, V) to (B, C, T, V)."""
        ctx.count = len(parts)
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """From the gradient of the output to those of the parts."""
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in grad.chunk(ctx.count, 1))


class TemporalConv(nn.Module):
    """Convolution over frames and batch norm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = (kernel_size - 1) * dilation // 2
        self.conv = (
            StridedPointwiseConv(in_channels, out_channels, stride)
            if kernel_size == 1
            else nn.Conv2d(
                in_channels, out_channels, (kernel_size, 1), (stride, 1), (padding, 0), (dilation, 1)
            )
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', ceil(T / stride), V)."""
        return self.bn(self.conv(x))
