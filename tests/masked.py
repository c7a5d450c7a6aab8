"""A masked autoencoder for skeletons, as a package of a user: an encoder of tokens, and the method that trains it.

N clips, M bodies, B bodies in all, C coordinates, T frames, V joints, P frames of a token, S = T / P * V tokens, K of
them visible, D channels. After SkeletonMAE and MAMP (Mao et al., ICCV 2023): the motion of hidden tokens is predicted.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from net.encoder import Features, split_bodies
from net.method import Loss, Method, Output, no_loss
from net.tokens import TokenEncoder
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton


def blocks(width: int, count: int) -> nn.TransformerEncoder:
    """Pre-norm blocks of self-attention on tokens (B, S, D)."""
    layer = nn.TransformerEncoderLayer(
        width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, count, norm=nn.LayerNorm(width), enable_nested_tensor=False)


class PositionEmbedding(nn.Module):
    """Learned embeddings of a token's frame and of its joint, which are added to it."""

    def __init__(self, num_frame: int, num_joint: int, width: int) -> None:
        super().__init__()
        self.frame = nn.Parameter(0.02 * torch.randn(num_frame, 1, width))
        self.joint = nn.Parameter(0.02 * torch.randn(1, num_joint, width))

    def forward(self, num_token: int) -> Tensor:
        """Of the first S tokens, (S, D)."""
        return (self.frame + self.joint).flatten(0, 1)[:num_token]


class Transformer(TokenEncoder):
    """Self-attention over tokens of P frames x 1 joint; absent bodies are left out.

    in_channels: C.
    layout: of the skeleton.
    width: D.
    depth: number of blocks.
    patch: P.
    max_frame: the longest clip it has position embeddings for.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        layout: str = "ntu-rgb+d",
        width: int = 64,
        depth: int = 4,
        patch: int = 4,
        max_frame: int = 64,
    ) -> None:
        super().__init__()
        self.in_channels, self.feature_dim, self.patch, self.max_frame = in_channels, width, patch, max_frame
        self.num_joint = get_skeleton(layout).num_joint
        self.embed = nn.Linear(patch * in_channels, width)
        self.position = PositionEmbedding(max_frame // patch, self.num_joint, width)
        self.blocks = blocks(width, depth)

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`; the embedding of tokens, then the blocks."""
        first = [*self.embed.parameters(), *self.position.parameters()]
        return [first, *(list(block.parameters()) for block in self.blocks.layers)]

    def patchify(self, bodies: Tensor) -> Tensor:
        """Patches (B, S, P * C) of bodies (B, T, V, C)."""
        cut = bodies[:, : bodies.shape[1] // self.patch * self.patch].unflatten(1, (-1, self.patch))
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)

    def bodies_of(self, clip: Clip) -> tuple[Tensor, Tensor | None]:
        """See `net.encoder.split_bodies`."""
        return split_bodies(clip, self.num_joint, self.in_channels, skip_empty=True)

    def encode(self, clip: Clip, keep: Tensor | None = None) -> Features:
        """See `TokenEncoder`."""
        bodies, there = self.bodies_of(clip)
        patches = self.patchify(bodies)
        tokens = self.embed(patches) + self.position(patches.shape[1])
        grid = (clip.x.shape[2] // self.patch, self.num_joint)
        if keep is not None:
            tokens, grid = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2])), None
        return Features(self.blocks(tokens), clip.x.shape[0], grid, there)


class Masked(Method):
    """Predicts the motion of the hidden tokens of a clip from the visible ones.

    base_encoder: of tokens.
    mask_ratio: share of the tokens that are hidden.
    width, depth: of the decoder.
    """

    LOSSES = (Loss("motion", weight=1.0),)
    ENCODER = TokenEncoder
    encoder: Transformer

    def __init__(
        self, base_encoder: Transformer, *, mask_ratio: float = 0.75, width: int = 64, depth: int = 1
    ) -> None:
        super().__init__()
        self.encoder, self.mask_ratio = base_encoder, mask_ratio
        self.project = nn.Linear(base_encoder.feature_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        frames, joints = base_encoder.position.frame.shape[0], base_encoder.num_joint
        self.position = PositionEmbedding(frames, joints, width)
        self.decoder = blocks(width, depth)
        self.out = nn.Linear(width, base_encoder.patch * base_encoder.in_channels)

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`."""
        clip = batch.views[0]
        bodies, _ = self.encoder.bodies_of(clip)
        if not len(bodies):
            return Output({"motion": no_loss(self)})
        motion = torch.diff(bodies, dim=1, append=bodies[:, -1:])
        # Normalised over the clip. A token's own deviation would make noise of resting joints as large as motion.
        target = self.encoder.patchify(motion / motion.std((1, 2), keepdim=True).clamp(min=1e-4))
        noise = torch.rand(target.shape[:2], generator=batch.generator).to(target.device)
        order = noise.argsort(1)
        count = max(1, round(target.shape[1] * (1 - self.mask_ratio)))
        keep, masked = order[:, :count], order[:, count:]
        features = self.encoder.encode(clip, keep)
        tokens = self.mask_token.expand(*order.shape, -1).to(features.tokens)
        seen = self.project(features.tokens)
        tokens = tokens.scatter(1, keep[..., None].expand_as(seen), seen) + self.position(order.shape[1])
        predicted = self.out(self.decoder(tokens)).float()
        squared = (predicted - target).square().mean(2)
        return Output({"motion": squared.gather(1, masked).mean()}, embedding=features.pool())
