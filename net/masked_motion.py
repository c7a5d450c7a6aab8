"""Masked motion prediction (MAMP, Mao et al., ICCV 2023): the motion of hidden tokens is predicted from visible ones.

N clips, C channels, T frames, V joints, M bodies of a clip, B present bodies, P frames of a token, S tokens of a body,
E = P * D predicted numbers of a token, of D coordinates.
"""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from net.loss import at_least_float32
from net.masked_decoder import Decoder
from net.method import POSES, Loss, Method, Output, no_loss
from net.tokens import Bodies, TokenEncoder, draw_kept, patchify
from net.utils.channels import num_predictable
from net.utils.clip import Batch, seen_joints

Normalisation = Literal["token", "axis", "none"]
# Added to a variance that divides, as in MAE.
EPS = 1e-6


class MaskedMotion(Method):
    """An encoder is shown a few tokens of each body; a decoder predicts the motion of the others.

    The motion of a frame is the difference to the next frame. It is known where the joint was seen in both frames, and
    only known motion is predicted.

    base_encoder: loses its head.
    mask_ratio: share of the tokens that are hidden.
    mask_temperature: divides the motion of tokens, as a share of the largest in the body, in the choice of tokens to
        hide: the lower, the more tokens that move are hidden. None hides tokens whatever their motion.
    normalise: the motion that is predicted is normalised to mean 0 and variance 1 over each `token`, as published, or
        each `axis` over the whole clip. `none` predicts it as it is.
    decoder_width, decoder_depth, decoder_head: of the decoder.
    channels: names of the C, see `net.utils.channels`; None if all are coordinates. Confidence is not predicted.

    Loss: `motion`, the mean squared error.

    Raises ValueError for a mask_ratio that is not between 0 and 1, or leaves no token to a clip of `max_frame`; a
    mask_temperature that is not above 0; an unknown normalisation; sizes of the decoder below 1; `channels` that do not
    match in_channels.
    """

    LOSSES = (Loss("motion", needs=(POSES,), weight=1.0),)
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
        check_mask_ratio(mask_ratio, base_encoder)
        if mask_temperature is not None and not mask_temperature > 0:
            raise ValueError(f"mask_temperature is {mask_temperature}; give more than 0, or null")
        if normalise not in NORMALISE:
            raise ValueError(f"normalise is {normalise!r}; give one of {', '.join(NORMALISE)}")
        self.mask_ratio, self.mask_temperature, self.normalise = mask_ratio, mask_temperature, normalise
        self.num_coordinate = num_predictable(channels, base_encoder.in_channels)
        base_encoder.replace_head(torch.nn.Identity())
        self.encoder = base_encoder
        self.decoder = Decoder(
            base_encoder,
            base_encoder.patch * self.num_coordinate,
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
        if len(bodies.poses) == 0:
            return Output({"motion": no_loss(self)})
        motion, known = (
            patchify(each, self.encoder.patch) for each in true_motion(bodies, self.num_coordinate)
        )
        counted = self.encoder.counted(bodies.present)
        score = draw_noise(batch, bodies, counted)
        if self.mask_temperature is not None:
            score = score + relative_motion(motion, known) / self.mask_temperature
        keep, hidden = draw_kept(score, counted, 1 - self.mask_ratio)
        features = self.encoder.encode(clip, keep)
        predicted = at_least_float32(self.decoder(features.tokens, keep, counted))
        with torch.autocast(motion.device.type, enabled=False):
            target = NORMALISE[self.normalise](motion, known, self.num_coordinate)
            scored = known & hidden[..., None]
            loss = ((predicted - target).square() * scored).sum() / scored.sum().clamp(min=1)
        return Output({"motion": loss}, embedding=features.pool())


def check_mask_ratio(ratio: float, encoder: TokenEncoder) -> None:
    """Raise ValueError for a ratio that is not between 0 and 1, or that leaves no token of the longest clip visible."""
    if not 0 < ratio < 1:
        raise ValueError(f"mask_ratio is {ratio}; give more than 0 and less than 1")
    num_token = encoder.max_frame // encoder.patch * encoder.num_joint
    if not 0 < round((1 - ratio) * num_token) < num_token:
        raise ValueError(
            f"mask_ratio is {ratio}: of the {num_token} tokens of a body none would be "
            f"{'visible' if ratio > 0.5 else 'hidden'}; give another"
        )


def true_motion(bodies: Bodies, num_coordinate: int) -> tuple[Tensor, Tensor]:
    """The difference of each frame to the next, and where it is known: (B, T, V, D) and (B, T, V, D) bool.

    It is 0 where the joint was not seen in both frames, and after the last frame.
    """
    seen = seen_joints(bodies.poses, bodies.present)
    poses = at_least_float32(bodies.poses[..., :num_coordinate])
    known = torch.zeros_like(seen)
    known[:, :-1] = seen[:, :-1] & seen[:, 1:]
    motion = torch.zeros_like(poses)
    motion[:, :-1] = poses[:, 1:] - poses[:, :-1]
    known = known[..., None].expand_as(motion)
    return motion * known, known


def draw_noise(batch: Batch, bodies: Bodies, counted: Tensor) -> Tensor:
    """Gumbel noise of each token (B, S), from the batch's generator: taking the lowest draws without replacement.

    The noise of a body does not depend on which other bodies are present.
    """
    num_clip, num_body, _ = batch.views[0].present.shape
    uniform = torch.rand(num_clip, num_body, counted.shape[1], generator=batch.generator)
    of_body = uniform.clamp(min=1e-20).log().neg().log().neg().to(counted.device)
    return of_body.flatten(0, 1) if bodies.mask is None else of_body[bodies.mask]


def relative_motion(motion: Tensor, known: Tensor) -> Tensor:
    """The mean absolute motion of each token, as a share of the largest one of its body: (B, S).

    motion, known: (B, S, E).
    """
    mean = motion.abs().sum(2) / known.sum(2).clamp(min=1)
    return mean / mean.amax(1, keepdim=True).clamp(min=1e-12)


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
