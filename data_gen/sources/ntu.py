"""NTU RGB+D 60 and 120: raw `.skeleton` files below a folder."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_gen.ntu_labels import DATA_SETS, FRAME_RATE, NAME, parse_name
from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Problem, Splits, problem_of
from feeder.recordings.bodies import CHOICES
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.recording import RecordingError

SUFFIX = ".skeleton"
MAX_BYTES = 16 << 20  # 300 frames of 6 bodies are 5 MB


def find_clips(data_path: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Raw files below a folder, clip name -> file, in order of names; and problems with other raw files.

    Raises:
        NotADirectoryError, FileNotFoundError: no such folder, or no raw file below it.
    """
    if not data_path.is_dir():
        raise NotADirectoryError(f"--data_path {data_path} is not a folder")
    paths = [Path(folder, file) for folder, _, files in os.walk(data_path) for file in files]
    paths = sorted((path for path in paths if path.suffix == SUFFIX), key=lambda path: (path.stem, path))
    if not paths:
        raise FileNotFoundError(f"no {SUFFIX} file in --data_path {data_path} or the folders below it")
    clips: dict[str, Path] = {}
    odd: list[Problem] = []
    for path in paths:
        try:
            parse_name(path.stem)
        except ValueError as error:
            odd.append(Problem(path, None, str(error)))
            continue
        if path.stem in clips:
            odd.append(Problem(path, None, f"the same clip as {clips[path.stem]}, which is used"))
        else:
            clips[path.stem] = path
    return clips, odd


def read_ignored(path: Path | None) -> set[str]:
    """Names in a list of clips with missing skeletons; empty without a list.

    Raises:
        ValueError: the list has no clip's name.
    """
    if path is None:
        return set()
    names = {match.group() for match in NAME.finditer(path.read_text(encoding="utf-8", errors="replace"))}
    if not names:
        raise ValueError(f"--ignored_sample_path {path} has no clip's name like S001C002P003R002A013")
    return names


def smallest_data_set(names: Sequence[str]) -> str:
    """The first of `DATA_SETS` that contains all clips."""
    clips = [parse_name(name) for name in names]
    return next(name for name, facts in DATA_SETS.items() if all(map(facts.has, clips)))


def read_file(path: Path, *, bodies: str) -> np.ndarray:
    """Tracks (M, T, V, 3) of a raw file; see `feeder.recordings.bodies`.

    Raises:
        RecordingError, OSError: the file cannot be used.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RecordingError(None, "not a regular file")
    if status.st_size > MAX_BYTES:
        raise RecordingError(None, f"larger than {MAX_BYTES >> 20} MiB")
    return CHOICES[bodies](parse_skeleton(path.read_bytes()))


class NtuSource(ItemSource):
    """The raw files below a folder.

    Args:
        data_path: the folder.
        data_set: one of `DATA_SETS`; other clips are left out. None: the smallest that contains all clips.
        bodies: choice of bodies, one of `feeder.recordings.bodies.CHOICES`.
        ignored: file with a list of clips to leave out, those with missing skeletons.
    """

    layout = "ntu-rgb+d"
    frame_rate = FRAME_RATE
    items: Sequence[Path]
    recipe = "config/ntu/long_term_as_gcn.yaml"

    def __init__(
        self, data_path: Path, *, data_set: str | None, bodies: str, ignored: Path | None = None
    ) -> None:
        clips, self.problems = find_clips(data_path)
        ignored_names = read_ignored(ignored) & clips.keys()
        names = [name for name in clips if name not in ignored_names]
        self.source = data_set or smallest_data_set(names)
        self.facts = DATA_SETS[self.source]
        self.items = [clips[name] for name in names if self.facts.has(parse_name(name))]
        self.class_names = self.facts.class_names
        self.bodies = bodies
        self.default_out = Path("data", f"{self.source}.h5")
        self.attrs = {"num_ignored": len(ignored_names)}
        self.official = {benchmark: split.official for benchmark, split in self.facts.splits.items()}
        self.recipe_settings = {"data.num_class": len(self.class_names)}
        self.left_out = {
            "ignored": len(ignored_names),
            f"not of {self.source}": len(names) - len(self.items),
        }

    def read(self, path: Path) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        try:
            tracks = read_file(path, bodies=self.bodies)
        except (RecordingError, OSError) as error:
            return [problem_of(path, error)]
        numbers = parse_name(path.stem)
        return [Clip(path.stem, numbers["action"] - 1, tracks, numbers)]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        splits: dict[str, dict[str, list[int]]] = {}
        for benchmark, split in self.facts.splits.items():
            parts = splits[benchmark] = {"train": [], "val": []}
            for index, clip in enumerate(kept):
                parts["train" if clip.keys[split.key] in split.train else "val"].append(index)
        return splits
