"""Augmentation in space: most steps are a D x D matrix or a joint permutation per clip.

Shapes: N clips, B tracks (present bodies), T frames, V joints, C channels. The first D channels are coordinates: x, y,
z in metres, or x, y in the picture. Steps change coordinates only. A confidence stays with its joint.

All bodies of a clip get the same change. Consecutive steps that are a matrix or the left-right permutation are
multiplied together, and applied before the next step of another kind. Parameters are drawn per clip, from the
given generator, in the order of the steps. Absent bodies and empty frames stay zero. In the picture, joints that
were not seen stay zero, too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from feeder.ragged import constant, send
from net.utils.channels import has_confidence, in_plane, num_coordinate


class Drawn(NamedTuple):
    """Parameters of a linear step for N clips: x becomes `matrix` (N, D, D) x; clips in `swap` (N,) exchange joints."""

    matrix: Tensor | None = None
    swap: Tensor | None = None


class LinearStep:
    """A step that is a matrix per clip, the left-right permutation, or both.

    draws: whether its result is random.
    """

    draws: bool = True

    def out_of_plane(self) -> str | None:
        """Why it cannot be applied to poses in a picture, and what to do instead; None if it can."""
        return None

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """Draw the parameters for N = `num_clip` clips of D = `num_channel` coordinates."""
        raise NotImplementedError


class DirectStep:
    """A step on the poses themselves; `draws` as for `LinearStep`."""

    draws: bool = True

    def later_frame_remedy(self, num_seen: int) -> str | None:
        """What to change so that the first `num_seen` frames do not depend on later ones; None if they do not."""
        return None

    def out_of_plane(self) -> str | None:
        """See `LinearStep`."""
        return None

    def apply(
        self, poses: Tensor, clip: Tensor, num_clip: int, generator: torch.Generator, channels: str
    ) -> Tensor:
        """Changed poses (B, T, V, C) of B tracks; track b is of clip `clip[b]`. May modify `poses`.

        channels: a letter for each of C; see `net.utils.channels`.
        """
        raise NotImplementedError


AugmentStep = LinearStep | DirectStep


def augment(
    poses: Tensor,
    steps: Sequence[AugmentStep],
    *,
    clip: Tensor,
    num_clip: int,
    swap: Sequence[int],
    generator: torch.Generator,
    matrix: Tensor | None = None,
    channels: str = "xyz",
) -> Tensor:
    """Apply steps in order.

    Args:
        poses: (B, T, V, C), may be changed in place.
        steps: of augmentation.
        clip: (B,) int64, clip of each track, on the CPU.
        num_clip: N.
        swap: V indices, the left-right permutation.
        generator: of all random numbers; on the CPU.
        matrix: (B, 1 or T, D, D) to apply before all steps.
        channels: a letter for each of C.

    Returns:
        (B, T, V, C).
    """
    waiting = Drawn()
    for step in steps:
        if isinstance(step, LinearStep):
            waiting = _compose(waiting, step.draw(num_clip, num_coordinate(channels), generator))
        else:
            poses = _apply(poses, waiting, matrix, clip, swap)
            waiting, matrix = Drawn(), None
            poses = step.apply(poses, clip, num_clip, generator, channels)
    return _apply(poses, waiting, matrix, clip, swap)


def _compose(first: Drawn, second: Drawn) -> Drawn:
    matrix, swap = second.matrix, second.swap
    if matrix is None or first.matrix is None:
        matrix = first.matrix if matrix is None else matrix
    else:
        matrix = matrix @ first.matrix
    if swap is not None and first.swap is not None:
        return Drawn(matrix, swap ^ first.swap)  # the permutation is its own inverse
    return Drawn(matrix, first.swap if swap is None else swap)


def _apply(poses: Tensor, drawn: Drawn, matrix: Tensor | None, clip: Tensor, swap: Sequence[int]) -> Tensor:
    if drawn.matrix is not None:
        per_track = send(drawn.matrix[clip][:, None], poses.device).to(poses.dtype)
        if matrix is None and _is_diagonal(drawn.matrix):
            poses = _scale(poses, per_track.diagonal(dim1=2, dim2=3))
        else:
            matrix = per_track if matrix is None else per_track @ matrix
    if matrix is not None:
        poses = transform(poses, matrix)
    if drawn.swap is not None:
        chosen = _chosen(drawn.swap, clip, poses.device)
        swapped = poses.index_select(0, chosen).index_select(
            2, constant(tuple(swap), torch.int64, poses.device)
        )
        poses.index_copy_(0, chosen, swapped)
    return poses


def with_confidence(coordinates: Tensor, poses: Tensor, channels: str) -> Tensor:
    """Coordinates (..., D), followed by the confidence of poses (..., C) if `channels` has one: (..., C)."""
    if not has_confidence(channels):
        return coordinates
    return torch.cat((coordinates, poses[..., -1:]), -1)


def transform(poses: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the coordinates of poses (B, T, V, C) by matrix (B, 1 or T, D, D), in place.

    It works coordinate by coordinate: on a CPU, a batched product of V x 3 by 3 x 3 takes more than twice as long.
    """
    planes = [plane.contiguous() for plane in poses.unbind(-1)[: matrix.shape[-1]]]
    turned = torch.empty_like(planes[0])
    for row in range(len(planes)):
        torch.mul(planes[0], matrix[..., row, 0, None], out=turned)
        for column in range(1, len(planes)):
            turned.addcmul_(planes[column], matrix[..., row, column, None])
        poses[..., row] = turned
    return poses


