"""Prepares PKU-MMD, part I or II: skeleton, label and split files to one prepared file.

    python data_gen/pku_gen_preprocess.py --data_path PKUMMD

The folders below --data_path may have any names, as long as a label file lies below one that is called after
labels: Data/PKU_Skeleton_Renew and Label/Train_Label_PKU_final, or skeleton and label, for instance. A sequence's
name, 0002-L in part I and A10N08-L in part II, is that of its skeleton file and of its label file. Split files are
those named after cross-subject (benchmark xsub) and cross-view (xview), cross_subject_v2.txt too, wherever they
are; without one, its benchmark is left out.

A clip is called after its sequence and the line of its label: 0002-L_001. Frames of a label count from 1, and the
last one belongs to the clip. Part I does not say who acts; there, draw the validation part with data.val_by=sequence.

What cannot be used is skipped and listed in OUT.report.csv, as are labels that run past their sequence, which are
cut short, and sequences that the split files and the folders do not agree on.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from tqdm import tqdm

from data_gen.parallel import ordered_map
from data_gen.pku_labels import ACTIONS, FRAME_RATE, NAMES, parse_name, part_of
from data_gen.pku_sequence import read_sequence
from data_gen.report import Report, parse_preparation, run_command
from data_gen.summary import count_splits
from feeder.prepared import PARTS, PreparedWriter
from feeder.recordings.pku import CHOICES
from net.utils.layouts import get_skeleton

LAYOUT = "ntu-rgb+d"
KINDS = ("label", "skeleton")
SPLIT_FILES = {
    "xsub": ("cross-subject", re.compile(r"cross[-_ ]?subject", re.IGNORECASE)),
    "xview": ("cross-view", re.compile(r"cross[-_ ]?view", re.IGNORECASE)),
}
# The data set's own files have "Validataion videos:".
HEADING = re.compile(r"\s*(train|val|test)[a-z ]*:?", re.IGNORECASE)


class SplitFile(NamedTuple):
    """A split file: half (one of `PARTS`; a part is one of PKU-MMD's here) -> sequence -> line it stands on."""

    path: Path
    lines: dict[str, dict[str, int]]

    @property
    def names(self) -> set[str]:
        """Sequences of both halves."""
        return {name for lines in self.lines.values() for name in lines}


def find_texts(root: Path, option: str) -> list[Path]:
    """Text files below a folder, in order of their paths.

    Raises:
        NotADirectoryError: no such folder.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{option} {root} is not a folder")
    return sorted(
        Path(folder, file) for folder, _, files in os.walk(root) for file in files if file.endswith(".txt")
    )


def kind_of(path: Path, root: Path) -> str:
    """Which of `KINDS` the nearest folder of a file, below `root`, is called after; "skeleton" if none is."""
    for folder in reversed(path.relative_to(root).parent.parts):
        for kind in KINDS:
            if kind in folder.lower():
                return kind
    return "skeleton"


def root_of(kind: str, args: argparse.Namespace) -> tuple[Path, str]:
    """Folder below which files of a kind are looked for, and the option that gives it."""
    own = getattr(args, f"{kind}_path")
    return (own, f"--{kind}_path") if own else (args.data_path, "--data_path")


def find_kind(kind: str, args: argparse.Namespace) -> list[Path]:
    """Files of sequences that are of a kind: all below its own folder, or those below --data_path."""
    root, option = root_of(kind, args)
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
    """The part that is wanted, or else the only one that there are sequences of."""
    found = sorted({part for path in paths if (part := part_of(path.stem))})
    if wanted is None and len(found) > 1:
        raise ValueError("there are skeleton files of parts 1 and 2; say which one to prepare with --part")
    if wanted is not None and wanted not in found:
        raise ValueError(
            f"--part {wanted}, but the skeleton files are of part {found[0]}; give --part {found[0]}"
        )
    return wanted or found[0]


def by_name(paths: Iterable[Path], kind: str, part: int) -> dict[str, Path]:
    """Name of a sequence of a part -> its file, in order of names.

    Raises:
        ValueError: it has two.
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
    """Read a split file: lines "Training videos:" and "Validation videos:", and names behind them.

    Raises:
        ValueError: there is anything else, or a name is in both lists.
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


def find_splits(root: Path, option: str, part: int) -> dict[str, SplitFile]:
    """Benchmark -> the split file of a part of PKU-MMD; tells of a benchmark that has none.

    Raises:
        ValueError: two files differ, or one is not a split file.
        FileNotFoundError: there is none at all.
    """
    texts = find_texts(root, option)
    splits: dict[str, SplitFile] = {}
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
            print(f"no {called} list of part {part} below {option} {root}: no benchmark {benchmark}")
    if not splits:
        raise FileNotFoundError(
            f"no split file such as cross-subject.txt or cross_view_v2.txt of part {part} below {option} {root}; "
            "give their folder with --split_path"
        )
    return splits


def report_differences(
    report: Report,
    skeletons: Mapping[str, Path],
    labels: Mapping[str, Path],
    splits: Mapping[str, SplitFile],
) -> None:
    """Report sequences that are not in all of: the skeleton files, the label files, the split files."""
    for name in skeletons.keys() - labels.keys():
        report.add(skeletons[name], None, f"no label file {name}.txt")
    for name in labels.keys() - skeletons.keys():
        report.add(labels[name], None, f"no skeleton file {name}.txt")
    for benchmark, split in splits.items():
        for name in skeletons.keys() - split.names:
            report.add(skeletons[name], None, f"not in {split.path}: in no part of {benchmark}")
        for lines in split.lines.values():
            for name in lines.keys() - skeletons.keys():
                report.add(split.path, lines[name], f"no skeleton file {name}.txt")


def prepare(args: argparse.Namespace) -> int:
    """The command; returns its exit status."""
    files = {kind: find_kind(kind, args) for kind in KINDS}
    part = choose_part(files["skeleton"], args.part)
    skeletons, labels = (by_name(files[kind], kind, part) for kind in ("skeleton", "label"))
    splits = find_splits(*root_of("split", args), part)
    out = args.out or Path("data", f"pku_part{part}.h5")
    report = Report(out)
    report_differences(report, skeletons, labels, splits)
    listed = {name for split in splits.values() for name in split.names}
    names = [name for name in skeletons if name in labels and name in listed]

    writer = PreparedWriter(
        out,
        skeleton=get_skeleton(LAYOUT),
        class_names=ACTIONS,
        frame_rate=FRAME_RATE,
        bodies=args.bodies,
        source=f"pku_part{part}",
        overwrite=args.overwrite,
    )
    indices: dict[str, dict[str, list[int]]] = {name: {half: [] for half in PARTS} for name in splits}
    began = time.perf_counter()
    sequences = ordered_map(
        partial(read_sequence, bodies=args.bodies),
        [(skeletons[name], labels[name]) for name in names],
        num_worker=args.num_worker,
    )
    with writer, closing(sequences):
        progress = tqdm(sequences, total=len(names), unit="sequence", disable=None)
        for name, (clips, problems) in zip(names, progress, strict=True):
            for problem in problems:
                report.add(problem.file, problem.line, problem.reason, mended=problem.mended)
            first = len(writer)
            for clip in clips:
                keys = {**parse_name(name), "action": clip.action}
                writer.append(f"{name}_{clip.line:03d}", clip.action - 1, clip.tracks, **keys)
            for benchmark, split in splits.items():
                for half, lines in split.lines.items():
                    if name in lines:
                        indices[benchmark][half] += range(first, len(writer))
        num_clip = len(writer)
        report.write()
        if num_clip == 0:
            raise ValueError(f"no clip of part {part} can be used; see {report.path}")
        writer.finish(indices, {"num_bad": report.num_bad})

    seconds = time.perf_counter() - began
    size = out.stat().st_size / 1e6
    print(f"{out}: {num_clip:,} clips, {size:,.0f} MB, {num_clip / seconds:,.0f} clips/s")
    print(count_splits(indices))
    unlabelled = len(skeletons.keys() - labels.keys())
    print(
        f"{len(skeletons):,} sequences, {unlabelled} of them without labels; "
        f"{report.num_bad} bad, {report.num_mended} cut short ({report.path})"
    )
    return report.exit_status(args.max_bad)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_path", type=Path, metavar="DIR", help="searched with its folders")
    for kind in (*KINDS, "split"):
        parser.add_argument(
            f"--{kind}_path",
            type=Path,
            metavar="DIR",
            help=f"folder of the {kind} files, if not below --data_path",
        )
    parser.add_argument(
        "--part", type=int, choices=list(NAMES), help="default the one that there are skeleton files of"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default data/pku_part1.h5 or data/pku_part2.h5"
    )
    parser.add_argument(
        "--bodies",
        choices=list(CHOICES),
        default="energy",
        help="which of two bodies comes first: the one of larger spread (AS-GCN), or as in the file (AimCLR); "
        "default energy",
    )
    args = parse_preparation(parser, argv)
    if not args.data_path and not (args.skeleton_path and args.label_path and args.split_path):
        parser.error("give --data_path, or all of --skeleton_path, --label_path and --split_path")
    return run_command(lambda: prepare(args))


if __name__ == "__main__":
    sys.exit(main())
