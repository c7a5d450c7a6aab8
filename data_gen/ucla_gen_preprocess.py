"""Prepares Northwestern-UCLA Multiview Action 3D from a folder of JSON files.

    python data_gen/ucla_gen_preprocess.py --data_path nw_ucla/all_sqe

Each file holds {"file_name", "skeletons": [T][20][3], "label": 1 to 10}. The joints are those of Kinect v1, in
metres. Frames without a skeleton are kept as zeros, like the frames that the sensor lost in NTU RGB+D. Files that
cannot be used are skipped and listed in OUT.report.csv.
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
from data_gen.sources.ucla import UclaSource


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/nw_ucla.h5")
    parser.add_argument(
        "--data_path", type=Path, required=True, metavar="DIR", help="folder of the JSON files"
    )
    args = parse_preparation(parser, argv)
    return run_preparation(args, lambda: UclaSource(args.data_path))


if __name__ == "__main__":
    sys.exit(main())
