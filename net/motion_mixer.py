"""A mixer for pose prediction: layers over time and over channels in turn, on the cosine transform of the poses.

B bodies, T frames seen, P future frames, S = T + P, K numbers of a pose, W channels.
"""

import torch
from torch import Tensor, nn

from net.predictor import Predictor, TimeLinear, dct_matrix, over_frames
from net.utils.dropout import Dropout


class Model(Predictor):
    """The last pose is repeated over the P frames to come; the network predicts how the S frames differ from that.

    num_observe: T.
    num_predict: P.
    width: W.
    num_block: number of `Block`s.
    mlp_ratio: channels of a block's MLP, as a multiple of W.
    dropout: in that MLP.

    channels, mirror: see `Predictor`.

    Losses: see `Predictor`.

    Raises ValueError for sizes below 1, a dropout out of range, or `channels` that do not match in_channels.
    """

    dct: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        *,
        layout: str = "ntu-rgb+d",
        num_observe: int = 20,
        num_predict: int = 10,
        channels: str | None = None,
        mirror: bool = False,
        width: int = 128,
        num_block: int = 8,
        mlp_ratio: float = 2.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(
            in_channels,
            layout=layout,
            num_observe=num_observe,
            num_predict=num_predict,
            channels=channels,
            mirror=mirror,
        )
        for name, size in {"width": width, "num_block": num_block}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; give 1 or more")
        hidden = round(mlp_ratio * width)
        if hidden < 1:
            raise ValueError(
                f"mlp_ratio is {mlp_ratio}: an MLP of width {width} would have no channel; give more"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; give 0 to below 1")
        num_frame = num_observe + num_predict
        self.register_buffer("dct", dct_matrix(num_frame), persistent=False)
        self.first = nn.Linear(self.pose_dim, width)
        self.blocks = nn.ModuleList(Block(num_frame, width, hidden, dropout) for _ in range(num_block))
        self.last = nn.Linear(width, self.pose_dim)
        # An untrained network predicts bodies that stand still.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def displacement(self, poses: Tensor) -> Tensor:
        """See `Predictor`."""
        last = poses[-1:].expand(self.num_predict, -1, -1)
        y = self.first(over_frames(self.dct, torch.cat((poses, last))))
        for block in self.blocks:
            y = block(y)
        return over_frames(self.dct.T, self.last(y))[self.num_observe :]


class Block(nn.Module):
    """A linear layer over time, then an MLP over channels, each added to its input."""

    def __init__(self, num_frame: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.over_time = TimeLinear(num_frame, num_frame)
        self.norm = nn.LayerNorm(width)
        self.act = nn.GELU()
        back = nn.Linear(hidden, width)
        nn.init.zeros_(back.weight)
        nn.init.zeros_(back.bias)
        self.over_channels = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), Dropout(dropout, inplace=True), back
        )

    def forward(self, x: Tensor) -> Tensor:
        """From (S, B, W) to (S, B, W)."""
        x = x + self.act(self.norm(self.over_time(x)))
        return x + self.over_channels(x)
