"""A masked autoencoder for skeletons as somebody else's package: an encoder of tokens, and the method that trains it.

N clips, M bodies, B bodies in all, C coordinates, T frames, V joints, P frames of a token, S = T / P * V tokens, K of
them seen, D channels. After SkeletonMAE and MAMP (Mao et al., ICCV 2023): movements of hidden tokens are predicted.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from net.encoder import Features, TokenEncoder, split_bodies
from net.method import Loss, Method, Output, no_loss
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton


def blocks(width: int, count: int) -> nn.TransformerEncoder:
    """Blocks of self-attention on tokens (B, S, D), with norms before."""
    layer = nn.TransformerEncoderLayer(
        width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, count, norm=nn.LayerNorm(width), enable_nested_tensor=False)


class Places(nn.Module):
    """What is added to tokens, that they know where they are: an embedding of the frame, and one of the joint."""

    def __init__(self, num_frame: int, num_joint: int, width: int) -> None:
        super().__init__()
        self.frame = nn.Parameter(0.02 * torch.randn(num_frame, 1, width))
        self.joint = nn.Parameter(0.02 * torch.randn(1, num_joint, width))

    def forward(self, num_token: int) -> Tensor:
        """Of the first tokens, (S, D)."""
        return (self.frame + self.joint).flatten(0, 1)[:num_token]


class Transformer(TokenEncoder):
    """Blocks of self-attention over pieces of P frames of single joints; absent bodies are left out.

    in_channels: C.
    layout: of the skeleton.
    width: D.
    num_block: of them.
    patch: P.
    max_frame: the longest clip it has places for.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        layout: str = "ntu-rgb+d",
        width: int = 64,
        num_block: int = 4,
        patch: int = 4,
        max_frame: int = 64,
    ) -> None:
        super().__init__()
        self.in_channels, self.feature_dim, self.patch = in_channels, width, patch
        self.num_joint = get_skeleton(layout).num_joint
        self.embed = nn.Linear(patch * in_channels, width)
        self.places = Places(max_frame // patch, self.num_joint, width)
        self.blocks = blocks(width, num_block)

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`; the embedding of tokens, then the blocks."""
        first = [*self.embed.parameters(), *self.places.parameters()]
        return [first, *(list(block.parameters()) for block in self.blocks.layers)]

    def pieces(self, bodies: Tensor) -> Tensor:
        """Bodies (B, T, V, C) in pieces (B, S, P * C)."""
        cut = bodies[:, : bodies.shape[1] // self.patch * self.patch].unflatten(1, (-1, self.patch))
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)

    def split(self, clip: Clip) -> tuple[Tensor, Tensor | None]:
        """See `net.encoder.split_bodies`."""
        return split_bodies(clip, self.num_joint, self.in_channels, skip_empty=True)

    def encode(self, clip: Clip, keep: Tensor | None = None) -> Features:
        """See `TokenEncoder`."""
        bodies, there = self.split(clip)
        pieces = self.pieces(bodies)
        tokens = self.embed(pieces) + self.places(pieces.shape[1])
        grid = (clip.x.shape[2] // self.patch, self.num_joint)
        if keep is not None:
            tokens, grid = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2])), None
        return Features(self.blocks(tokens), clip.x.shape[0], grid, there)


class Masked(Method):
    """Predicts how the hidden joints of a clip move, from the few tokens that are seen.

    base_encoder: of tokens.
    hidden: share of the tokens that are hidden.
    width, num_block: of the decoder.
    """

    LOSSES = (Loss("motion", weight=1.0),)
    ENCODER = TokenEncoder
    encoder: Transformer

    def __init__(
        self, base_encoder: Transformer, *, hidden: float = 0.9, width: int = 64, num_block: int = 1
    ) -> None:
        super().__init__()
        self.encoder, self.hidden = base_encoder, hidden
        self.into = nn.Linear(base_encoder.feature_dim, width)
        self.unseen = nn.Parameter(torch.zeros(width))
        frames, joints = base_encoder.places.frame.shape[0], base_encoder.num_joint
        self.places = Places(frames, joints, width)
        self.decoder = blocks(width, num_block)
        self.out = nn.Linear(width, base_encoder.patch * base_encoder.in_channels)

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`."""
        clip = batch.views[0]
        bodies, _ = self.encoder.split(clip)
        if not len(bodies):
            return Output({"motion": no_loss(self)})
        moved = torch.diff(bodies, dim=1, append=bodies[:, -1:])
        target = self.encoder.pieces(moved)
        # Those that move most are hidden first, but for chance (Mao et al., eq. 3).
        weight = (
            target.square().mean(2).clamp(min=1e-9).log() - torch.rand_like(target[..., 0]).log().neg().log()
        )
        order = weight.argsort(1)
        count = max(1, round(target.shape[1] * (1 - self.hidden)))
        keep, gone = order[:, :count], order[:, count:]
        features = self.encoder.encode(clip, keep)
        tokens = self.unseen.expand(*order.shape, -1).to(features.tokens)
        seen = self.into(features.tokens)
        tokens = tokens.scatter(1, keep[..., None].expand_as(seen), seen) + self.places(order.shape[1])
        predicted = self.out(self.decoder(tokens)).float()
        std = target.std(2, keepdim=True).clamp(min=1e-3)
        squared = (predicted - (target - target.mean(2, keepdim=True)) / std).square().mean(2)
        return Output({"motion": squared.gather(1, gone).mean()}, embedding=features.pool())
