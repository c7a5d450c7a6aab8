"""ST-GCN: spatial temporal graph convolutional networks (Yan, Xiong and Lin, AAAI 2018).

N clips, C channels, T frames, V joints, M bodies of a clip, B bodies of all clips, K adjacency subsets, D channels of
the feature.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from net.encoder import Encoder, Features, check_graph, split_bodies
from net.utils.clip import Clip
from net.utils.gcn import (
    Neighbours,
    PaddingMode,
    SpatialGraphConv,
    SpatialTemporalBlock,
    initialise,
    normalise_rows,
)
from net.utils.graph import Graph
from net.utils.tracing import is_empty

# Channels (in units of hidden_channels) and stride of all blocks but the last, which has hidden_dim channels.
BLOCKS = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1))


class Model(Encoder):
    """Ten spatial-temporal blocks, the mean over frames, joints and bodies, and a linear head.

    The parameters have the names and shapes of the published weights.

    in_channels: coordinates of a joint.
    num_class: scores to give.
    layout, strategy, max_hop: see `net.utils.graph.Graph`.
    hidden_channels: channels of the first blocks, doubled at the fifth and eighth; 64 in ST-GCN, 16 in AimCLR.
    hidden_dim: D, channels of the last block.
    edge_importance_weighting: every block learns a factor for each entry of the adjacency.
    temporal_kernel_size: frames of a temporal convolution; odd.
    padding_mode: what a block sees before the first frame and after the last: "zeros", as published, or "replicate",
        which repeats these two frames; see `net.utils.gcn.SpatialTemporalBlock`.
    dropout: probability in all blocks but the first; ST-GCN was trained with 0.5.
    skip_empty_bodies: run the network on the bodies that are present in some frame, and average over these. A clip
        without a body has the feature 0. If False, absent bodies are zeros that count in the mean, as published
        weights expect.

    Raises ValueError for an even temporal_kernel_size, and for what `Graph` refuses.
    """

    HEAD = "fcn"
    A: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        num_class: int = 60,
        *,
        layout: str = "ntu-rgb+d",
        strategy: str = "spatial",
        max_hop: int = 1,
        hidden_channels: int = 64,
        hidden_dim: int = 256,
        edge_importance_weighting: bool = True,
        temporal_kernel_size: int = 9,
        padding_mode: PaddingMode = "zeros",
        dropout: float = 0.0,
        skip_empty_bodies: bool = False,
    ) -> None:
        super().__init__()
        if temporal_kernel_size % 2 == 0:
            raise ValueError(f"temporal_kernel_size is {temporal_kernel_size}; give an odd number of frames")
        A = torch.tensor(Graph(layout, strategy, max_hop=max_hop).A, dtype=torch.float32)
        self.register_buffer("A", A)
        self.in_channels, self.skip_empty_bodies = in_channels, skip_empty_bodies
        self.data_bn = nn.BatchNorm1d(in_channels * A.shape[1])
        neighbours = Neighbours(A != 0)
        dims = [hidden_channels * factor for factor, _ in BLOCKS] + [hidden_dim]
        strides = [stride for _, stride in BLOCKS] + [1]
        self.st_gcn_networks = nn.ModuleList(
            SpatialTemporalBlock(
                SpatialGraphConv(in_dim, out_dim, neighbours=neighbours),
                kernel_size=temporal_kernel_size,
                stride=stride,
                padding_mode=padding_mode,
                dropout=dropout if index > 0 else 0.0,
                residual=index > 0,
            )
            for index, (in_dim, out_dim, stride) in enumerate(
                zip([in_channels, *dims], dims, strides, strict=False)
            )
        )
        self.edge_importance = nn.ParameterList(
            nn.Parameter(torch.ones_like(A)) for _ in self.st_gcn_networks if edge_importance_weighting
        )
        self.feature_dim = hidden_dim
        self.fcn = PointwiseHead(hidden_dim, num_class, 1)
        self.apply(initialise)

    @property
    def varies_batch(self) -> bool:
        """See `Encoder`."""
        return self.skip_empty_bodies

    def encode(self, clip: Clip) -> Features:
        """Maps (B, D, ceil(T / 4), V) of the bodies; see `Encoder`."""
        bodies, mask = split_bodies(
            clip, self.A.shape[1], self.in_channels, skip_empty=self.skip_empty_bodies
        )
        return Features.of_maps(self._encode(bodies), clip.x.shape[0], mask)

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`: the batch norm of the input, then the blocks."""
        importance = list(self.edge_importance)
        blocks = [
            [*block.parameters(), *importance[index : index + 1]]
            for index, block in enumerate(self.st_gcn_networks)
        ]
        return [list(self.data_bn.parameters()), *blocks]

    def _encode(self, bodies: Tensor) -> Tensor:
        """Feature maps (B, D, ceil(T / 4), V) of bodies (B, T, V, C)."""
        frames, num_joint = bodies.shape[1:3]
        if is_empty(bodies):
            return bodies.new_zeros(0, self.feature_dim, -(-frames // 4), num_joint)
        y = normalise_rows(self.data_bn, bodies).permute(0, 3, 1, 2)
        for index, block in enumerate(self.st_gcn_networks):
            y = block(y, self.A * self.edge_importance[index] if self.edge_importance else self.A)
        return y

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        check_graph(state_dict.get(f"{prefix}A"), self.A)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of other programs under this network's names.

        AimCLR's weights have a linear head `fc` (num_class, D). ST-GCN's head is `fcn` (num_class, D, 1, 1).
        """
        pointwise = isinstance(self.head, PointwiseHead)
        translated = {}
        for key, value in state.items():
            head = re.fullmatch(r"(.*\.)?fc\.(.+)", key)
            if head:
                key = f"{head[1] or ''}fcn.{head[2]}"
                value = value[..., None, None] if pointwise and head[2] == "weight" else value
            translated[key] = value
        return translated


class PointwiseHead(nn.Conv2d):
    """ST-GCN's linear head: (N, D) -> (N, num_class). Its published weights are those of a 1x1 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """From features (N, D) to scores (N, num_class)."""
        return super().forward(x[..., None, None]).flatten(1)
