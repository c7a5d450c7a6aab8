"""The base classes of sources. A source finds and reads the recordings of one kind of data.

The driver, `data_gen.prepare`, does everything else: processes, progress, report and prepared file.

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

# Benchmark -> part of `feeder.prepared.PARTS` -> indices into the list of kept clips.
Splits = Mapping[str, Mapping[str, Sequence[int]]]


class Clip(NamedTuple):
    """A clip that was read.

    name: unique in the data set.
    label: number of its class, or `feeder.prepared.NO_LABEL`.
    tracks: (M, T, V, C) float32, zero where a body or a joint is absent.
    keys: whole numbers that define splits (subject, camera, ...); all clips must have the same keys.
    """

    name: str
    label: int
    tracks: np.ndarray
    keys: Mapping[str, int] = {}


class Problem(NamedTuple):
    """A row of the report: input of a file was skipped, or changed if `mended`. `line` counts from 1."""

    file: str | Path
    line: int | None
    reason: str
    mended: bool = False


Entry = Clip | Problem


class Kept(NamedTuple):
    """A clip that was written to the prepared file, without its poses."""

    name: str
    label: int
    keys: Mapping[str, int]


class Source(ABC):
    """Recordings that are read one after another, for example from one file.

    Attributes:
        layout: of the V joints, a value of `data.layout`.
        class_names: one per label; empty if no clip has a label.
        frame_rate: frames per second.
        bodies: how the bodies of a clip were chosen.
        source: origin of the clips, for the prepared file.
        default_out: the prepared file if the user gives none.
        channels, unit: see `feeder.prepared.PreparedWriter`.
        attrs: further attributes of the prepared file.
        official: benchmark -> numbers of clips of (train, val), from its authors.
        recipe: a config that trains on the data; None: the one for own data.
        recipe_settings: settings that the recipe needs, other than path and benchmark.
        recipe_task: the task of `main.py` that the recipe is for.
        recipe_classes: least number of classes among the training clips that the recipe needs.
        left_out: reason -> number of items that were left out although they are not bad.
        num_item: number of results of `entries`, for the progress bar; None if not known.
        item: what an item is, for the progress bar.
        problems: problems that are known before reading.
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
    recipe_task: str = "recognition"
    recipe_classes: int = 2
    left_out: Mapping[str, int] = {}
    num_item: int | None = None
    item: str = "clip"
    problems: Sequence[Problem] = ()

    @cached_property
    def skeleton(self) -> Skeleton:
        """The skeleton of `layout`."""
        return get_skeleton(self.layout)

    @abstractmethod
    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        """Clips and problems, always in the same order; the caller closes the generator."""

    @abstractmethod
    def splits(self, kept: Sequence[Kept]) -> Splits:
        """The benchmarks of the kept clips.

        Raises:
            ValueError: a part that the user asked for would be empty.
        """

    def notes(self, kept: Sequence[Kept]) -> Sequence[str]:
        """Further lines for the summary."""
        return ()


class ItemSource(Source):
    """A source of items, such as files, that several processes read one by one.

    items: arguments of `read`, such as paths of files; a subclass sets it.
    """

    items: Sequence[Any]

    @abstractmethod
    def read(self, item: Any) -> Sequence[Entry]:
        """The clips and the problems of an item. A worker process may call it."""

    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        """See `Source.entries`."""
        self.num_item = len(self.items)
        return ordered_map(self.read, self.items, num_worker=num_worker)


def problem_of(file: str | Path, error: RecordingError | OSError) -> Problem:
    """The row of the report for a file that could not be read."""
    if isinstance(error, RecordingError):
        return Problem(file, error.line, error.reason)
    return Problem(file, None, error.strerror or str(error))
