"""What a reader of recordings is told, and what it gives."""

from collections.abc import Mapping
from typing import NamedTuple

from feeder.recordings.bodies import Choice, as_given
from feeder.recordings.gaps import MAX_GAP, Gaps
from feeder.recordings.linking import LinkLimits
from feeder.recordings.recording import Recording
from net.utils.skeleton import Skeleton

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
AS_GIVEN: Mapping[str, Choice] = {"as given": as_given}


class Unstated(NamedTuple):
    """What files of some kinds leave unsaid.

    skeleton: whose joints they hold.
    scale: their unit in metres.
    stated: the user named the skeleton; else it is what is needed, and gives way to what a file shows.
    channels: of arrays whose number of channels leaves it open.
    axes: of arrays, a letter each, of "mtvc"; None for the usual order, or what the shape shows.
    variable: the name of the array in a file of several.
    picture: (width, height) in pixels; None where it is not known.
    max_gap: frames over which joints that were not seen are interpolated. None: `MAX_GAP` for what a pose estimator
        wrote; arrays of places in space may then hold no NaN.
    limits: which detections may be one person.
    """

    skeleton: Skeleton
    scale: float = METRES["m"]
    stated: bool = False
    channels: str = "xyz"
    axes: str | None = None
    variable: str | None = None
    picture: tuple[int, int] | None = None
    max_gap: int | None = None
    limits: LinkLimits = LinkLimits()

    @property
    def gap(self) -> int:
        """`max_gap` of what a pose estimator wrote."""
        return MAX_GAP if self.max_gap is None else self.max_gap


class Content(NamedTuple):
    """What a file holds.

    recording: of it.
    layout: of its joints, where the file shows it.
    unit: "m", "picture" or "px"; see `Recorded`.
    gaps: joints that were not seen.
    said: what was taken for granted, a sentence each.
    """

    recording: Recording
    layout: str | None = None
    unit: str = "m"
    gaps: Gaps = Gaps()
    said: tuple[str, ...] = ()
