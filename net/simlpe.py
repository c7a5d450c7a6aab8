"""siMLPe: pose prediction by linear layers alone (Guo et al., WACV 2023).

B bodies, T frames seen, P future frames, K numbers of a pose.
"""

from torch import Tensor, nn

from net.predictor import Predictor, TimeLinear, dct_matrix, over_frames


class Model(Predictor):
    """Linear layers on the cosine transform of the poses seen; the result is added to the last pose.

    num_observe: T.
    num_predict: P, at most T.
    num_block: blocks of a linear layer over time and a layer norm, added to their input.

    channels, mirror: see `Predictor`.

    Losses: see `Predictor`.

    Raises ValueError for sizes below 1, more frames to predict than are seen, or `channels` that do not match
    in_channels.
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
        num_block: int = 48,
    ) -> None:
        super().__init__(
            in_channels,
            layout=layout,
            num_observe=num_observe,
            num_predict=num_predict,
            channels=channels,
            mirror=mirror,
        )
        if num_predict > num_observe:
            raise ValueError(
                f"num_predict is {num_predict}; give at most num_observe, which is {num_observe}: a test predicts "
                "more frames from those that were predicted before"
            )
        if num_block < 1:
            raise ValueError(f"num_block is {num_block}; give 1 or more")
        self.register_buffer("dct", dct_matrix(num_observe), persistent=False)
        self.first = nn.Linear(self.pose_dim, self.pose_dim)
        self.blocks = nn.ModuleList(Block(num_observe, self.pose_dim) for _ in range(num_block))
        self.last = nn.Linear(self.pose_dim, self.pose_dim)
        # An untrained network predicts bodies that stand still.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def displacement(self, poses: Tensor) -> Tensor:
        """See `Predictor`."""
        y = self.first(over_frames(self.dct, poses))
        for block in self.blocks:
            y = block(y)
        return over_frames(self.dct.T, self.last(y))[: self.num_predict]


class Block(nn.Module):
    """A linear layer over time and a layer norm over the numbers of a pose, added to the input."""

    def __init__(self, num_frame: int, width: int) -> None:
        super().__init__()
        self.over_time = TimeLinear(num_frame, num_frame)
        self.norm = nn.LayerNorm(width)
        # As published: a block begins as the identity.
        nn.init.xavier_uniform_(self.over_time.weight, gain=1e-8)
        nn.init.zeros_(self.over_time.bias)

    def forward(self, x: Tensor) -> Tensor:
        """From (T, B, K) to (T, B, K)."""
        return x + self.norm(self.over_time(x))
