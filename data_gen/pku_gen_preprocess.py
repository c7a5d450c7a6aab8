"""Prepares PKU-MMD, part I or II, from skeleton, label and split files.

    python data_gen/pku_gen_preprocess.py --data_path PKUMMD

The folders below --data_path may have any names, but label files must be below a folder with "label" in its name. For
example: Data/PKU_Skeleton_Renew and Label/Train_Label_PKU_final, or skeleton and label. The skeleton file and the label
file of a sequence have its name: 0002-L in part I, A10N08-L in part II. Split files may be in any folder; their names
contain cross-subject (benchmark xsub) or cross-view (xview), such as cross_subject_v2.txt. A benchmark without a split
file is left out.

The name of a clip is its sequence and the line of its label: 0002-L_001. Frames of a label count from 1, and the last
frame belongs to the clip. Part I does not state the subjects; train on it with data.val_by=sequence.

Input that cannot be used is skipped and listed in OUT.report.csv. The report also lists labels that go past the end of
their sequence (their clips are cut), and sequences that are not in both the split files and the folders.
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

from data_gen.pku_labels import NAMES
from data_gen.prepare import run_preparation
from data_gen.report import parse_preparation, preparation_parser
from data_gen.sources.pku import KINDS, PkuSource
from feeder.recordings.pku import CHOICES


def root_of(kind: str, args: argparse.Namespace) -> tuple[Path, str]:
    """The folder to search for files of a kind, and the option that gives it."""
    own = getattr(args, f"{kind}_path")
    return (own, f"--{kind}_path") if own else (args.data_path, "--data_path")


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/pku_part1.h5 or data/pku_part2.h5")
    parser.add_argument("--data_path", type=Path, metavar="DIR", help="searched with its folders")
    for kind in (*KINDS, "split"):
        parser.add_argument(
            f"--{kind}_path",
            type=Path,
            metavar="DIR",
            help=f"folder of the {kind} files, if not below --data_path",
        )
    parser.add_argument(
        "--part", type=int, choices=list(NAMES), help="default: the part of the skeleton files"
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
    roots = {kind: root_of(kind, args) for kind in (*KINDS, "split")}
    return run_preparation(args, lambda: PkuSource(roots, part=args.part, bodies=args.bodies))


if __name__ == "__main__":
    sys.exit(main())
