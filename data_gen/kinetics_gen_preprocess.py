"""Prepares Kinetics-skeleton, JSON files of 2-D poses.

    python data_gen/kinetics_gen_preprocess.py --data_path kinetics-skeleton

The folder holds kinetics_train/ and kinetics_val/ with the labels kinetics_train_label.json and
kinetics_val_label.json; one of the two parts may be missing. The two bodies with the highest confidence in each frame
are kept, as in ST-GCN. Coordinates are from the picture's middle, x to the right, y down, in shares of its width and
height, because its size is not known.
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
