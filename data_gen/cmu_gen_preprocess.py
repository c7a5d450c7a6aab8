"""Prepares CMU motion capture, as papers on pose prediction use it, from folders of text files.

    python data_gen/cmu_gen_preprocess.py --data_path cmu_mocap

The folder holds train/<action>/<action>_<number>.txt and test/<action>/<action>_<number>.txt. The two parts of the
benchmark `split` are these two folders, and the classes are the actions. A file has a row for each frame, 60 a second.
The 117 numbers of a row, separated by commas, are the place of the body and a rotation vector (exponential map) of each
of 38 joints. A clip has every second frame. A test file gives one clip, of its even frames, as in the papers. A
training file gives a second one, of its odd frames. Joints are computed by forward kinematics, in metres, without the
place and the rotation of the body: the hip centre is the origin, x is to the body's left, y up, z to its front.

Files that cannot be used are skipped and listed in OUT.report.csv. The folder walking_extra is left out, as in the
papers.
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
from data_gen.sources.cmu import CmuSource


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/cmu.h5")
    parser.add_argument(
        "--data_path", type=Path, required=True, metavar="DIR", help="folder of train and test"
    )
    args = parse_preparation(parser, argv)
    return run_preparation(args, lambda: CmuSource(args.data_path))


if __name__ == "__main__":
    sys.exit(main())
