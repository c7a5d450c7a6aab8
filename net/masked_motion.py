"""Masked motion prediction (MAMP, Mao et al., ICCV 2023): the motion of hidden tokens is predicted from visible ones.

N clips, C channels, T frames, V joints, M bodies of a clip, B present bodies, P frames of a token, S tokens of a body,
D coordinates of a joint, E = P * D predicted numbers of a token.
"""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from net.loss import at_least_float32
from net.masked_decoder import Decoder
from net.masking import Masking, mean_over_ranks
from net.method import Loss, Method, Output
from net.tokens import TokenEncoder
from net.utils.clip import Batch

Normalisation = Literal["token", "axis", "none"]
# Added to a variance that divides, as in MAE.
EPS = 1e-6


class MaskedMotion(Method):
    """An encoder is shown a few tokens of each body; a decoder predicts the motion of the others.

    The motion of a frame is the difference to the next frame. It is known where the joint was seen in both frames, and
    only known motion is predicted.

    base_encoder: loses its head.
    mask_ratio, mask_temperature, channels: `ratio`, `temperature` and `channels` of `net.masking.Masking`.
    normalise: the motion that is predicted is normalised to mean 0 and variance 1 over each `token`, as published (the
        variance there is divided by n - 1), or each `axis` over the whole clip. `none` predicts it as it is.
    decoder_width, decoder_depth, decoder_head: `width`, `depth` and `num_head` of `net.masked_decoder.Decoder`.

    Loss: `motion`, the mean squared error.

    Raises ValueError for what `Masking` and `Decoder` refuse, and for an unknown normalisation.
    """

    LOSSES = (Loss("motion", weight=1.0),)
    ENCODER = TokenEncoder
    encoder: TokenEncoder

    def __init__(
        self,
        base_encoder: TokenEncoder,
        *,
        mask_ratio: float = 0.9,
        mask_temperature: float | None = 0.8,
        normalise: Normalisation = "token",
        decoder_width: int = 256,
        decoder_depth: int = 5,
        decoder_head: int = 8,
        channels: str | None = None,
    ) -> None:
        super().__init__()
        self.masking = Masking(
            base_encoder, ratio=mask_ratio, temperature=mask_temperature, channels=channels
        )
        if normalise not in NORMALISE:
            raise ValueError(f"normalise is {normalise!r}; give one of {', '.join(NORMALISE)}")
        self.normalise = normalise
        base_encoder.replace_head(torch.nn.Identity())
        self.encoder = base_encoder
        self.decoder = Decoder(
            base_encoder,
            base_encoder.patch * self.masking.num_coordinate,
            width=decoder_width,
            depth=decoder_depth,
            num_head=decoder_head,
        )

    @property
    def varies_batch(self) -> bool:
        """See `Method`."""
        return True

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`."""
        clip = batch.views[0]
        bodies = self.encoder.split(clip)
        motion, known = self.masking.motion(bodies)
        keep, hidden = self.masking.draw(batch, bodies, (motion, known))
        features = self.encoder.encode(clip, keep)
        counted = self.encoder.counted(bodies.present)
        predicted = at_least_float32(self.decoder(features.tokens, keep, counted))
        target = NORMALISE[self.normalise](motion, known, self.masking.num_coordinate)
        loss = mean_over_ranks((predicted - target).square(), known & hidden[..., None])
        return Output({"motion": loss}, embedding=features.pool())


def _by_token(motion: Tensor, known: Tensor, num_coordinate: int) -> Tensor:
    """Motion (B, S, E), normalised over the known numbers of each token."""
    return _normalised(motion, known, 2)


def _by_axis(motion: Tensor, known: Tensor, num_coordinate: int) -> Tensor:
    """Motion (B, S, E), each axis normalised over the known numbers of the whole body."""
    motion, known = (each.unflatten(2, (-1, num_coordinate)) for each in (motion, known))
    return _normalised(motion, known, (1, 2)).flatten(2)


def _normalised(motion: Tensor, known: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Motion with mean 0 and variance 1 over the known numbers along the axes `dim`."""
    count = known.sum(dim, keepdim=True).clamp(min=1)
    centred = (motion - motion.sum(dim, keepdim=True) / count) * known
    return centred / (centred.square().sum(dim, keepdim=True) / count + EPS).sqrt()


NORMALISE = {"token": _by_token, "axis": _by_axis, "none": lambda motion, known, num_coordinate: motion}