def _is_diagonal(matrix: Tensor) -> bool:
    return torch.equal(matrix, torch.diag_embed(matrix.diagonal(dim1=1, dim2=2)))


def _scale(poses: Tensor, factor: Tensor) -> Tensor:
    """Multiply the coordinates of poses (B, T, V, C) by factors (B, 1, D), in place: `transform` by diagonals."""
    for plane, each in zip(poses.unbind(-1), factor.unbind(-1), strict=False):
        plane *= each[..., None]
    return poses


def _chosen(flag: Tensor, clip: Tensor, device: torch.device) -> Tensor:
    """Indices of the tracks whose clip is flagged, on `device`."""
    return send(flag[clip].nonzero()[:, 0], device)


def _happens(p: float, num_clip: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num_clip, generator=generator) < p


def _between(low: float, high: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=generator)


def _check_p(p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; give a probability from 0 to 1")
    return p


def _check_non_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}; give 0 or more")


class Shear(LinearStep):
    """A matrix per clip with ones on the diagonal, all else uniform in [-amplitude, amplitude] (AimCLR: .5)."""

    def __init__(self, amplitude: float = 0.5) -> None:
        _check_non_negative(amplitude=amplitude)
        self.amplitude = amplitude

    def out_of_plane(self) -> str | None:
        """See `LinearStep`."""
        return "shears depth, which a picture lacks; leave it out"

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """See `LinearStep`."""
        matrix = _between(-self.amplitude, self.amplitude, (num_clip, num_channel, num_channel), generator)
        matrix.diagonal(dim1=1, dim2=2).fill_(1)
        return Drawn(matrix)


class Rotate(LinearStep):
    """Rotation about x, then y, then z, each by an angle uniform in [-max_angle, max_angle] (CTR-GCN: .3).

    Poses in the picture rotate only about z, the viewing axis. For them, give one angle, or 0 for x and y.

    max_angle: radians; one for all axes, or one per axis.
    """

    def __init__(self, max_angle: float | Sequence[float] = 0.3) -> None:
        angles = [max_angle] * 3 if isinstance(max_angle, (int, float)) else list(max_angle)
        if len(angles) != 3:
            raise ValueError(f"max_angle is {max_angle}; give one angle, or three for x, y and z")
        _check_non_negative(max_angle=min(angles))
        self.max_angle = torch.tensor(angles, dtype=torch.float32)
        self._about_others = not isinstance(max_angle, (int, float)) and any(angles[:2])

    def out_of_plane(self) -> str | None:
        """See `LinearStep`."""
        if not self._about_others:
            return None
        viewing = round(float(self.max_angle[2]), 6)
        return f"rotates about x or y; give max_angle: {viewing:g}, about the viewing axis"

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """See `LinearStep`."""
        if num_channel == 2:
            angle = _between(-1, 1, (num_clip, 1), generator) * self.max_angle[2]
            return Drawn(rotations(F.pad(angle, (2, 0)))[:, :2, :2])
        return Drawn(rotations(_between(-1, 1, (num_clip, 3), generator) * self.max_angle))


