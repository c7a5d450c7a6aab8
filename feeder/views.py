"""A view: how a clip becomes a network's input. Sampling, then normalisation, augmentation and stream.

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
    """A view that cannot be made; `problems` has each, by the argument it is in."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


class SharedPart(NamedTuple):
    """What a base makes of a batch: poses (B, T, V, C) of all tracks, and where these are there, (B, T) bool."""

    poses: Tensor
    present: Tensor


class Base(NamedTuple):
    """What a view does to clips before it draws anything. Views of equal bases can share what it makes.

    sampling: the first steps of a view, of whose frames it then takes whole ones; none if no view could share.
    """

    skeleton: Skeleton
    num_body: int
    sampling: tuple[SamplingStep, ...]
    normalise: Normalisation
    channels: str

    def normalised(self, batch: RaggedBatch, positions: Tensor) -> Normalised:
        """Poses of all tracks at positions (N, T), and the matrix still to be applied.

        Raises ValueError as a view does.
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
        """All tracks, in the frames of `sampling`."""
        positions = sample(self.sampling, batch.num_frame, torch.Generator())
        poses, matrix = self.normalised(batch, positions)
        poses = poses if matrix is None else transform(poses, matrix)
        return SharedPart(poses, batch.present(batch.tracks(self.num_body), positions))


class View:
    """Makes one network input of a batch of clips.

    All random parameters come from the generator of a call, drawn in the order of the steps. The stream draws
    none and comes last, so that views that differ in the stream alone show the same skeletons.

    Args:
        skeleton: of the clips.
        num_body: M; clips with more bodies lose the last ones.
        sampling: steps in time, each `Name` or `{Name: {argument: value}}` of `sampling.SAMPLING`, or with a class
            path for the name; the first must take `num_frame`.
        normalise: a name of `normalise.NORMALISE`.
        augment: steps in space, written likewise, of `augment.AUGMENT`.
        stream: a name of `streams.STREAMS`.
        channels: what the numbers of a joint are; see `net.utils.channels`.
        same_frames: among several views of a batch, to take the frames that the first one takes, whose sampling
            must be the same.
        packages: that class paths of steps may start with.

    Raises:
        ViewError: something above does not hold; every problem is listed, with the nearest valid name.
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
        # Frames at its end that come after those that are seen.
        self.num_ahead = self.sampling[-1].num_ahead if self.sampling else 0
        for number, step in enumerate(self.sampling[:-1]):
            if step.num_ahead:
                text = "comes before another step, so that frames ahead are none of the last; put it last"
                problems.append(Problem(f"sampling.{number}.num_ahead", text))
        if num_body < 1:
            problems.append(Problem("num_body", f"is {num_body}; a view has 1 body or more"))
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
                text = f"needs {' and '.join(missing)}, which layout {skeleton.name!r} does not name"
                problems.append(Problem("normalise", f"{normalise} {text}"))
        if in_plane(channels):
            problems += self._out_of_plane(normalise, channels)
        if problems:
            raise ViewError(problems)
        self.stream, self.channels = STREAMS[stream], channels
        self.normalise = normalise
        self.base = Base(skeleton, num_body, fixed_part(self.sampling), NORMALISE[normalise], channels)
        if self.num_ahead and (problems := self.looking_past(self.num_frame - self.num_ahead)):
            raise ViewError(problems)

    def _out_of_plane(self, normalise: str, channels: str) -> list[Problem]:
        """What cannot be done to poses in the picture's plane."""
        problems = []
        if normalise in NORMALISE and NORMALISE[normalise].turns:
            text = f"{normalise} turns poses in space, which {channels} are not; choose none, or one that centres"
            problems.append(Problem("normalise", text))
        for number, step in enumerate(self.augment):
            if remedy := step.out_of_plane():
                name = type(step).__name__
                problems.append(
                    Problem(f"augment.{number}.{name}", f"is not for {channels}: {name} {remedy}")
                )
        return problems

    def deterministic(self) -> "View":
        """The view that stands for all that this one can draw.

        It takes the centred part of the largest ratio, and leaves out the steps in space that draw.
        """
        other = copy.copy(self)
        steps = (step.deterministic() for step in self.sampling)
        other.sampling = [step for step in steps if step is not None]
        other.augment = [step for step in self.augment if not step.draws]
        other.base = self.base._replace(sampling=fixed_part(other.sampling))
        return other

    def looking_past(self, num_seen: int) -> list[Problem]:
        """What makes the first `num_seen` frames depend on those after them, which are not to be seen."""
        problems = []
        if self.base.normalise.looks_past:
            text = (
                f"is {self.normalise!r}, which turns by frames that are yet to come; choose another, such as "
            )
            problems.append(Problem("normalise", text + "center_per_frame"))
        for number, step in enumerate(self.augment):
            remedy = step.looks_past(num_seen) if isinstance(step, DirectStep) else None
            if remedy:
                text = f"looks at the frames after the {num_seen} that are seen; {remedy}"
                problems.append(Problem(f"augment.{number}.{type(step).__name__}", text))
        return problems

    def __call__(self, batch: RaggedBatch, generator: torch.Generator) -> Tensor:
        """The input (N, C, T, V, M) alone; see `show`."""
        return self.show(batch, generator).x

    def show(
        self,
        batch: RaggedBatch,
        generator: torch.Generator,
        shared: SharedPart | None = None,
        frames: torch.Generator | None = None,
    ) -> Clip:
        """The input (N, C, T, V, M) on the device of the rows, zero where a body is absent, and who is there.

        The input is a view of contiguous memory (N, M, T, V, C), which a network reads as channels-last without a copy.

        Args:
            batch: N clips.
            generator: on the CPU; equal generators give equal views.
            shared: what `base` makes of the batch, which is not changed; None to do without.
            frames: draws the frames in place of `generator`.

        Raises:
            ValueError: the clips have another number of joints than the skeleton, or not the channels that a
                step needs.
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
            # Apart, so that no difference between frames reaches from those that are seen into those ahead.
            parts = poses.tensor_split([self.num_frame - self.num_ahead], 1)
            poses = torch.cat([self.stream(part, parents, self.channels) for part in parts], 1)
        else:
            poses = self.stream(poses, parents, self.channels)
        bodies, present = (
            place(each, tracks, num_clip=len(batch), num_body=self.num_body) for each in (poses, present)
        )
        return Clip(bodies.permute(0, 4, 2, 3, 1), present)


def make_views(views: Sequence[View], batch: RaggedBatch, generator: torch.Generator) -> list[Clip]:
    """What the views show of a batch one after another, up to rounding; where bases are equal, they are made once.

    Args and Raises: see `View.show`.
    """
    count = Counter(view.base for view in views if view.base.sampling)
    shared = {base: base.make(batch) for base, number in count.items() if number > 1}
    begin = generator.get_state()  # frames are what a view draws first

    def frames(view: View) -> torch.Generator | None:
        return torch.Generator().set_state(begin) if view.same_frames else None

    return [view.show(batch, generator, shared.get(view.base), frames(view)) for view in views]


def _num_frame(steps: Sequence[SamplingStep], problems: list[Problem]) -> int:
    """T of a view."""
    lengths = [step.num_frame for step in steps]
    if not lengths or lengths[0] is None:
        if not problems:
            first = type(steps[0]).__name__ if steps else "nothing"
            makers = [name for name, step in SAMPLING.items() if "num_frame" in signature(step).parameters]
            text = f"begins with {first}; clips differ in length, so begin with one of {', '.join(makers)}"
            problems.append(Problem("sampling", text))
        return 0
    return [length for length in lengths if length is not None][-1]
