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
    """Folder below which files of a kind are looked for, and the option that gives it."""
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
        "--part", type=int, choices=list(NAMES), help="default the one that there are skeleton files of"
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