class RotateMainAxis(LinearStep):
    """AimCLR's rotation: about one axis per clip by up to main_angle, about the others by up to other_angle.

    As in AimCLR's code, angles are never negative.

    main_angle, other_angle: radians; by default 30 degrees and 1 degree.
    """

    def __init__(self, main_angle: float = math.pi / 6, other_angle: float = math.pi / 180) -> None:
        _check_non_negative(main_angle=main_angle, other_angle=other_angle)
        self.main_angle, self.other_angle = main_angle, other_angle

    def out_of_plane(self) -> str | None:
        """See `LinearStep`."""
        return "rotates about x and y; use Rotate, which rotates about the viewing axis"

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """See `LinearStep`."""
        main = torch.randint(3, (num_clip, 1), generator=generator) == torch.arange(3)
        largest = torch.where(main, self.main_angle, self.other_angle)
        return Drawn(rotations(_between(0, 1, (num_clip, 3), generator) * largest))


def rotations(angle: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) about x, then y, then z by angles (N, 3) in radians.

    A positive angle takes y to -z, z to -x, x to -y, as in CTR-GCN's and AimCLR's code.
    """
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.eye(3).expand(len(angle), 3, 3)
    for axis in range(3):
        following, last = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3).repeat(len(angle), 1, 1)
        turn[:, following, following] = turn[:, last, last] = cos[:, axis]
        turn[:, following, last] = sin[:, axis]
        turn[:, last, following] = -sin[:, axis]
        matrix = turn @ matrix
    return matrix


class Scale(LinearStep):
    """Scaling by a factor uniform in [min_factor, max_factor], one per clip; one per coordinate if `per_axis`."""

    def __init__(self, min_factor: float, max_factor: float, *, per_axis: bool = False) -> None:
        if not 0 < min_factor <= max_factor:
            raise ValueError(f"factors are {min_factor} to {max_factor}; give 0 < min_factor <= max_factor")
        self.min_factor, self.max_factor, self.per_axis = min_factor, max_factor, per_axis
        self.draws = min_factor < max_factor

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """See `LinearStep`."""
        size = (num_clip, num_channel if self.per_axis else 1)
        factor = _between(self.min_factor, self.max_factor, size, generator)
        return Drawn(torch.diag_embed(factor.expand(-1, num_channel)))


class Flip(LinearStep):
    """Left and right joints exchanged, with probability `p` per clip; `mirror` also negates x.

    Without `mirror` this is AimCLR's flip: only the order of the joints changes.
    """

    def __init__(self, p: float = 0.5, *, mirror: bool = False) -> None:
        self.p, self.mirror = _check_p(p), mirror

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """See `LinearStep`."""
        swap = _happens(self.p, num_clip, generator)
        if not self.mirror:
            return Drawn(swap=swap)
        matrix = torch.eye(num_channel).repeat(num_clip, 1, 1)
        matrix[:, 0, 0] = torch.where(swap, -1.0, 1.0)
        return Drawn(matrix, swap)


class AxisMask(LinearStep):
    """One random coordinate of a clip set to zero, with probability `p` per clip (AimCLR)."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = _check_p(p)

    def draw(self, num_clip: int, num_channel: int, generator: torch.Generator) -> Drawn:
        """See `LinearStep`."""
        happens = _happens(self.p, num_clip, generator)
        axis = torch.randint(num_channel, (num_clip, 1), generator=generator)
        kept = (torch.arange(num_channel) != axis) | ~happens[:, None]
        return Drawn(torch.diag_embed(kept.float()))


class JointMask(DirectStep):
    """Joints set to zero over the whole clip, as if not seen, each with probability `p`."""

    def __init__(self, p: float = 0.1) -> None:
        self.p = _check_p(p)

    def apply(
        self, poses: Tensor, clip: Tensor, num_clip: int, generator: torch.Generator, channels: str
    ) -> Tensor:
        """See `DirectStep`."""
        kept = torch.rand((num_clip, poses.shape[2]), generator=generator) >= self.p
        return poses.mul_(send(kept[clip][:, None, :, None], poses.device))


