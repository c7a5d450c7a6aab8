"""Encoders of tokens, which span P frames of one joint, and the choice of the tokens that a masked method shows them.

N clips, C channels, T frames, V joints, M bodies of a clip, B bodies that are present, P frames of a token,
T' = T / P, S = T' * V tokens of a body, K tokens that are encoded, D channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from net.encoder import Encoder, Features, at_bodies, split_bodies
from net.utils.clip import Clip


class Bodies(NamedTuple):
    """The bodies of clips that are present in some frame.

    poses: (B, T, V, C).
    present: (B, T) bool, in which frames.
    mask: (N, M) bool, which of all bodies they are.
    """

    poses: Tensor
    present: Tensor
    mask: Tensor


class TokenEncoder(Encoder):
    """An encoder of tokens that can encode a part of them, as masked methods need.

    Tokens are sorted by time, then by joint. A subclass gives `encode`, and these attributes beside those of `Encoder`:

    patch: P.
    max_frame: frames of the longest clip.
    num_joint: V.
    """

    patch: int
    max_frame: int
    num_joint: int

    def encode(self, clip: Clip, keep: Tensor | None = None) -> Features:
        """Features of the tokens of N clips.

        Args:
            clip: the clips.
            keep: (B, K) int64, indices of the K tokens of each body that are encoded; -1 stands for no token. None for
                all S.
        """
        raise NotImplementedError

    def split(self, clip: Clip) -> Bodies:
        """The bodies of clips that are present in some frame.

        Raises ValueError: the clips have another shape, or a number of frames that P does not divide, or more than
            `max_frame`.
        """
        num_frame = clip.x.shape[2]
        if num_frame % self.patch or not 0 < num_frame <= self.max_frame:
            raise ValueError(
                f"a clip has {num_frame} frames; this network takes multiples of patch, which is {self.patch}, up to "
                f"max_frame, which is {self.max_frame}: change the num_frame of the views, or model_args"
            )
        poses, mask = split_bodies(clip, self.num_joint, self.in_channels, skip_empty=True)
        assert mask is not None
        return Bodies(poses, at_bodies(clip.present, mask), mask)

    def counted(self, present: Tensor) -> Tensor:
        """The tokens with a frame in which their body is `present` (B, T): (B, S) bool."""
        return present.unflatten(1, (-1, self.patch)).any(2).repeat_interleave(self.num_joint, dim=1)


def patchify(values: Tensor, patch: int) -> Tensor:
    """Values (B, T, V, C) of bodies as those of each token, (B, S, P * C)."""
    return values.unflatten(1, (-1, patch)).transpose(2, 3).flatten(3).flatten(1, 2)


def take_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """The tokens (B, K, D) at `index` (B, K) of tokens (B, S, D)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))


def draw_kept(score: Tensor, counted: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Choose the tokens with the lowest scores, the same share of the counted tokens of each body.

    Args:
        score: (B, S).
        counted: (B, S) bool; others are not chosen.
        ratio: the share, above 0 and below 1. At least one token of each body is chosen.

    Returns:
        Indices (B, K) int64 of the chosen tokens, -1 for no token; and the counted tokens that are not chosen, (B, S)
        bool.
    """
    count = _share(counted.sum(1), ratio)
    most = int(_share(torch.tensor(score.shape[1]), ratio))
    index = score.masked_fill(~counted, torch.inf).argsort(1)[:, :most]
    chosen = torch.arange(most, device=score.device) < count[:, None]
    others = counted & ~torch.zeros_like(counted).scatter(1, index, chosen)
    return index.masked_fill(~chosen, -1), others


def _share(count: Tensor, ratio: float) -> Tensor:
    """A share of whole numbers, rounded, at least 1."""
    return (ratio * count.double()).round().long().clamp(min=1)
