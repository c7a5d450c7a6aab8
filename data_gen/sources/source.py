"""What a source is: it finds the recordings of one kind of data, and reads them.

It knows nothing of workers' processes, progress, reports and prepared files: that is the driver, `data_gen.prepare`.

M bodies, T frames, V joints, C channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_gen.parallel import ordered_map
from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

# Benchmark -> part, of `feeder.prepared.PARTS` -> places in the list of clips that were kept.
Splits = Mapping[str, Mapping[str, Sequence[int]]]


class Clip(NamedTuple):
    """A clip that was read.

    name: unique in the data set.
    label: number of its class, or `feeder.prepared.NO_LABEL`.
    tracks: (M, T, V, C) float32, zero where a body or a joint is absent.
    keys: whole numbers that the splits come from (subject, camera, ...); the same ones for every clip.
    """

    name: str
    label: int
    tracks: np.ndarray
    keys: Mapping[str, int] = {}


class Problem(NamedTuple):
    """What the report says of a file: something of it was skipped, or is used `mended`; `line` counts from 1."""

    file: str | Path
    line: int | None
    reason: str
    mended: bool = False


Entry = Clip | Problem


class Kept(NamedTuple):
    """A clip that the prepared file holds, without its poses."""

    name: str
    label: int
    keys: Mapping[str, int]


class Source(ABC):
    """Recordings that come one after another, as out of one file.

    Attributes:
        layout: of the V joints, as `data.layout` takes it.
        class_names: one per label; none where no clip has a label.
        frame_rate: frames a second.
        bodies: how the bodies of a clip were chosen.
        source: where the clips come from, as the prepared file says it.
        default_out: the file to make where the user names none.
        channels, unit: see `feeder.prepared.PreparedWriter`.
        attrs: more facts for the prepared file.
        official: benchmark -> clips of (train, val), as its authors state them.
        recipe: a config that trains on the data; None: that for own data.
        recipe_settings: what the recipe needs for this data beside its path and benchmark.
        left_out: what was passed over without being bad -> how many.
        num_item: how often `entries` gives something, for the progress bar; None: not known.
        item: what that is.
        problems: what is already known to be wrong.
    """

    layout: str
    class_names: Sequence[str]
    frame_rate: float
    bodies: str
    source: str
    default_out: Path
    channels: str = "xyz"
    unit: str = "m"
    attrs: Mapping[str, str | int | float] = {}
    official: Mapping[str, tuple[int, int]] = {}
    recipe: str | None = None
    recipe_settings: Mapping[str, object] = {}
    left_out: Mapping[str, int] = {}
    num_item: int | None = None
    item: str = "clip"
    problems: Sequence[Problem] = ()

    @cached_property
    def skeleton(self) -> Skeleton:
        """What `layout` names."""
        return get_skeleton(self.layout)

    @abstractmethod
    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        """Clips and problems, in the same order every time; whoever takes them closes the generator."""

    @abstractmethod
    def splits(self, kept: Sequence[Kept]) -> Splits:
        """The benchmarks of the clips that were kept.

        Raises:
            ValueError: a part that a user asked for would be empty.
        """

    def notes(self, kept: Sequence[Kept]) -> Sequence[str]:
        """What else the user should know at the end, a line each."""
        return ()


class ItemSource(Source):
    """A source of items, such as files, that are read one by one, by several processes.

    items: one for each call of `read`, such as the paths of files; a subclass sets it.
    """

    items: Sequence[Any]

    @abstractmethod
    def read(self, item: Any) -> Sequence[Entry]:
        """The clips of an item, and what is wrong with it. A process of its own may call it."""

    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        """See `Source.entries`."""
        self.num_item = len(self.items)
        return ordered_map(self.read, self.items, num_worker=num_worker)


def problem_of(file: str | Path, error: RecordingError | OSError) -> Problem:
    """What the report says of a file that could not be read."""
    if isinstance(error, RecordingError):
        return Problem(file, error.line, error.reason)
    return Problem(file, None, error.strerror or str(error))
