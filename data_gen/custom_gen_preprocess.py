"""Prepares your own clips, from a table and a file per clip.

    python data_gen/custom_gen_preprocess.py --table clips.csv --data_path DIR --layout coco --out data/my.h5

The table is a CSV, with commas, semicolons or tabs. It has a header and these columns; other columns are not used:

    file       path below --data_path
    label      class: a name, or a whole number from 0 (or --first_label); empty if it is not known
    subject    the person who acts: a name or a whole number
    split_B    for each benchmark B: train, val or test; empty for clips that are not in B

In benchmark B the test clips are held out, or the val clips if there are no test clips. If there are both, the
val clips are held out in a benchmark B_val. Without a split column, some subjects are held out in a benchmark
xsub. Clips without a label are in the training part of every benchmark, for training without labels. A table without
any label gives one benchmark, all, without a test part.

A clip is any recording that tools/infer.py reads: an array (T frames, V joints, x y z) or (M bodies, T, V, x y z) in
metres, with zeros for an absent body, or the output of a pose estimator (docs/inference.md lists the formats):

    .npy .npz .mat   an array of numbers
    .json            the same as nested lists; a file of NW-UCLA, Kinetics-skeleton, or a list of detections
    .csv             a row per frame: x y z of every joint, body after body
    .skeleton .txt   a file of NTU RGB+D or PKU-MMD
    a folder         OpenPose's frames

All clips must have the channels of the first clip. The report counts joints that were not seen.

The layout is a name, or a YAML file:

    joints: [pelvis, head, left hand, right hand]
    parents: [pelvis, pelvis, pelvis, pelvis]  # the root is its own parent
    centre: pelvis
    pairs: [[left hand, right hand]]           # optional, like spine, torso and shoulders

Clips that cannot be used are skipped and listed in OUT.report.csv.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from data_gen.prepare import run_preparation
from data_gen.report import existing_file, parse_preparation, preparation_parser
from data_gen.sources.custom import CustomSource
from feeder.class_names import read_class_names
from feeder.recordings.arguments import add_reading_arguments, read_options_of
from net.utils.layouts import get_skeleton


def make_source(args: argparse.Namespace) -> CustomSource:
    """The source that the arguments name."""
    return CustomSource(
        args.table,
        args.data_path,
        args.layout,
        options=read_options_of(args, get_skeleton(args.layout), layout_given=True),
        class_names=None if args.class_names is None else read_class_names(args.class_names),
        first_label=args.first_label,
        frame_rate=args.frame_rate,
        held_out=args.held_out,
        seed=args.seed,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, None)
    parser.add_argument("--table", type=existing_file, required=True, metavar="FILE", help="CSV, see above")
    parser.add_argument("--data_path", type=Path, required=True, metavar="DIR", help="folder of the clips")
    parser.add_argument("--layout", required=True, metavar="NAME|FILE.yaml", help="of the joints")
    parser.add_argument(
        "--frame_rate",
        type=float,
        help="frames a second; files that state another rate are resampled. Default: the rate that the first file "
        "states, or 30",
    )
    add_reading_arguments(parser)
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
    args = parse_preparation(parser, argv)
    for option, good, allowed in (
        ("seed", args.seed >= 0, "0 or more"),
        ("first_label", args.first_label >= 0, "0 or more"),
        ("held_out", 0 < args.held_out < 1, "a number between 0 and 1"),
        ("frame_rate", args.frame_rate is None or 0 < args.frame_rate < float("inf"), "a number above 0"),
    ):
        if not good:
            parser.error(f"--{option} {getattr(args, option)}: give {allowed}")
    return run_preparation(args, lambda: make_source(args))


if __name__ == "__main__":
    sys.exit(main())
