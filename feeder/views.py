"""A view makes a network's input from a clip: sampling, then normalisation, augmentation and stream.

Shapes: N clips, C channels, T frames, V joints, M bodies.
"""

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from inspect import signature
from typing import NamedTuple

import torch
from torch import Tensor

from feeder.augment import AUGMENT, AugmentStep, DirectStep, augment, transform
from feeder.normalise import NORMALISE, Normalisation, Normalised
from feeder.ragged import RaggedBatch, place, take
from feeder.sampling import SAMPLING, SamplingStep, fixed_part, sample
from feeder.streams import STREAMS
from net.utils.channels import CHANNELS, in_plane
from net.utils.clip import Clip
from net.utils.skeleton import Skeleton
from torchlight.build import PACKAGES, Item, Problem, build_listed, nearest


class ViewError(ValueError):
    """Wrong arguments of a view; `problems` names each of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


class SharedPart(NamedTuple):
    """The result of a base: poses (B, T, V, C) of all tracks, and where they are present, (B, T) bool."""

    poses: Tensor
    present: Tensor


class Base(NamedTuple):
    """The first steps of a view, those without randomness. Views with equal bases can share its result.

    sampling: see `fixed_part`; if it is empty, nothing can be shared.
    """

    skeleton: Skeleton
    num_body: int
    sampling: tuple[SamplingStep, ...]
    normalise: Normalisation
    channels: str

    def normalised(self, batch: RaggedBatch, positions: Tensor) -> Normalised:
        """Normalised poses (B, T, V, C) of all tracks at positions (N, T), and the matrix that is still to be applied.

        Raises ValueError: the clips have other joints or channels than the view.
        """
        if batch.rows.shape[1] != self.skeleton.num_joint:
            raise ValueError(
                f"clips have {batch.rows.shape[1]} joints, layout {self.skeleton.name!r} has "
                f"{self.skeleton.num_joint}; change data.layout"
            )
        if batch.rows.shape[2] != len(self.channels):
            raise ValueError(
                f"clips have {batch.rows.shape[2]} channels, not {self.channels!r}; change data.channels"
            )
        tracks = batch.tracks(self.num_body)
        return self.normalise.apply(batch, tracks, positions, self.skeleton, self.channels)

    def make(self, batch: RaggedBatch) -> SharedPart:
        """Normalised poses of all tracks in the frames of `sampling`."""
        positions = sample(self.sampling, batch.num_frame, torch.Generator())
        poses, matrix = self.normalised(batch, positions)
        poses = poses if matrix is None else transform(poses, matrix)
        return SharedPart(poses, batch.present(batch.tracks(self.num_body), positions))


class View:
    """Makes one network input from a batch of clips.

    All random numbers come from the generator of a call, in the order of the steps. The stream is not random and
    comes last, so views that differ only in the stream show the same skeletons.

    Args:
        skeleton: of the clips.
        num_body: M; further bodies of a clip are left out.
        sampling: steps in time, each `Name` or `{Name: {argument: value}}` of `sampling.SAMPLING`, or a class path in
            place of the name; the first step must have a `num_frame`.
        normalise: a name of `normalise.NORMALISE`.
        augment: steps in space, in the same form, of `augment.AUGMENT`.
        stream: a name of `streams.STREAMS`.
        channels: a letter for each channel; see `net.utils.channels`.
        same_frames: take the same frames as the first view of a batch, which must have the same sampling.
        packages: packages that class paths of steps may start with.

    Raises:
        ViewError: an argument is wrong; it lists every problem, with the nearest valid name.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        num_body: int,
        sampling: Sequence[Item],
        normalise: str = "none",
        augment: Sequence[Item] = (),
        stream: str = "joint",
        channels: str = "xyz",
        same_frames: bool = False,
        packages: Sequence[str] = PACKAGES,
    ) -> None:
        self.skeleton, self.num_body, self.same_frames = skeleton, num_body, same_frames
        problems: list[Problem] = []
        self.sampling: list[SamplingStep] = build_listed(
            "sampling", sampling, SAMPLING, packages=packages, base=SamplingStep, problems=problems
        )
        self.augment: list[AugmentStep] = build_listed(
            "augment", augment, AUGMENT, packages=packages, base=AugmentStep, problems=problems
        )
        self.num_frame = _num_frame(self.sampling, problems)
        # Number of frames at the end that come after those that are seen.
        self.num_ahead = self.sampling[-1].num_ahead if self.sampling else 0
        for number, step in enumerate(self.sampling[:-1]):
            if step.num_ahead:
                text = "has frames ahead, but another step follows; put this step last"
                problems.append(Problem(f"sampling.{number}.num_ahead", text))
        if num_body < 1:
            problems.append(Problem("num_body", f"is {num_body}; give 1 body or more"))
        known: dict[str, tuple[str, Collection[str]]] = {
            "normalise": (normalise, NORMALISE),
            "stream": (stream, STREAMS),
            "channels": (channels, CHANNELS),
        }
        for key, (name, table) in known.items():
            if name not in table:
                problems.append(Problem(key, f"{name!r} is unknown; {nearest(str(name), table)}"))
        if normalise in NORMALISE:
            missing = [field for field in NORMALISE[normalise].needs if getattr(skeleton, field) is None]
            if missing:
                text = f"needs {' and '.join(missing)}, which layout {skeleton.name!r} does not have"
                problems.append(Problem("normalise", f"{normalise} {text}"))
        if in_plane(channels):
            problems += self._out_of_plane(normalise, channels)
        if problems:
            raise ViewError(problems)
        self.stream, self.channels = STREAMS[stream], channels
        self.normalise = normalise
        self.base = Base(skeleton, num_body, fixed_part(self.sampling), NORMALISE[normalise], channels)
        if self.num_ahead and (problems := self.later_frame_problems(self.num_frame - self.num_ahead)):
            raise ViewError(problems)

    def _out_of_plane(self, normalise: str, channels: str) -> list[Problem]:
        """Problems of steps that cannot be applied to poses in the picture."""
        problems = []
        if normalise in NORMALISE and NORMALISE[normalise].turns:
            text = (
                f"{normalise} rotates poses in space, but channels are {channels}; choose none or center_..."
            )
            problems.append(Problem("normalise", text))
        for number, step in enumerate(self.augment):
            if remedy := step.out_of_plane():
                name = type(step).__name__
                problems.append(Problem(f"augment.{number}.{name}", f"is not for {channels}: it {remedy}"))
        return problems

    def deterministic(self) -> "View":
        """The view without randomness: the centred part of the largest ratio, without random steps in space."""
        other = copy.copy(self)
        steps = (step.deterministic() for step in self.sampling)
        other.sampling = [step for step in steps if step is not None]
        other.augment = [step for step in self.augment if not step.draws]
        other.base = self.base._replace(sampling=fixed_part(other.sampling))
        return other

    def later_frame_problems(self, num_seen: int) -> list[Problem]:
        """Problems of steps that make the first `num_seen` frames depend on later ones, which are not seen."""
        problems = []
        if self.base.normalise.uses_later_frames:
            text = f"is {self.normalise!r}, which depends on frames that are not seen yet; choose another, such as "
            problems.append(Problem("normalise", text + "center_per_frame"))
        for number, step in enumerate(self.augment):
            remedy = step.later_frame_remedy(num_seen) if isinstance(step, DirectStep) else None
            if remedy:
                text = f"depends on frames after the {num_seen} that are seen; {remedy}"
                problems.append(Problem(f"augment.{number}.{type(step).__name__}", text))
        return problems

    def __call__(self, batch: RaggedBatch, generator: torch.Generator) -> Tensor:
        """The input (N, C, T, V, M) without the mask of present bodies; see `show`."""
        return self.show(batch, generator).x

    def show(
        self,
        batch: RaggedBatch,
        generator: torch.Generator,
        shared: SharedPart | None = None,
        frames: torch.Generator | None = None,
    ) -> Clip:
        """The input (N, C, T, V, M) on the device of the rows, with the mask of present bodies.

        Absent bodies are zero. The input is a view of contiguous memory (N, M, T, V, C), so that a network can read it
        as channels-last without a copy.

        Args:
            batch: N clips.
            generator: on the CPU; equal generators give equal views.
            shared: result of `base` for this batch, which is not changed; None to compute it.
            frames: draws the frames in place of `generator`.

        Raises:
            ValueError: the clips have other joints than the skeleton, or other channels than the view.
        """
        tracks, matrix = batch.tracks(self.num_body), None
        frames = generator if frames is None else frames
        if shared is None:
            positions = sample(self.sampling, batch.num_frame, frames)
            poses, matrix = self.base.normalised(batch, positions)
            present = batch.present(tracks, positions)
        elif chosen := self.sampling[len(self.base.sampling) :]:
            length = torch.full_like(batch.num_frame, self.num_frame)
            frame = sample(chosen, length, frames).long()[tracks.clip]
            poses, present = (take(each, frame) for each in shared)
        else:
            poses, present = shared.poses.clone(), shared.present
        poses = augment(
            poses,
            self.augment,
            clip=tracks.clip,
            num_clip=len(batch),
            swap=self.skeleton.swap,
            generator=generator,
            matrix=matrix,
            channels=self.channels,
        )
        parents = self.skeleton.parents
        if self.num_ahead:
            # Separately, so that no difference between frames mixes frames that are seen with frames ahead.
            parts = poses.tensor_split([self.num_frame - self.num_ahead], 1)
            poses = torch.cat([self.stream(part, parents, self.channels) for part in parts], 1)
        else:
            poses = self.stream(poses, parents, self.channels)
        bodies, present = (
            place(each, tracks, num_clip=len(batch), num_body=self.num_body) for each in (poses, present)
        )
        return Clip(bodies.permute(0, 4, 2, 3, 1), present)


def make_views(views: Sequence[View], batch: RaggedBatch, generator: torch.Generator) -> list[Clip]:
    """The result of `View.show` for each view, up to rounding; views with equal bases share its result.

    Args and Raises: see `View.show`.
    """
    count = Counter(view.base for view in views if view.base.sampling)
    shared = {base: base.make(batch) for base, number in count.items() if number > 1}
    begin = generator.get_state()  # a view draws its frames first

    def frames(view: View) -> torch.Generator | None:
        return torch.Generator().set_state(begin) if view.same_frames else None

    return [view.show(batch, generator, shared.get(view.base), frames(view)) for view in views]


def _num_frame(steps: Sequence[SamplingStep], problems: list[Problem]) -> int:
    """T of a view; 0 with a problem in `problems` if no step sets it."""
    lengths = [step.num_frame for step in steps]
    if not lengths or lengths[0] is None:
        if not problems:
            first = type(steps[0]).__name__ if steps else "nothing"
            makers = [name for name, step in SAMPLING.items() if "num_frame" in signature(step).parameters]
            text = f"begins with {first}, but clips differ in length; begin with one of {', '.join(makers)}"
            problems.append(Problem("sampling", text))
        return 0
    return [length for length in lengths if length is not None][-1]
