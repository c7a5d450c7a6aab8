"""Clips of one's own: a table, and a file per clip."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_gen.clip_table import draw_split, given_splits, number_labels, number_subjects, read_table
from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Splits, problem_of
from feeder.recordings.array import read_tracks
from feeder.recordings.recording import RecordingError


class CustomSource(ItemSource):
    """The clips of a table.

    Args:
        table: the table, see `data_gen.clip_table`.
        data_path: the folder that the table's files are below.
        layout: of the joints.
        class_names: in order of labels; None: as the table has them.
        first_label: the number of the first class.
        frame_rate: frames a second.
        scale: the unit of the coordinates in metres.
        held_out: fraction of the subjects to hold out where the table has no splits.
        seed: of that draw.

    Raises:
        NotADirectoryError: no such folder.
        ValueError: the table is not in order, or a part would be empty.
    """

    bodies = "as given"
    items: Sequence[int]

    def __init__(
        self,
        table: Path,
        data_path: Path,
        layout: str,
        *,
        class_names: Sequence[str] | None,
        first_label: int,
        frame_rate: float,
        scale: float,
        held_out: float,
        seed: int,
    ) -> None:
        if not data_path.is_dir():
            raise NotADirectoryError(f"--data_path {data_path} is not a folder")
        self.layout, self.source, self.frame_rate = layout, str(table), frame_rate
        self.data_path, self.scale = data_path, scale
        self.num_joint = self.skeleton.num_joint
        self.held_out, self.seed = held_out, seed
        self.table = read_table(table)
        self.label, self.class_names = number_labels(self.table.label, class_names, first_label=first_label)
        self.subject = number_subjects(self.table.subject)
        self.items = range(len(self.label))
        self._split_rows(self.items)

    def read(self, row: int) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        path = self.data_path / self.table.file[row]
        try:
            tracks = read_tracks(path, num_joint=self.num_joint, scale=self.scale)
        except RecordingError as error:
            return [problem_of(path, error)]
        return [Clip(self.table.file[row], self.label[row], tracks, {"subject": self.subject[row]})]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        return self._split_rows(self._rows(kept))[0]

    def notes(self, kept: Sequence[Kept]) -> Sequence[str]:
        """See `Source.notes`."""
        unused = [f"columns not used: {', '.join(self.table.unused)}"] if self.table.unused else []
        return [*self._split_rows(self._rows(kept))[1], *unused]

    def _rows(self, kept: Sequence[Kept]) -> list[int]:
        row_of = {file: row for row, file in enumerate(self.table.file)}
        return [row_of[clip.name] for clip in kept]

    def _split_rows(self, rows: Sequence[int]) -> tuple[Splits, list[str]]:
        """Splits of some rows of the table, and what is to be said of them."""
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
