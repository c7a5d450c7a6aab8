"""Prepares clips of your own: a table and a file per clip to one prepared file.

    python data_gen/custom_gen_preprocess.py --table clips.csv --data_path DIR --layout coco --out data/my.h5

The table is a CSV (or has semicolons or tabs for commas) with a header and these columns; others are not used:

    file       path below --data_path
    label      class: a name, or a whole number from 0 (or --first_label) on
    subject    who acts: a name or a whole number
    split_B    as many as there are benchmarks B: train, val or test; empty for a clip that B leaves out

In benchmark B the test clips are held out, or the val clips if there are no test clips. If there are both, the
val clips are held out in a benchmark B_val. Without a split column, some subjects are held out in a benchmark
xsub.

A clip is (T frames, V joints, x y z) or (M bodies, T, V, x y z) in metres, zero where a body is absent:

    .npy       an array of numbers
    .json      the same as nested lists
    .csv       a row per frame: x y z of every joint, body after body

The layout is a name, or a YAML file:

    joints: [pelvis, head, left hand, right hand]
    parents: [pelvis, pelvis, pelvis, pelvis]  # the root names itself
    centre: pelvis
    pairs: [[left hand, right hand]]           # may be left out, as may spine, torso and shoulders

Clips that cannot be used are skipped and listed in OUT.report.csv.
"""

import argparse
import os
import shlex
import sys
from collections import Counter
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

from data_gen.clip_table import (
    Split,
    Table,
    draw_split,
    given_splits,
    number_labels,
    number_subjects,
    read_class_names,
    read_table,
)
from data_gen.parallel import ordered_map
from data_gen.report import Report, add_output_arguments, existing_file, run_command
from data_gen.summary import count_splits
from feeder.prepared import PreparedWriter
from feeder.recordings.array import METRES, read_tracks
from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton

MAX_RATIO = 3  # of the most frequent class to the rarest, above which training draws classes equally


def prepare_file(path: Path, *, num_joint: int, scale: float) -> np.ndarray | RecordingError:
    """`read_tracks`, or why the file cannot be used."""
    try:
        return read_tracks(path, num_joint=num_joint, scale=scale)
    except RecordingError as error:
        return error


def prepare(args: argparse.Namespace) -> int:
    """The command; returns its exit status."""
    if not args.data_path.is_dir():
        raise NotADirectoryError(f"--data_path {args.data_path} is not a folder")
    skeleton = get_skeleton(args.layout)
    table = read_table(args.table)
    names = None if args.class_names is None else read_class_names(args.class_names)
    label, class_names = number_labels(table.label, names, first_label=args.first_label)
    subject = number_subjects(table.subject)
    make_splits(table, range(len(label)), args)
    if table.unused:
        print(f"columns not used: {', '.join(table.unused)}")

    report = Report(args.out)
    writer = PreparedWriter(
        args.out,
        skeleton=skeleton,
        class_names=class_names,
        frame_rate=args.frame_rate,
        bodies="as given",
        source=str(args.table),
        overwrite=args.overwrite,
    )
    paths = [args.data_path / file for file in table.file]
    read = partial(prepare_file, num_joint=skeleton.num_joint, scale=METRES[args.unit])
    clips = ordered_map(read, paths, num_worker=args.num_worker)
    kept, num_body = [], 1
    with writer, closing(clips):
        for row, tracks in enumerate(tqdm(clips, total=len(paths), unit="clip", disable=None)):
            if isinstance(tracks, RecordingError):
                report.add(paths[row], tracks.line, tracks.reason)
            else:
                writer.append(table.file[row], label[row], tracks, subject=subject[row])
                kept.append(row)
                num_body = max(num_body, len(tracks))
        report.write()
        if not kept:
            file, _, reason = report.rows[0]
            raise ValueError(
                f"no clip of --table {args.table} can be used; the first, {file}: {reason} (all: {report.path})"
            )
        splits, note = make_splits(table, kept, args)
        writer.finish(splits, {"num_bad": report.num_bad})

    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {len(kept):,} clips of {len(class_names)} classes, {size:,.0f} MB")
    print(count_splits(splits) + note)
    print(f"left out: {report.num_bad} bad ({report.path})")
    empty = sorted(set(range(len(class_names))) - {label[row] for row in kept})
    if empty:
        print(f"classes without a clip: {', '.join(class_names[number] for number in empty)}")
    benchmark, split = next(iter(splits.items()))
    settings = {
        "data.path": args.out,
        "data.layout": args.layout,
        "data.num_class": len(class_names),
        "data.num_body": num_body,
        "benchmark": benchmark,
    }
    count = Counter(label[kept[clip]] for clip in split["train"]).values()
    if max(count) > MAX_RATIO * min(count):
        settings["data.balanced"] = "true"
    print("train with, for instance:")
    words = [shlex.quote(f"{key}={value}") for key, value in settings.items()]
    print(f"    python main.py recognition -c config/custom/st_gcn.yaml {' '.join(words)}")
    return report.exit_status(args.max_bad)


def make_splits(table: Table, rows: Sequence[int], args: argparse.Namespace) -> tuple[dict[str, Split], str]:
    """Splits of some rows of the table, and what is to be said of them.

    Raises:
        ValueError: a part would be empty.
    """
    if table.split:
        return given_splits(table.split, rows), ""
    subject = np.array(number_subjects(table.subject))[rows]
    split, held_out = draw_split(subject, fraction=args.held_out, seed=args.seed)
    name = dict(zip(subject.tolist(), (table.subject[row] for row in rows), strict=True))
    who = ", ".join(name[number] for number in held_out)
    return {"xsub": split}, f"\nno column of splits; drawn (--seed {args.seed}) and held out: subjects {who}"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=existing_file, required=True, metavar="FILE", help="CSV, see above")
    parser.add_argument("--data_path", type=Path, required=True, metavar="DIR", help="folder of the clips")
    parser.add_argument("--layout", required=True, metavar="NAME|FILE.yaml", help="of the joints")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="prepared file to make")
    parser.add_argument("--frame_rate", type=float, default=30.0, help="frames a second; default %(default)s")
    parser.add_argument("--unit", choices=list(METRES), default="m", help="of the coordinates; default m")
    parser.add_argument(
        "--class_names", type=existing_file, metavar="FILE", help="a name per line, in order of labels"
    )
    parser.add_argument(
        "--first_label",
        type=int,
        default=0,
        metavar="N",
        help="number of the first class, where labels are numbers; default %(default)s",
    )
    parser.add_argument(
        "--held_out",
        type=float,
        default=0.3,
        metavar="F",
        help="fraction of the subjects, if there is no split column",
    )
    parser.add_argument("--seed", type=int, default=0, help="of that draw; default %(default)s")
    parser.add_argument("--num_worker", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    add_output_arguments(parser)
    args = parser.parse_args(argv)
    for option, good, allowed in (
        ("num_worker", args.num_worker >= 1, "1 or more"),
        ("seed", args.seed >= 0, "0 or more"),
        ("first_label", args.first_label >= 0, "0 or more"),
        ("held_out", 0 < args.held_out < 1, "a number between 0 and 1"),
        ("frame_rate", 0 < args.frame_rate < float("inf"), "a number above 0"),
    ):
        if not good:
            parser.error(f"--{option} {getattr(args, option)}: give {allowed}")
    return run_command(lambda: prepare(args))


if __name__ == "__main__":
    sys.exit(main())
