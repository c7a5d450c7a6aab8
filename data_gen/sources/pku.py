"""PKU-MMD, part I or II: skeleton, label and split files below one folder or several."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_gen.pku_labels import ACTIONS, FRAME_RATE, parse_name, part_of
from data_gen.pku_sequence import read_sequence
from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Problem, Splits
from feeder.prepared import PARTS

KINDS = ("label", "skeleton")
SPLIT_FILES = {
    "xsub": ("cross-subject", re.compile(r"cross[-_ ]?subject", re.IGNORECASE)),
    "xview": ("cross-view", re.compile(r"cross[-_ ]?view", re.IGNORECASE)),
}
# The data set's own files have "Validataion videos:".
HEADING = re.compile(r"\s*(train|val|test)[a-z ]*:?", re.IGNORECASE)


class SplitFile(NamedTuple):
    """A split file; `lines`: half (of `PARTS`) -> sequence -> line number. Elsewhere here, a part is I or II."""

    path: Path
    lines: dict[str, dict[str, int]]

    @property
    def names(self) -> set[str]:
        """Sequences of both halves."""
        return {name for lines in self.lines.values() for name in lines}


def find_texts(root: Path, option: str) -> list[Path]:
    """Text files below a folder, sorted by path.

    Raises:
        NotADirectoryError: no such folder.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{option} {root} is not a folder")
    return sorted(
        Path(folder, file) for folder, _, files in os.walk(root) for file in files if file.endswith(".txt")
    )


def kind_of(path: Path, root: Path) -> str:
    """The one of `KINDS` that is in the name of the nearest folder of a file below `root`; else "skeleton"."""
    for folder in reversed(path.relative_to(root).parent.parts):
        for kind in KINDS:
            if kind in folder.lower():
                return kind
    return "skeleton"


def find_kind(kind: str, root: Path, option: str) -> list[Path]:
    """Files of a kind: all files of sequences below its own folder; or those of the kind below --data_path.

    Raises:
        FileNotFoundError: there is no such file.
    """
    paths = [path for path in find_texts(root, option) if part_of(path.stem)]
    if option == "--data_path":
        paths = [path for path in paths if kind_of(path, root) == kind]
    if not paths:
        raise FileNotFoundError(
            f"no {kind} file such as 0002-L.txt or A10N08-L.txt below {option} {root}; give their folder with "
            f"--{kind}_path"
        )
    return paths


def choose_part(paths: Iterable[Path], wanted: int | None) -> int:
    """The part `wanted`, or the only part that has sequences.

    Raises:
        ValueError: `wanted` has no sequences; or it is None, and there are two parts.
    """
    found = sorted({part for path in paths if (part := part_of(path.stem))})
    if wanted is None and len(found) > 1:
        raise ValueError("there are skeleton files of parts 1 and 2; choose one with --part")
    if wanted is not None and wanted not in found:
        raise ValueError(
            f"--part {wanted}, but the skeleton files are of part {found[0]}; give --part {found[0]}"
        )
    return wanted or found[0]


def by_name(paths: Iterable[Path], kind: str, part: int) -> dict[str, Path]:
    """Name of a sequence of a part -> its file, in order of names.

    Raises:
        ValueError: a sequence has two files.
    """
    files: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.stem):
        if part_of(path.stem) == part and files.setdefault(path.stem, path) != path:
            raise ValueError(
                f"{path.stem} has two {kind} files, {files[path.stem]} and {path}; give the folder to use with "
                f"--{kind}_path"
            )
    return files


def read_split(path: Path) -> SplitFile:
    """Read a split file: lines "Training videos:" and "Validation videos:", each followed by names.

    Raises:
        ValueError: the file holds anything else, or a name is in both lists.
    """
    lines: dict[str, dict[str, int]] = {half: {} for half in PARTS}
    half = None
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        heading = HEADING.match(line)
        if heading:
            half = "train" if heading[1].lower() == "train" else "val"
            line = line[heading.end() :]
        for word in re.findall(r"[^,\s]+", line):
            name = word.removesuffix(".txt")
            if half is None or part_of(name) is None:
                raise ValueError(
                    f"{path} line {number}: {word!r} is not a sequence's name like 0002-L below a line 'Training "
                    "videos:' or 'Validation videos:'; give the folder of the split files with --split_path"
                )
            lines[half].setdefault(name, number)
    both = lines["train"].keys() & lines["val"].keys()
    if both:
        raise ValueError(f"{path} lists {min(both)} for training and for validation; remove one")
    return SplitFile(path, lines)


