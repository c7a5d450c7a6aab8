"""Sampling in time: the positions of a view's frames in its clip.

Shapes: N clips, T frames of a view. A position is a real number of frames, counted from 0; NaN is an empty frame. A
step maps lengths (N,) to positions (N, T) in the frames of its own input. Steps compose: the positions of a later step
index those of the earlier ones, with linear interpolation. All tensors are small, and on the CPU.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor


class SamplingStep:
    """One step. Steps of one class with the same arguments are equal.

    num_frame: T, or None if it keeps the length of its input.
    num_ahead: number of these frames, at the end, that come after the part that is seen.
    draws: whether it is random.
    takes_whole_frames: whether it gives as many frames as its input has, each a frame of the input (no interpolation).
    """

    num_frame: int | None = None
    num_ahead: int = 0
    draws: bool = False
    takes_whole_frames: ClassVar[bool] = False

    def deterministic(self) -> "SamplingStep | None":
        """The step without randomness: the centred, largest part; None if it is to be left out."""
        return None if self.draws else self

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """Positions (N, T) float64 in inputs of `length` (N,) int64 frames, all equal if `num_frame` is None."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))


def sample(steps: Sequence[SamplingStep], num_frame: Tensor, generator: torch.Generator) -> Tensor:
    """Positions (N, T) float64 of a view in clips of `num_frame` (N,) frames.

    The first step gets clips of different lengths, so it must have a `num_frame`.
    """
    positions = steps[0](num_frame, generator)
    for step in steps[1:]:
        length = torch.full_like(num_frame, positions.shape[1])
        positions = _compose(positions, step(length, generator))
    return positions


def fixed_part(steps: Sequence[SamplingStep]) -> tuple[SamplingStep, ...]:
    """The steps before the first random one; none if any later step does not take whole frames."""
    count = next((number for number, step in enumerate(steps) if step.draws), len(steps))
    return tuple(steps[:count]) if all(step.takes_whole_frames for step in steps[count:]) else ()


def _compose(positions: Tensor, local: Tensor) -> Tensor:
    """Positions in the clip (N, T') from `positions` (N, T) in the clip and `local` (N, T') in those."""
    frame = local.floor()
    weight = local - frame
    index = frame.nan_to_num(0.0).long()
    before = positions.gather(1, index)
    after = positions.gather(1, index + (weight > 0))
    # A NaN in `local` gives a NaN weight, so an empty frame of the later step stays empty.
    return before.lerp(after, weight)


def _resized(length: Tensor, num_frame: int) -> Tensor:
    """Middles of T = `num_frame` equal parts of clips of `length` (N,): (N, T), as OpenCV and torch resize."""
    length = length.double()[:, None]
    middle = torch.arange(num_frame, dtype=torch.float64) + 0.5
    return (middle * length / num_frame - 0.5).clamp(min=0).minimum(length - 1)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, dtype=torch.float64, generator=generator)


def _below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """A random whole number from 0 to below each limit (N,): (N,) int64."""
    return (_uniform(len(limit), generator) * limit).long().minimum(limit - 1)


def _check_num_frame(num_frame: int) -> int:
    if num_frame < 1:
        raise ValueError(f"num_frame is {num_frame}; give 1 frame or more")
    return num_frame


class Resize(SamplingStep):
    """The whole clip in `num_frame` frames: half-pixel centres, clamped at both ends, linear."""

    def __init__(self, num_frame: int) -> None:
        self.num_frame: int = _check_num_frame(num_frame)

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        return _resized(length, self.num_frame)


class Pad(SamplingStep):
    """The clip from its start, padded to `num_frame` frames by repetition or with empty frames.

    A longer clip is cut to its first `num_frame` frames. `repeat` is AS-GCN's padding, `zero` ST-GCN's.
    """

    def __init__(self, num_frame: int, mode: Literal["repeat", "zero"] = "repeat") -> None:
        if mode not in ("repeat", "zero"):
            raise ValueError(f"mode is {mode!r}; give 'repeat' or 'zero'")
        self.num_frame: int = _check_num_frame(num_frame)
        self.mode = mode

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        frame = torch.arange(self.num_frame).expand(len(length), -1)
        if self.mode == "repeat":
            return (frame % length[:, None]).double()
        return frame.double().masked_fill(frame >= length[:, None], math.nan)


class Crop(SamplingStep):
    """`num_frame` consecutive frames: from the middle, from a random place, or from the start.

    A shorter clip is repeated from its start until it is long enough.
    """

    def __init__(self, num_frame: int, where: Literal["center", "random", "start"] = "center") -> None:
        if where not in ("center", "random", "start"):
            raise ValueError(f"where is {where!r}; give 'center', 'random' or 'start'")
        self.num_frame: int = _check_num_frame(num_frame)
        self.where, self.draws = where, where == "random"

    def deterministic(self) -> "Crop":
        """See `SamplingStep`."""
        return Crop(self.num_frame) if self.draws else self

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        free = (length - self.num_frame).clamp(min=0)
        first = {
            "center": lambda: free // 2,
            "random": lambda: _below(free + 1, generator),
            "start": lambda: torch.zeros_like(free),
        }[self.where]()
        frame = first[:, None] + torch.arange(self.num_frame)
        return (frame % length[:, None]).double()


