"""Options and results of the readers of recordings."""

from collections.abc import Mapping
from typing import NamedTuple

from feeder.recordings.bodies import Choice, as_given
from feeder.recordings.gaps import MAX_GAP, Gaps
from feeder.recordings.linking import LinkLimits
from feeder.recordings.recording import Recording
from net.utils.skeleton import Skeleton

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
AS_GIVEN: Mapping[str, Choice] = {"as given": as_given}


class ReadOptions(NamedTuple):
    """Facts that files of some formats do not state.

    skeleton: layout of the joints.
    scale: unit of the coordinates, in metres.
    layout_given: whether the user gave the layout. If not, `skeleton` is a default, and a file may show another one.
    channels: of arrays whose number of channels fits several.
    axes: order of an array's axes, letters of "mtvc"; None for the default order, or for the one that the shape shows.
    variable: name of the array in a file that holds several.
    picture: (width, height) in pixels; None if not known.
    max_gap: longest gap, in frames, over which joints that were not seen are interpolated. None: `MAX_GAP` for output
        of pose estimators; arrays in space then must not hold NaN.
    limits: for two detections of one person.
    """

    skeleton: Skeleton
    scale: float = METRES["m"]
    layout_given: bool = False
    channels: str = "xyz"
    axes: str | None = None
    variable: str | None = None
    picture: tuple[int, int] | None = None
    max_gap: int | None = None
    limits: LinkLimits = LinkLimits()

    @property
    def gap(self) -> int:
        """`max_gap` for output of pose estimators."""
        return MAX_GAP if self.max_gap is None else self.max_gap


class Content(NamedTuple):
    """The content of a file.

    recording: all bodies.
    layout: of the joints, if the file shows it.
    unit: "m", "picture" or "px"; see `Recorded`.
    gaps: joints that were not seen.
    assumptions: what the reader assumed, one sentence each.
    """

    recording: Recording
    layout: str | None = None
    unit: str = "m"
    gaps: Gaps = Gaps()
    assumptions: tuple[str, ...] = ()