def find_splits(root: Path, option: str, part: int) -> tuple[dict[str, SplitFile], list[str]]:
    """Benchmark -> its split file for a part of PKU-MMD; and notes on benchmarks without a split file.

    Raises:
        ValueError: two split files of a benchmark differ, or a file is not a split file.
        FileNotFoundError: there is no split file.
    """
    texts = find_texts(root, option)
    splits: dict[str, SplitFile] = {}
    missing = []
    for benchmark, (called, pattern) in SPLIT_FILES.items():
        files = [read_split(path) for path in texts if pattern.search(path.name)]
        files = [file for file in files if any(part_of(name) == part for name in file.names)]
        for file in files:
            if splits.setdefault(benchmark, file).lines != file.lines:
                raise ValueError(
                    f"{splits[benchmark].path} and {file.path} are different {called} lists; give the folder of "
                    "the one to use with --split_path"
                )
        if not files:
            missing.append(f"no {called} list of part {part} below {option} {root}: no benchmark {benchmark}")
    if not splits:
        raise FileNotFoundError(
            f"no split file such as cross-subject.txt or cross_view_v2.txt of part {part} below {option} {root}; "
            "give their folder with --split_path"
        )
    return splits, missing


def find_differences(
    skeletons: Mapping[str, Path], labels: Mapping[str, Path], splits: Mapping[str, SplitFile]
) -> Iterator[Problem]:
    """Problems of sequences that are missing in the skeleton files, the label files or the split files."""
    for name in skeletons.keys() - labels.keys():
        yield Problem(skeletons[name], None, f"no label file {name}.txt")
    for name in labels.keys() - skeletons.keys():
        yield Problem(labels[name], None, f"no skeleton file {name}.txt")
    for benchmark, split in splits.items():
        for name in skeletons.keys() - split.names:
            yield Problem(skeletons[name], None, f"not in {split.path}: in no part of {benchmark}")
        for lines in split.lines.values():
            for name in lines.keys() - skeletons.keys():
                yield Problem(split.path, lines[name], f"no skeleton file {name}.txt")


class PkuSource(ItemSource):
    """The sequences of a part of PKU-MMD.

    Args:
        roots: for each of `KINDS` and "split", the folder to search for its files, and the option that gives it.
        part: 1 or 2; None: the part of the skeleton files.
        bodies: order of the two bodies, one of `feeder.recordings.pku.CHOICES`.
    """

    layout = "ntu-rgb+d"
    class_names = ACTIONS
    frame_rate = FRAME_RATE
    item = "sequence"
    items: Sequence[tuple[Path, Path]]
    recipe = "config/pku/long_term_as_gcn.yaml"

    def __init__(self, roots: Mapping[str, tuple[Path, str]], *, part: int | None, bodies: str) -> None:
        files = {kind: find_kind(kind, *roots[kind]) for kind in KINDS}
        part = choose_part(files["skeleton"], part)
        skeletons, labels = (by_name(files[kind], kind, part) for kind in ("skeleton", "label"))
        self.split_files, self.missing = find_splits(*roots["split"], part)
        self.problems = list(find_differences(skeletons, labels, self.split_files))
        listed = {name for split in self.split_files.values() for name in split.names}
        self.items = [
            (skeletons[name], labels[name]) for name in skeletons if name in labels and name in listed
        ]
        self.bodies = bodies
        self.source = f"pku_part{part}"
        self.default_out = Path("data", f"{self.source}.h5")
        # Part I holds out whole sequences, as in the recipe; part II holds out subjects.
        self.recipe_settings = {"data.val_by": "subject"} if part == 2 else {}
        self.num_sequence = len(skeletons)
        self.num_unlabelled = len(skeletons.keys() - labels.keys())

    def read(self, item: tuple[Path, Path]) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        name = item[0].stem
        clips, problems = read_sequence(item, bodies=self.bodies)
        entries = [
            Clip(
                f"{name}_{clip.line:03d}",
                clip.action - 1,
                clip.tracks,
                {**parse_name(name), "action": clip.action},
            )
            for clip in clips
        ]
        return [*problems, *entries]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        sequence = [clip.name.rpartition("_")[0] for clip in kept]
        return {
            benchmark: {
                half: [clip for clip, name in enumerate(sequence) if name in lines]
                for half, lines in split.lines.items()
            }
            for benchmark, split in self.split_files.items()
        }

    def notes(self, kept: Sequence[Kept]) -> Sequence[str]:
        """See `Source.notes`."""
        return [
            *self.missing,
            f"{self.num_sequence:,} sequences, {self.num_unlabelled} of them without labels",
        ]
