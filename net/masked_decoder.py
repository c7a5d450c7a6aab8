"""The decoder of masked methods: it predicts numbers for every token from the tokens that the encoder was shown.

B bodies, T' times, V joints, S = T' * V tokens of a body, K tokens that the encoder was shown, D channels of these.
"""

import torch
from torch import Tensor, nn

from net.tokens import TokenEncoder
from net.transformer import Blocks, Position, check_heads, check_sizes, initialise_linear


class Decoder(nn.Module):
    """Transformer blocks on all tokens of a body; a learned vector stands for those that the encoder was not shown.

    encoder: gives the tokens.
    out: numbers to predict of each token.
    width, depth, num_head: of the blocks.

    Raises ValueError for sizes below 1, and a width that the heads do not divide. The message has the names of methods'
    arguments, such as decoder_width.
    """

    def __init__(self, encoder: TokenEncoder, out: int, *, width: int, depth: int, num_head: int) -> None:
        super().__init__()
        check_sizes(decoder_depth=depth)
        check_heads(("decoder_width", width), ("decoder_head", num_head))
        self.project = nn.Linear(encoder.feature_dim, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.position = Position(encoder.max_frame // encoder.patch, encoder.num_joint, width=width)
        self.blocks = Blocks(width, depth, num_head=num_head)
        self.out = nn.Linear(width, out)
        initialise_linear(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, keep: Tensor, counted: Tensor) -> Tensor:
        """Predictions (B, S, out).

        tokens: (B, K, D) of the encoder.
        keep: (B, K) int64, their indices; -1 for no token.
        counted: (B, S) bool; other tokens are hidden from these.
        """
        num_body, num_token = counted.shape
        shown = self.project(tokens).to(self.mask_token.dtype)
        # An index of -1 is sent to an extra slot S, which is cut off below.
        index = torch.where(keep < 0, num_token, keep)[..., None].expand_as(shown)
        whole = self.mask_token.expand(num_body, num_token + 1, -1).scatter(1, index, shown)
        whole = whole[:, :-1] + self.position(num_token // len(self.position.joint))
        return self.out(self.blocks(whole, None if bool(counted.all()) else counted))
