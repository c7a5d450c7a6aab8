"""Prepares Northwestern-UCLA Multiview Action 3D: a folder of JSON files to one prepared file.

    python data_gen/ucla_gen_preprocess.py --data_path nw_ucla/all_sqe

Each file holds {"file_name", "skeletons": [T][20][3], "label": 1 to 10}; joints are those of Kinect v1, in
metres. A frame without a skeleton stays in its place as zeros, like the frames that the sensor lost in NTU
RGB+D.
Files that cannot be used are skipped and listed in OUT.report.csv.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
from tqdm import tqdm

from data_gen.parallel import ordered_map
from data_gen.report import Report, parse_preparation, run_command
from data_gen.summary import count_splits
from feeder.prepared import PreparedWriter
from feeder.recordings.recording import RecordingError
from feeder.recordings.ucla import LAYOUT, parse_json, poses_of
from net.utils.layouts import get_skeleton

FRAME_RATE = 30.0
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
KEYS = ("action", "subject", "sequence", "view")
# By the number in the file's name; the label counts them, without the numbers that were given up.
ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}
LABEL = {action: label for label, action in enumerate(ACTIONS)}
VIEWS = {"train": (1, 2), "val": (3,)}
OFFICIAL = {"xview": (1020, 464)}


def parse_name(name: str) -> dict[str, int]:
    """The numbers in a clip's name, such as a01_s02_e03_v01, by `KEYS`.

    Raises:
        RecordingError: it is not of that form, or the action or view is none of the data set's.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise RecordingError(None, f"{name!r} is not a clip's name like a01_s02_e03_v01")
    numbers = dict(zip(KEYS, map(int, match.groups()), strict=True))
    if numbers["action"] not in ACTIONS:
        raise RecordingError(
            None, f"{name!r} is of action {numbers['action']}; actions are {', '.join(map(str, ACTIONS))}"
        )
    if not any(numbers["view"] in views for views in VIEWS.values()):
        raise RecordingError(None, f"{name!r} is of view {numbers['view']}; views are 1 to 3")
    return numbers


def parse_clip(name: str, data: bytes) -> np.ndarray:
    """Poses (1, T, 20, 3) float32 of the content of a file, zero in frames without a skeleton.

    Raises:
        RecordingError: it is not of the format, is of another clip, or holds no skeleton.
    """
    content = parse_json(data)
    poses = poses_of(content)
    expected = {"file_name": name, "label": 1 + LABEL[parse_name(name)["action"]]}
    for key, value in expected.items():
        if content.get(key) != value:
            raise RecordingError(
                None, f"{key} is {content.get(key)!r}, but the file's name stands for {value!r}"
            )
    return poses[None]


def prepare_file(path: Path) -> np.ndarray | RecordingError:
    """`parse_clip` of a file, or why it cannot be used."""
    try:
        return parse_clip(path.stem, path.read_bytes())
    except RecordingError as error:
        return error
    except OSError as error:
        return RecordingError(None, error.strerror or str(error))


def find_clips(data_path: Path) -> list[Path]:
    """JSON files of a folder, in order of names."""
    if not data_path.is_dir():
        raise NotADirectoryError(f"--data_path {data_path} is not a folder")
    paths = sorted(data_path.glob("*.json"))
    if not paths:
        raise FileNotFoundError(
            f"no .json file in --data_path {data_path}; give the folder that holds a01_s01_e00_v01.json, ..."
        )
    return paths


def prepare(args: argparse.Namespace) -> int:
    """The command; returns its exit status."""
    paths = find_clips(args.data_path)
    report = Report(args.out)
    writer = PreparedWriter(
        args.out,
        skeleton=get_skeleton(LAYOUT),
        class_names=list(ACTIONS.values()),
        frame_rate=FRAME_RATE,
        bodies="one",
        source="nw_ucla",
        overwrite=args.overwrite,
    )
    splits: dict[str, list[int]] = {part: [] for part in VIEWS}
    clips = ordered_map(prepare_file, paths, num_worker=args.num_worker)
    with writer, closing(clips):
        progress = tqdm(clips, total=len(paths), unit="clip", disable=None)
        for path, poses in zip(paths, progress, strict=True):
            if isinstance(poses, RecordingError):
                report.add(path, poses.line, poses.reason)
                continue
            numbers = parse_name(path.stem)
            part = next(part for part, views in VIEWS.items() if numbers["view"] in views)
            splits[part].append(len(writer))
            writer.append(path.stem, LABEL[numbers["action"]], poses, **numbers)
        num_clip = len(writer)
        report.write()
        if num_clip == 0:
            raise ValueError(f"no clip in {args.data_path} can be used; see {report.path}")
        writer.finish({"xview": splits}, {"num_bad": report.num_bad})

    print(f"{args.out}: {num_clip:,} clips, {args.out.stat().st_size / 1e6:,.0f} MB")
    print(count_splits({"xview": splits}, OFFICIAL))
    print(f"left out: {report.num_bad} bad ({report.path})")
    return report.exit_status(args.max_bad)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data_path", type=Path, required=True, metavar="DIR", help="folder of the JSON files"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/nw_ucla.h5"), metavar="FILE", help="default %(default)s"
    )
    args = parse_preparation(parser, argv)
    return run_command(lambda: prepare(args))


if __name__ == "__main__":
    sys.exit(main())
