"""ST-GCN++: graph convolution with a learned adjacency, and temporal convolution in six branches (Duan et al. 2022).

N clips, C channels, T frames, V joints, M bodies of a clip, B bodies of all clips, K adjacency subsets, D channels of
the feature. Feature maps (B, C, T, V) are in channels-last memory.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.encoder import Encoder, Features, split_bodies
from net.utils.clip import Clip
from net.utils.dropout import Dropout
from net.utils.gcn import Neighbours, SpatialGraphConv, StridedPointwiseConv, normalise_rows
from net.utils.graph import Graph
from net.utils.tracing import is_empty

# Channels (in units of hidden_channels) and stride of the ten blocks.
BLOCKS = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))
TEMPORAL_KERNEL, DILATIONS = 3, (1, 2, 3, 4)
NUM_BRANCH = len(DILATIONS) + 2


class Model(Encoder):
    """Ten blocks, the mean over frames, joints and bodies, and a linear head.

    in_channels: coordinates of a joint.
    num_class: scores to give.
    layout, strategy, max_hop: of the graph that the adjacency starts from, see `net.utils.graph.Graph`.
    hidden_channels: channels of the first blocks, doubled at the fifth and eighth; 64 as published.
    dropout: probability in all blocks.
    skip_empty_bodies: see `net.st_gcn.Model`.

    Raises ValueError for hidden_channels that leave a branch without a channel, and for what `Graph` refuses.
    """

    HEAD = "fc"

    def __init__(
        self,
        in_channels: int = 3,
        num_class: int = 60,
        *,
        layout: str = "ntu-rgb+d",
        strategy: str = "spatial",
        max_hop: int = 1,
        hidden_channels: int = 64,
        dropout: float = 0.0,
        skip_empty_bodies: bool = False,
    ) -> None:
        super().__init__()
        if hidden_channels < NUM_BRANCH:
            raise ValueError(
                f"hidden_channels is {hidden_channels}; give {NUM_BRANCH} or more, a channel for each branch"
            )
        A = torch.tensor(Graph(layout, strategy, max_hop=max_hop).A, dtype=torch.float32)
        self.in_channels, self.num_joint, self.skip_empty_bodies = in_channels, A.shape[1], skip_empty_bodies
        self.data_bn = nn.BatchNorm1d(in_channels * self.num_joint)
        dims = [in_channels, *(factor * hidden_channels for factor, _ in BLOCKS)]
        # Every entry of the adjacency is learned, so that each may differ from 0.
        neighbours = Neighbours(torch.ones_like(A, dtype=torch.bool))
        self.blocks = nn.ModuleList(
            Block(
                dims[index],
                dims[index + 1],
                A,
                neighbours,
                stride=stride,
                dropout=dropout,
                residual=index > 0,
            )
            for index, (_, stride) in enumerate(BLOCKS)
        )
        self.feature_dim = dims[-1]
        self.fc = nn.Linear(self.feature_dim, num_class)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    @property
    def varies_batch(self) -> bool:
        """See `Encoder`."""
        return self.skip_empty_bodies

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`: the batch norm of the input, then the blocks."""
        return [list(module.parameters()) for module in (self.data_bn, *self.blocks)]

    def encode(self, clip: Clip) -> Features:
        """Maps (B, D, ceil(T / 4), V) of the bodies; see `Encoder`."""
        bodies, mask = split_bodies(clip, self.num_joint, self.in_channels, skip_empty=self.skip_empty_bodies)
        if is_empty(bodies):
            y = bodies.new_zeros(0, self.feature_dim, -(-bodies.shape[1] // 4), self.num_joint)
        else:
            y = normalise_rows(self.data_bn, bodies).permute(0, 3, 1, 2)
            for block in self.blocks:
                y = block(y)
        return Features.of_maps(y, clip.x.shape[0], mask)


class Block(nn.Module):
    """Graph convolution, temporal convolution, and a residual connection around both."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        neighbours: Neighbours,
        *,
        stride: int,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.gcn = LearnedGraphConv(in_channels, out_channels, A, neighbours)
        self.tcn = MultiBranchTemporalConv(out_channels, stride=stride, dropout=dropout)
        self.residual = shortcut(in_channels, out_channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', ceil(T / stride), V)."""
        y = self.tcn(self.gcn(x))
        return F.relu(y if self.residual is None else y + self.residual(x))


def shortcut(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """A residual connection: the identity, or a 1x1 convolution and batch norm where the shapes differ."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        StridedPointwiseConv(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
    )


class LearnedGraphConv(nn.Module):
    """Graph convolution whose adjacency A (K, V, V) is a parameter, batch norm, and a residual connection."""

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, neighbours: Neighbours) -> None:
        super().__init__()
        self.A = nn.Parameter(A.clone())
        self.conv = SpatialGraphConv(in_channels, out_channels, neighbours=neighbours)
        self.bn = nn.BatchNorm2d(out_channels)
        self.residual = shortcut(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C', T, V)."""
        return F.relu(self.bn(self.conv(x, self.A)) + self.residual(x))


class MultiBranchTemporalConv(nn.Module):
    """Six branches over frames, joined by a 1x1 convolution.

    Each branch begins with a 1x1 convolution to a sixth of the channels; the first has the rest, too. Four go on with a
    dilated convolution, one with max pooling, and one keeps every `stride`-th frame. The first convolutions of all are
    one convolution here, and the batch norms after those of the first five are one batch norm.
    """

    def __init__(self, channels: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        part = channels // NUM_BRANCH
        self.sizes = [channels - part * (NUM_BRANCH - 1), *[part] * (NUM_BRANCH - 1)]
        self.stride = stride
        self.first = nn.Conv2d(channels, channels, 1)
        self.first_bn = nn.BatchNorm2d(channels - part)
        self.dilated = nn.ModuleList(
            nn.Conv2d(size, size, (TEMPORAL_KERNEL, 1), (stride, 1), (dilation, 0), (dilation, 1))
            for size, dilation in zip(self.sizes, DILATIONS, strict=False)
        )
        self.pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.join = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
            Dropout(dropout, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, T, V) to (B, C, ceil(T / stride), V)."""
        y = self.first(x)
        last = self.sizes[-1]
        normalised = F.relu(self.first_bn(y[:, :-last]))
        *parts, pooled = normalised.split(self.sizes[:-1], 1)
        branches = [conv(part) for conv, part in zip(self.dilated, parts, strict=True)]
        branches += [self.pool(pooled), y[:, -last:, :: self.stride]]
        return self.join(torch.cat(branches, 1))
