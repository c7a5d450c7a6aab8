"""Prepares NTU RGB+D 60 or 120: raw `.skeleton` files to one prepared file with the official splits.

    python data_gen/ntu_gen_preprocess.py --data_path nturgb+d_skeletons

Files that cannot be used are skipped and listed in OUT.report.csv. Clips are in order of their names, and the
file is the same whatever the number of processes.
"""

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
from tqdm import tqdm

from data_gen.ntu_labels import DATA_SETS, FRAME_RATE, NAME, DataSet, parse_name
from data_gen.parallel import ordered_map
from data_gen.report import Report, existing_file, parse_preparation, run_command
from data_gen.summary import count_splits
from feeder.prepared import PreparedWriter, refuse_existing
from feeder.recordings.bodies import CHOICES
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton

LAYOUT = "ntu-rgb+d"
SUFFIX = ".skeleton"
MAX_BYTES = 16 << 20  # 300 frames of 6 bodies are 5 MB


def find_clips(data_path: Path) -> tuple[dict[str, Path], list[tuple[Path, str]]]:
    """Raw files below a folder: clip name -> file, in order of names; and the others, with the reason.

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
    odd: list[tuple[Path, str]] = []
    for path in paths:
        try:
            parse_name(path.stem)
        except ValueError as error:
            odd.append((path, str(error)))
            continue
        if path.stem in clips:
            odd.append((path, f"the same clip as {clips[path.stem]}, which is used"))
        else:
            clips[path.stem] = path
    return clips, odd


def read_ignored(path: Path | None) -> set[str]:
    """Clip names in the public list of clips with missing skeletons; none without a list."""
    if path is None:
        return set()
    names = {match.group() for match in NAME.finditer(path.read_text(encoding="utf-8", errors="replace"))}
    if not names:
        raise ValueError(f"--ignored_sample_path {path} has no clip's name like S001C002P003R002A013")
    return names


def smallest_data_set(names: Sequence[str]) -> str:
    """The first of `DATA_SETS` that all clips belong to."""
    clips = [parse_name(name) for name in names]
    return next(name for name, facts in DATA_SETS.items() if all(map(facts.has, clips)))


def prepare_file(path: Path, *, bodies: str) -> np.ndarray | RecordingError:
    """Tracks (M, T, V, 3) of a raw file, or why there are none; see `feeder.recordings.bodies`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return RecordingError(None, "not a regular file")
        if status.st_size > MAX_BYTES:
            return RecordingError(None, f"larger than {MAX_BYTES >> 20} MiB")
        return CHOICES[bodies](parse_skeleton(path.read_bytes()))
    except RecordingError as error:
        return error
    except OSError as error:
        return RecordingError(None, error.strerror or str(error))


def make_splits(names: Sequence[str], facts: DataSet) -> dict[str, dict[str, list[int]]]:
    """Benchmark -> part -> indices into `names`."""
    clips = [parse_name(name) for name in names]
    splits: dict[str, dict[str, list[int]]] = {}
    for benchmark, split in facts.splits.items():
        parts: dict[str, list[int]] = {"train": [], "val": []}
        for index, clip in enumerate(clips):
            parts["train" if clip[split.key] in split.train else "val"].append(index)
        splits[benchmark] = parts
    return splits


def prepare(args: argparse.Namespace) -> int:
    """The command; returns its exit status."""
    if args.out is not None:
        refuse_existing(args.out, overwrite=args.overwrite)
    clips, odd = find_clips(args.data_path)
    ignored = read_ignored(args.ignored_sample_path) & clips.keys()
    names = [name for name in clips if name not in ignored]
    data_set = args.dataset or smallest_data_set(names)
    facts = DATA_SETS[data_set]
    members = [name for name in names if facts.has(parse_name(name))]
    out = args.out or Path("data", f"{data_set}.h5")
    report = Report(out)
    for path, reason in odd:
        report.add(path, None, reason)
    writer = PreparedWriter(
        out,
        skeleton=get_skeleton(LAYOUT),
        class_names=facts.class_names,
        frame_rate=FRAME_RATE,
        bodies=args.bodies,
        source=data_set,
        overwrite=args.overwrite,
    )
    paths = [clips[name] for name in members]
    results = ordered_map(partial(prepare_file, bodies=args.bodies), paths, num_worker=args.num_worker)
    kept = []
    with writer, closing(results):
        progress = tqdm(results, total=len(paths), unit="clip", disable=None)
        for name, tracks in zip(members, progress, strict=True):
            if isinstance(tracks, RecordingError):
                report.add(clips[name], tracks.line, tracks.reason)
            else:
                numbers = parse_name(name)
                writer.append(name, numbers["action"] - 1, tracks, **numbers)
                kept.append(name)
        report.write()
        if not kept:
            raise ValueError(f"no clip of {data_set} in {args.data_path} can be used; see {report.path}")
        splits = make_splits(kept, facts)
        writer.finish(splits, {"num_bad": report.num_bad, "num_ignored": len(ignored)})

    print(f"{out}: {len(kept)} clips, {out.stat().st_size / 1e6:,.0f} MB")
    print(count_splits(splits, {benchmark: split.official for benchmark, split in facts.splits.items()}))
    others = len(names) - len(members)
    print(
        f"left out: {len(ignored)} ignored, {others} not of {data_set}, {report.num_bad} bad ({report.path})"
    )
    return report.exit_status(args.max_bad)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data_path", type=Path, required=True, metavar="DIR", help="searched with its folders"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default data/ntu60.h5 or data/ntu120.h5")
    parser.add_argument(
        "--dataset", choices=list(DATA_SETS), help="default ntu120 if a clip is of action 61 or setup 18 on"
    )
    parser.add_argument(
        "--bodies",
        choices=list(CHOICES),
        default="energy",
        help="which bodies make a clip: the two of largest spread (AS-GCN), the first two (ST-GCN), or "
        "tracks by body id without noise (CTR-GCN); default energy",
    )
    parser.add_argument(
        "--ignored_sample_path",
        type=existing_file,
        metavar="FILE",
        help="list of clips with missing skeletons",
    )
    args = parse_preparation(parser, argv)
    return run_command(lambda: prepare(args))


if __name__ == "__main__":
    sys.exit(main())