class GaussianNoise(DirectStep):
    """Gaussian noise on every coordinate, `std` in the unit of the poses, with probability `p` per clip (AimCLR).

    The noise is drawn on the device of the poses, so it differs between kinds of device.
    """

    def __init__(self, std: float = 0.01, p: float = 0.5) -> None:
        _check_non_negative(std=std)
        self.std, self.p = std, _check_p(p)

    def apply(
        self, poses: Tensor, clip: Tensor, num_clip: int, generator: torch.Generator, channels: str
    ) -> Tensor:
        """See `DirectStep`."""
        chosen = _chosen(_happens(self.p, num_clip, generator), clip, poses.device)
        seed = int(torch.randint(2**62, (), generator=generator))
        on_device = torch.Generator(poses.device).manual_seed(seed)
        changed = poses.index_select(0, chosen)
        present, moved = _present(changed, channels), changed[..., : num_coordinate(channels)]
        noise = torch.randn(moved.shape, dtype=poses.dtype, device=poses.device, generator=on_device)
        moved.addcmul_(noise, present, value=self.std)
        return poses.index_copy_(0, chosen, changed)


class TemporalBlur(DirectStep):
    """Gaussian blur over time, `num_tap` frames wide, with probability `p` per clip (AimCLR).

    The standard deviation is uniform in [min_sigma, max_sigma] frames. A frame k frames away has the weight
    exp(-k^2 / (2 sigma^2)). Weights are scaled to sum to one over the frames that are present, so poses keep their
    size at the ends of a clip and next to empty frames. In the picture they sum to one over the frames in which the
    joint was seen. `unit_sum=False` leaves out this scaling, as AimCLR's code does: a clip becomes up to 5 times
    larger, and smaller again towards its ends.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        num_tap: int = 15,
        min_sigma: float = 0.1,
        max_sigma: float = 2.0,
        unit_sum: bool = True,
    ) -> None:
        if num_tap < 1 or num_tap % 2 == 0:
            raise ValueError(f"num_tap is {num_tap}; give an odd number, so that one tap is the middle")
        if not 0 < min_sigma <= max_sigma:
            raise ValueError(f"sigma is {min_sigma} to {max_sigma}; give 0 < min_sigma <= max_sigma")
        self.p, self.num_tap, self.unit_sum = _check_p(p), num_tap, unit_sum
        self.min_sigma, self.max_sigma = min_sigma, max_sigma

    def later_frame_remedy(self, num_seen: int) -> str | None:
        """See `DirectStep`."""
        return "leave it out"

    def apply(
        self, poses: Tensor, clip: Tensor, num_clip: int, generator: torch.Generator, channels: str
    ) -> Tensor:
        """See `DirectStep`."""
        sigma = _between(self.min_sigma, self.max_sigma, (num_clip,), generator)
        chosen = _chosen(_happens(self.p, num_clip, generator), clip, poses.device)
        changed = poses.index_select(0, chosen)
        num_frame, reach = changed.shape[1], self.num_tap // 2
        # Weight by distance in frames; the zero at the end is for all frames out of reach.
        tap = (-torch.arange(reach + 1).square() / (2 * sigma.square()[:, None])).exp()
        tap = send(F.pad(tap, (0, 1))[clip], poses.device).to(poses.dtype).index_select(0, chosen)
        frame = torch.arange(num_frame, device=poses.device)
        distance = (frame - frame[:, None]).abs().clamp(max=reach + 1)
        weight = tap.index_select(1, distance.flatten()).view(-1, num_frame, num_frame)
        tiny = torch.finfo(weight.dtype).tiny
        present = _present(changed, channels)
        if in_plane(channels):  # single joints may be unseen
            moved = changed[..., : num_coordinate(channels)]
            blurred = (weight @ moved.flatten(2)).view_as(moved) * present
            if self.unit_sum:
                blurred /= (weight @ present[..., 0]).clamp(min=tiny)[..., None]
            return poses.index_copy_(0, chosen, with_confidence(blurred, changed, channels))
        present = present[:, :, 0, 0]
        weight *= present[:, None, :] * present[:, :, None]
        if self.unit_sum:
            weight /= weight.sum(2, keepdim=True).clamp(min=tiny)
        return poses.index_copy_(0, chosen, (weight @ changed.flatten(2)).view_as(changed))


class UnitBox(DirectStep):
    """Shift and scale of each axis so that the joints of the view span [-1, 1] (CTR-GCN's NW-UCLA feeder).

    The box of a clip contains all its bodies; empty frames are left out. An axis without extent is only shifted. In
    the picture the box contains the joints that were seen. Both axes then have one scale: the longer spans [-1, 1].

    num_seen: the box is of this many first frames of the view; None for all frames.
    """

    draws = False

    def __init__(self, num_seen: int | None = None) -> None:
        if num_seen is not None and num_seen < 1:
            raise ValueError(f"num_seen is {num_seen}; give 1 frame or more, or null for all")
        self.num_seen = num_seen

    def later_frame_remedy(self, num_seen: int) -> str | None:
        """See `DirectStep`."""
        within = self.num_seen is not None and self.num_seen <= num_seen
        return None if within else f"give num_seen: {num_seen}"

    def apply(
        self, poses: Tensor, clip: Tensor, num_clip: int, generator: torch.Generator, channels: str
    ) -> Tensor:
        """See `DirectStep`."""
        absent = _absent(poses, channels)
        moved = poses[..., : num_coordinate(channels)]
        of_track = send(clip, poses.device)
        track = of_track[:, None].expand(-1, moved.shape[-1])
        corner = poses.new_zeros(num_clip, moved.shape[-1])
        low, high = self._corners(moved, absent)
        middle, factor = _to_unit(
            corner.scatter_reduce(0, track, low, "amin", include_self=False),
            corner.scatter_reduce(0, track, high, "amax", include_self=False),
            channels,
        )
        boxed = (moved - middle[of_track][:, None, None]) * factor[of_track][:, None, None]
        return with_confidence(boxed.masked_fill_(absent, 0), poses, channels)

    def apply_dense(self, bodies: Tensor, channels: str) -> Tensor:
        """`apply` for clips of equal length (N, M, T, V, C); absent bodies are zero."""
        absent = _absent(bodies.flatten(0, 1), channels)
        moved = bodies[..., : num_coordinate(channels)]
        corners = self._corners(moved.flatten(0, 1), absent)
        low, high = (each.unflatten(0, bodies.shape[:2]) for each in corners)
        middle, factor = _to_unit(low.amin(1), high.amax(1), channels)
        boxed = (moved - middle[:, None, None, None]) * factor[:, None, None, None]
        boxed = boxed.masked_fill(absent.unflatten(0, bodies.shape[:2]), 0)
        return with_confidence(boxed, bodies, channels)

    def _corners(self, poses: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest coordinates (B, D) of tracks (B, T, V, D), without what is absent.

        absent: (B, T, 1 or V, 1) bool.
        """
        seen, unseen = poses[:, : self.num_seen], absent[:, : self.num_seen]
        return seen.masked_fill(unseen, math.inf).amin((1, 2)), seen.masked_fill(unseen, -math.inf).amax(
            (1, 2)
        )


def _absent(poses: Tensor, channels: str) -> Tensor:
    """Empty frames of poses (B, T, V, C): (B, T, 1, 1) bool; in the picture, absent joints: (B, T, V, 1) bool."""
    # In space a single joint at the origin may be present: a clip may be centred on it.
    return (poses == 0).all(3 if in_plane(channels) else (2, 3), keepdim=True)


def _to_unit(low: Tensor, high: Tensor, channels: str) -> tuple[Tensor, Tensor]:
    """Middle (N, D) and factor (N, D) so that (x - middle) * factor maps boxes `low` to `high` (N, D) to [-1, 1]."""
    extent = (high - low) / 2
    if in_plane(channels):
        extent = extent.amax(1, keepdim=True).expand_as(extent)
    middle = torch.where(high < low, 0, (high + low) / 2)  # high < low if no joint is present
    return middle, torch.where(extent > 0, 1 / extent, 1)


def _present(poses: Tensor, channels: str) -> Tensor:
    """1 where a frame of poses (B, T, V, C) is not empty, else 0: (B, T, 1, 1), dtype of the poses.

    In the picture, 1 where a joint is present: (B, T, V, 1).
    """
    if in_plane(channels):
        return (~_absent(poses, channels)).to(poses.dtype)
    return (torch.linalg.vector_norm(poses, dim=(2, 3), keepdim=True) != 0).to(poses.dtype)


AUGMENT: dict[str, type[AugmentStep]] = {
    step.__name__: step
    for step in (
        Shear,
        Rotate,
        RotateMainAxis,
        Scale,
        Flip,
        AxisMask,
        JointMask,
        GaussianNoise,
        TemporalBlur,
        UnitBox,
    )
}
