"""Which tokens of a clip a masked method hides: any, or above all those that move.

N clips, C channels, D of them coordinates, T frames, V joints, M bodies of a clip, B present bodies, P frames of a
token, S tokens of a body, K visible ones, E = P * D.
"""

import torch
from torch import Tensor

from net.loss import at_least_float32
from net.tokens import Bodies, TokenEncoder, draw_kept, patchify
from net.utils.channels import num_predictable
from net.utils.clip import Batch, seen_joints
from torchlight import distributed


class Masking:
    """Hides the same share of the tokens of each body.

    encoder: of the tokens.
    ratio: share of the tokens that are hidden.
    temperature: divides the motion of a token, as a share of the largest in the body, before a softmax gives the
        probability of being hidden (MAMP, Mao et al., ICCV 2023, section 3.3). The lower, the more tokens that move are
        hidden. None hides tokens whatever their motion.
    channels: names of the C, see `net.utils.channels`; None if all are coordinates. Confidence is no motion.

    Raises ValueError for a ratio that is not between 0 and 1, or leaves no token of a clip of `max_frame` visible or
    hidden; a temperature that is not above 0; `channels` that do not match in_channels. Raises TypeError for an encoder
    without tokens.
    """

    def __init__(
        self, encoder: TokenEncoder, *, ratio: float, temperature: float | None, channels: str | None
    ) -> None:
        if not isinstance(encoder, TokenEncoder):
            raise TypeError(f"{type(encoder).__qualname__} is not a net.tokens.TokenEncoder")
        if not 0 < ratio < 1:
            raise ValueError(f"mask_ratio is {ratio}; give more than 0 and less than 1")
        check_share(ratio, encoder.max_frame // encoder.patch * encoder.num_joint)
        if temperature is not None and not temperature > 0:
            raise ValueError(f"mask_temperature is {temperature}; give more than 0, or null")
        self.encoder, self.ratio, self.temperature = encoder, ratio, temperature
        self.num_coordinate = num_predictable(channels, encoder.in_channels)

    def motion(self, bodies: Bodies) -> tuple[Tensor, Tensor]:
        """The motion of each token, and where it is known, (B, S, E) and (B, S, E) bool; see `true_motion`."""
        motion, known = true_motion(bodies, self.num_coordinate)
        return patchify(motion, self.encoder.patch), patchify(known, self.encoder.patch)

    def draw(
        self, batch: Batch, bodies: Bodies, motion: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The visible tokens (B, K) and the hidden ones (B, S) of each body; see `net.tokens.draw_kept`.

        motion: of `bodies`; None to compute it here.

        Raises ValueError: the ratio leaves no token of a clip of this length visible or hidden.
        """
        check_share(self.ratio, bodies.poses.shape[1] // self.encoder.patch * self.encoder.num_joint)
        counted = self.encoder.counted(bodies.present)
        score = draw_noise(batch, bodies, counted)
        if self.temperature is not None:
            score = score + relative_motion(*(motion or self.motion(bodies))) / self.temperature
        return draw_kept(score, counted, 1 - self.ratio)


def check_share(ratio: float, num_token: int) -> None:
    """Raise ValueError unless some of a body's tokens are hidden by a ratio, and some are not."""
    # As many are visible as `net.tokens.draw_kept` chooses.
    if 0 < round((1 - ratio) * num_token) < num_token:
        return
    which = "visible" if ratio > 0.5 else "hidden"
    least = 0.5 / num_token
    raise ValueError(
        f"mask_ratio is {ratio}: of the {num_token} tokens of a body none would be {which}; give between {least:.2g} "
        f"and {1 - least:.2g}, or views of more frames"
    )


def true_motion(bodies: Bodies, num_coordinate: int) -> tuple[Tensor, Tensor]:
    """The difference of each frame to the next, and where it is known: (B, T, V, D) and (B, T, V, D) bool.

    It is 0 where the joint was not seen in both frames, and after the last frame. A joint at the origin counts as not
    seen (`net.utils.clip.seen_joints`): after `normalise: center_first_frame` that is the centre in the first frame.
    """
    seen = seen_joints(bodies.poses, bodies.present)
    poses = at_least_float32(bodies.poses[..., :num_coordinate])
    known = torch.zeros_like(seen)
    known[:, :-1] = seen[:, :-1] & seen[:, 1:]
    motion = torch.zeros_like(poses)
    motion[:, :-1] = poses[:, 1:] - poses[:, :-1]
    known = known[..., None].expand_as(motion)
    return motion * known, known


def mean_over_ranks(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of values over those that are `counted`, a bool of the same shape, in the batches of all ranks: ().

    Ranks may have different numbers of them. 0 if there are none.
    """
    # Below 1 where fewer are counted than there are ranks.
    count = distributed.all_reduce_mean(counted.sum().float())
    return torch.where(counted, values, 0).sum() / torch.where(count == 0, 1, count)


def draw_noise(batch: Batch, bodies: Bodies, counted: Tensor) -> Tensor:
    """Gumbel noise of each token (B, S), from the batch's generator.

    To hide the tokens with the highest scores is then to draw them without replacement.

    The noise of a body does not depend on which other bodies are present.
    """
    num_clip, num_body, _ = batch.views[0].present.shape
    uniform = torch.rand(num_clip, num_body, counted.shape[1], generator=batch.generator)
    of_body = uniform.clamp(min=1e-20).log().neg().log().neg().to(counted.device)
    return of_body[bodies.mask]


def relative_motion(motion: Tensor, known: Tensor) -> Tensor:
    """The mean absolute motion of each token, as a share of the largest one of its body: (B, S).

    motion, known: (B, S, E).
    """
    mean = motion.abs().sum(2) / known.sum(2).clamp(min=1)
    return mean / mean.amax(1, keepdim=True).clamp(min=1e-12)
