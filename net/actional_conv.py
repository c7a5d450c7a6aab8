"""AS-GCN's convolutions over structural and actional links (Li et al., CVPR 2019).

B bodies, C channels, T frames, V joints, K structural and L actional adjacency subsets.
"""

from torch import Tensor, nn

from net.utils.dropout import Dropout
from net.utils.gcn import (
    GraphConv,
    Neighbours,
    add_bias,
    bias_of_joints,
    by_subset,
    graph_conv,
    graph_conv_by_body,
)


class ActionalGraphConv(GraphConv):
    """Graph convolution over structural and actional subsets (eq. 8).

    All bodies share the structural adjacency; each body has its own actional one.

    num_link: L. Other arguments: see `net.utils.gcn.SpatialGraphConv`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, neighbours: Neighbours, num_link: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv = nn.Conv2d(in_channels, out_channels * (neighbours.num_subset + num_link), 1)
        self.neighbours = neighbours

    def forward(self, x: Tensor, A: Tensor, links: Tensor) -> Tensor:
        """From x (B, C, T, V), A (K, V, V) and links (B, L, V, V) to (B, C', T, V)."""
        weight, bias = by_subset(self.conv, len(A) + links.shape[1])
        return _over_both(x, A, links, weight, bias, self.neighbours)


class PoseBlock(nn.Module):
    """The last block of the future head: a graph convolution, then a 1x1 convolution.

    As in the published weights, both are transposed convolutions. With a kernel of one frame, a transposed convolution
    differs from an ordinary one only in the order of the weight's axes.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, neighbours: Neighbours, num_link: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_subset = neighbours.num_subset + num_link
        deconv = nn.ConvTranspose2d(in_channels, out_channels * self.num_subset, 1)
        self.gcn_recon = nn.ModuleDict({"deconv": deconv})
        self.tcn_recon = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(out_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            Dropout(dropout),
        )
        self.neighbours = neighbours

    def forward(self, x: Tensor, A: Tensor, links: Tensor) -> Tensor:
        """From x (B, C, 1, V), A (K, V, V) and links (B, L, V, V) to (B, C', 1, V)."""
        deconv = self.gcn_recon["deconv"]
        assert isinstance(deconv, nn.ConvTranspose2d)
        assert deconv.bias is not None
        weight = deconv.weight[..., 0, 0].T.unflatten(0, (self.num_subset, -1))
        bias = deconv.bias.unflatten(0, (self.num_subset, -1))
        return self.tcn_recon(_over_both(x, A, links, weight, bias, self.neighbours))


def _over_both(
    x: Tensor, A: Tensor, links: Tensor, weight: Tensor, bias: Tensor, neighbours: Neighbours
) -> Tensor:
    """Graph convolution of x (B, C, T, V) over A (K, V, V) and links (B, L, V, V): (B, C', T, V).

    weight: (K + L, C', C). bias: (K + L, C'). In both, the structural subsets come first.
    """
    num = len(A)
    y = graph_conv(x, A, weight[:num], neighbours) + graph_conv_by_body(x, links, weight[num:])
    return add_bias(y, bias_of_joints(A, bias[:num]) + bias_of_joints(links, bias[num:])[:, None])
