"""Masked motion the usual way: all tokens go through the encoder, and only then are some of them hidden.

The mask and the targets of one body are made at a time.
"""

import torch
from torch import Tensor, nn


class MaskedMotion(nn.Module):
    """torch's transformer layers in fp32 on all tokens of all bodies.

    patch: frames of a token.
    """

    def __init__(
        self,
        *,
        num_joint: int,
        num_frame: int,
        patch: int,
        width: int,
        depth: int,
        num_head: int,
        mlp_ratio: float,
        decoder_width: int,
        decoder_depth: int,
        mask_ratio: float,
    ) -> None:
        super().__init__()
        self.patch, self.mask_ratio = patch, mask_ratio
        num_token = num_frame // patch * num_joint
        self.embed = nn.Linear(3 * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(num_token, width))
        self.encoder = _layers(width, depth, num_head, mlp_ratio)
        self.project = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(decoder_width))
        self.decoder_position = nn.Parameter(0.02 * torch.randn(num_token, decoder_width))
        self.decoder = _layers(decoder_width, decoder_depth, num_head, 4.0)
        self.out = nn.Linear(decoder_width, 3 * patch)

    def forward(self, x: Tensor) -> Tensor:
        """The loss of clips (N, C, T, V, M)."""
        n, c, t, v, m = x.shape
        bodies = x.permute(0, 4, 2, 3, 1).reshape(n * m, t, v, c)
        tokens = (
            bodies.reshape(n * m, t // self.patch, self.patch, v, c).transpose(2, 3).flatten(3).flatten(1, 2)
        )
        hidden, targets = [], []
        for body in bodies:
            motion = torch.zeros_like(body)
            motion[:-1] = body[1:] - body[:-1]
            target = (
                motion.reshape(t // self.patch, self.patch, v, c).transpose(1, 2).flatten(2).flatten(0, 1)
            )
            targets.append(
                (target - target.mean(1, keepdim=True)) / (target.var(1, keepdim=True) + 1e-6).sqrt()
            )
            order = torch.rand(len(target)).argsort()
            mask = torch.ones(len(target), dtype=torch.bool)
            mask[order[: round(len(target) * (1 - self.mask_ratio))]] = False
            hidden.append(mask)
        mask = torch.stack(hidden).to(x.device)
        features = self.project(self.encoder(self.embed(tokens) + self.position))
        features = torch.where(mask[..., None], self.mask_token, features) + self.decoder_position
        predicted = self.out(self.decoder(features))
        return (predicted - torch.stack(targets)).square().mean(2)[mask].mean()


def _layers(width: int, depth: int, num_head: int, mlp_ratio: float) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, num_head, round(mlp_ratio * width), 0.0, "gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