class RandomResizedCrop(SamplingStep):
    """A part of the clip, `min_ratio` to `max_ratio` of its frames, resized to `num_frame` (CTR-GCN).

    The ratio is drawn uniformly. So is the place, unless `center`. A part has at least `min_frame` frames (CTR-GCN
    trains with 64), unless the clip is too short for these and the frames ahead.

    num_ahead: further frames after the part, at the same pace; empty after the end of the clip.
    """

    draws = True

    def __init__(
        self,
        num_frame: int,
        min_ratio: float,
        max_ratio: float,
        *,
        min_frame: int = 1,
        center: bool = False,
        num_ahead: int = 0,
    ) -> None:
        if not 0 < min_ratio <= max_ratio <= 1:
            raise ValueError(f"ratios are {min_ratio} to {max_ratio}; give 0 < min_ratio <= max_ratio <= 1")
        if min_frame < 1:
            raise ValueError(f"min_frame is {min_frame}; give 1 frame or more")
        if num_ahead < 0:
            raise ValueError(f"num_ahead is {num_ahead}; give 0 frames or more")
        self.num_frame: int = _check_num_frame(num_frame) + num_ahead
        self.num_ahead = num_ahead
        self.min_ratio, self.max_ratio = min_ratio, max_ratio
        self.min_frame, self.center = min_frame, center

    def deterministic(self) -> "RandomResizedCrop":
        """See `SamplingStep`."""
        num_part, ratio = self.num_frame - self.num_ahead, self.max_ratio
        return RandomResizedCrop(
            num_part, ratio, ratio, min_frame=self.min_frame, center=True, num_ahead=self.num_ahead
        )

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        num_part = self.num_frame - self.num_ahead
        ratio = self.min_ratio + (self.max_ratio - self.min_ratio) * _uniform(len(length), generator)
        if self.center:
            # Cut the same number of frames at both ends, so that the middle stays the middle.
            first = ((1 - ratio) * length / 2).long().minimum((length - self.min_frame).clamp(min=0) // 2)
            part = length - 2 * first
        else:
            # In short clips the part is less than min_frame, so that there is room for the frames ahead.
            least = (length * num_part // self.num_frame).clamp(min=1, max=self.min_frame)
            part = (ratio * length).long().maximum(least)
            first = _below(length - part + 1, generator)
        positions = first[:, None] + _resized(part, num_part)
        if not self.num_ahead:
            return positions
        step = torch.arange(1, self.num_ahead + 1) * (part / num_part)[:, None]
        ahead = positions[:, -1:] + step
        return torch.cat((positions, ahead.masked_fill(ahead > length[:, None] - 1, math.nan)), 1)


class UniformSample(SamplingStep):
    """One whole frame from each of `num_frame` equal parts of the clip: a random or the middle one (PYSKL).

    A clip with fewer frames repeats some of them.
    """

    def __init__(self, num_frame: int, random: bool = True) -> None:
        self.num_frame: int = _check_num_frame(num_frame)
        self.random = self.draws = random

    def deterministic(self) -> "UniformSample":
        """See `SamplingStep`."""
        return UniformSample(self.num_frame, random=False)

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        size = (len(length), self.num_frame)
        place = torch.full(size, 0.5, dtype=torch.float64)
        if self.random:
            place = torch.rand(size, dtype=torch.float64, generator=generator)
        frame = ((torch.arange(self.num_frame) + place) * length[:, None] / self.num_frame).floor()
        return frame.minimum(length[:, None] - 1)


class TemporalCrop(SamplingStep):
    """T consecutive frames of the clip, reflected by T // `padding_ratio` frames at both ends (AimCLR)."""

    draws = True
    takes_whole_frames = True

    def __init__(self, padding_ratio: int = 6) -> None:
        if padding_ratio < 1:
            raise ValueError(
                f"padding_ratio is {padding_ratio}; give 1 or more (T // padding_ratio is padded)"
            )
        self.padding_ratio = padding_ratio

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        num_frame = int(length[0])
        padding = num_frame // self.padding_ratio
        shift = _below(torch.full_like(length, 2 * padding + 1), generator) - padding
        frame = shift[:, None] + torch.arange(num_frame)
        # The reflection repeats the end frames: ... 1 0 | 0 1 2 ...
        frame = torch.where(frame < 0, -1 - frame, frame)
        return torch.where(frame >= num_frame, 2 * num_frame - 1 - frame, frame).double()


class Reverse(SamplingStep):
    """The frames in reverse order, with probability `p` per clip.

    A normalisation by the clip's first pose takes the pose that was recorded first, which is then shown last.
    """

    draws = True
    takes_whole_frames = True

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}; a probability is from 0 to 1")
        self.p = p

    def __call__(self, length: Tensor, generator: torch.Generator) -> Tensor:
        """See `SamplingStep`."""
        frame = torch.arange(int(length[0])).double()
        backwards = _uniform(len(length), generator) < self.p
        return torch.where(backwards[:, None], frame.flip(0), frame)


def whole_clip(num_frame: Tensor, size: int) -> Tensor:
    """Positions (N, `size`) of whole clips of `num_frame` (N,) frames, as `Resize` gives them."""
    return _resized(num_frame, size)


SAMPLING: dict[str, type[SamplingStep]] = {
    step.__name__: step
    for step in (Resize, Pad, Crop, RandomResizedCrop, UniformSample, TemporalCrop, Reverse)
}
