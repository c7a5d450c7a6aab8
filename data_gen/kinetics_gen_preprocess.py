"""Prepares Kinetics-skeleton: JSON files of 2-D poses to one prepared file.

    python data_gen/kinetics_gen_preprocess.py --data_path kinetics-skeleton

The folder holds kinetics_train/, kinetics_val/ and the labels, kinetics_train_label.json, kinetics_val_label.json; one
of the two parts may be missing. In each frame the two bodies of most confidence count, as ST-GCN has them. Poses are
counted from the picture's middle, x to the right, y down, in shares of its width and height: its size is not known.
Files that cannot be used are skipped and listed in OUT.report.csv.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from data_gen.prepare import run_preparation
from data_gen.report import parse_preparation, preparation_parser
from data_gen.sources.kinetics import KineticsSource


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/kinetics.h5")
    parser.add_argument(
        "--data_path", type=Path, required=True, metavar="DIR", help="folder of both parts and their labels"
    )
    args = parse_preparation(parser, argv)
    return run_preparation(args, lambda: KineticsSource(args.data_path))


if __name__ == "__main__":
    sys.exit(main())
