"""A user's own clips: a table, and a file per clip, in any format of `feeder.recordings.files`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_gen.clip_table import Split, draw_split, given_splits, number_labels, number_subjects, read_table
from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Problem, Splits, problem_of
from feeder.prepared import NO_LABEL, PARTS
from feeder.recordings.files import ReadOptions, Recorded, read_recordings
from feeder.recordings.gaps import Gaps
from feeder.recordings.recording import RecordingError

DEFAULT_RATE = 30.0
WITHOUT_LABELS = "all"


class CustomSource(ItemSource):
    """The clips of a table. All must have the channels, the unit and the frame rate of the first readable clip.

    Args:
        table: the table, see `data_gen.clip_table`.
        data_path: the folder with the table's files.
        layout: of the joints.
        options: facts that the files do not state, with the skeleton of `layout`.
        class_names: in order of labels; None: from the table.
        first_label: the number of the first class.
        frame_rate: frames per second; files that state another rate are resampled. None: the rate that the first file
            states, else `DEFAULT_RATE`.
        held_out: fraction of the subjects to hold out if the table has no splits.
        seed: of the choice of these subjects.

    Raises:
        NotADirectoryError: `data_path` is not a folder.
        ValueError: the table is wrong, or a part would be empty.
    """

    bodies = "as given"
    items: Sequence[int]

    def __init__(
        self,
        table: Path,
        data_path: Path,
        layout: str,
        *,
        options: ReadOptions,
        class_names: Sequence[str] | None,
        first_label: int,
        frame_rate: float | None,
        held_out: float,
        seed: int,
    ) -> None:
        if not data_path.is_dir():
            raise NotADirectoryError(f"--data_path {data_path} is not a folder")
        self.layout, self.source = layout, str(table)
        self.data_path, self.options = data_path, options
        self.held_out, self.seed = held_out, seed
        self.table = read_table(table)
        self.label, self.class_names = number_labels(self.table.label, class_names, first_label=first_label)
        self.subject = number_subjects(self.table.subject)
        self.items = range(len(self.label))
        self._split_rows(self.items)
        self.may_resample = frame_rate is not None
        self.frame_rate = frame_rate or DEFAULT_RATE
        self._take_first(frame_rate)

    def read(self, row: int) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        name = self.table.file[row]
        try:
            found = self._recorded(row)
            tracks = self._tracks(found)
        except RecordingError as error:
            return [problem_of(self.data_path / name, error)]
        mended = [*found.assumptions, *_note_on_gaps(found.gaps)]
        return [
            Clip(name, self.label[row], tracks, {"subject": self.subject[row]}),
            *(Problem(self.data_path / name, None, text, mended=True) for text in mended),
        ]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        return self._split_rows(self._rows(kept))[0]

    def notes(self, kept: Sequence[Kept]) -> Sequence[str]:
        """See `Source.notes`."""
        unused = [f"columns not used: {', '.join(self.table.unused)}"] if self.table.unused else []
        return [*self._split_rows(self._rows(kept))[1], *unused]

    def _take_first(self, frame_rate: float | None) -> None:
        """Set channels, unit and, if `frame_rate` is None, the frame rate to those of the first readable clip."""
        for row in self.items:
            try:
                first = self._recorded(row)
            except RecordingError:
                continue
            self.channels, self.unit = first.channels, first.unit
            if frame_rate is None and first.frame_rate is not None and np.isfinite(first.frame_rate):
                self.frame_rate = first.frame_rate
            return

    def _recorded(self, row: int) -> Recorded:
        """The recording in the file of a row.

        Raises:
            RecordingError: the file cannot be read, holds several recordings, or has another layout.
        """
        name = self.table.file[row]
        found = read_recordings(name, self.data_path / name, self.options, bodies=self.bodies)
        first, another = next(found), next(found, None)
        if isinstance(first, RecordingError):
            raise first
        if another is not None:
            raise RecordingError(None, "it holds several recordings; give one file per clip")
        if first.skeleton is not None and first.skeleton != self.options.skeleton:
            raise RecordingError(
                None, f"its joints are those of {first.skeleton.name!r}, but --layout is {self.layout}"
            )
        return first

    def _tracks(self, found: Recorded) -> np.ndarray:
        if (found.channels, found.unit) != (self.channels, self.unit):
            raise RecordingError(
                None,
                f"channels {found.channels} in unit {found.unit}, but {self.channels} in {self.unit} in the first "
                "clip; all clips of a prepared file must have the same: prepare the others separately",
            )
        known = found.frame_rate is not None and np.isfinite(found.frame_rate)
        if known and found.frame_rate != self.frame_rate and not self.may_resample:
            raise RecordingError(
                None,
                f"{found.frame_rate:g} frames a second, but {self.frame_rate:g} in the first clip; give the rate of "
                "all clips with --frame_rate",
            )
        if not known or found.frame_rate == self.frame_rate:
            return found.tracks
        from feeder.recordings.resample import (
            resample,  # torch takes seconds to load, and nothing else here needs it
        )

        return resample(found.tracks, found.frame_rate, self.frame_rate)

    def _rows(self, kept: Sequence[Kept]) -> list[int]:
        row_of = {file: row for row, file in enumerate(self.table.file)}
        return [row_of[clip.name] for clip in kept]

    def _split_rows(self, rows: Sequence[int]) -> tuple[dict[str, Split], list[str]]:
        """Splits of some rows of the table, as indices into `rows`, and notes for the user.

        Clips without a label are in the training part of every benchmark.
        """
        labelled = [place for place, row in enumerate(rows) if self.label[row] != NO_LABEL]
        if not labelled:
            return {WITHOUT_LABELS: dict(zip(PARTS, (list(range(len(rows))), []), strict=True))}, []
        splits, notes = self._split_labelled([rows[place] for place in labelled])
        others = sorted(set(range(len(rows))) - set(labelled))
        train, val = PARTS
        return {
            benchmark: {
                train: sorted([labelled[clip] for clip in parts[train]] + others),
                val: [labelled[clip] for clip in parts[val]],
            }
            for benchmark, parts in splits.items()
        }, notes

    def _split_labelled(self, rows: Sequence[int]) -> tuple[dict[str, Split], list[str]]:
        table = self.table
        if table.split:
            return given_splits(table.split, rows), []
        subject = np.array(self.subject)[rows]
        split, held_out = draw_split(subject, fraction=self.held_out, seed=self.seed)
        name = dict(zip(subject.tolist(), (table.subject[row] for row in rows), strict=True))
        who = ", ".join(name[number] for number in held_out)
        return {"xsub": split}, [
            f"no column of splits; drawn (--seed {self.seed}) and held out: subjects {who}"
        ]


def _note_on_gaps(gaps: Gaps) -> list[str]:
    """A note for the report on joints that were not seen; empty if there are none."""
    counts = {"interpolated": gaps.num_filled, "absent": gaps.num_absent}
    found = [f"{count} {what}" for what, count in counts.items() if count]
    return [f"joints that were not seen: {', '.join(found)}"] if found else []
