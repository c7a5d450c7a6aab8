"""Prepares a `.npz` of CTR-GCN, the arrays of one benchmark.

    python data_gen/ctrgcn_gen_preprocess.py --data_path NTU60_CS.npz

The file holds x_train, x_test (clips, frames, 2 bodies x joints x 3) in metres and y_train, y_test (clips, classes)
one-hot. A part may be missing or empty. A row of zeros in y is a clip without a label. Zeros after the end of a clip
are left out. Clips get the names train_000000, test_000000. They have no subjects, so train with data.val_by=random.
The file is read in blocks, and never unpacked.

Clips that cannot be used are skipped and listed in OUT.report.csv.
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
from data_gen.report import add_array_arguments, existing_file, parse_preparation, preparation_parser
from data_gen.sources.ctrgcn import CtrGcnSource
from feeder.class_names import read_class_names


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/<name of the arrays>.h5")
    parser.add_argument(
        "--data_path", type=existing_file, required=True, metavar="FILE.npz", help="the arrays"
    )
    parser.add_argument(
        "--benchmark", metavar="NAME", help="of the split; default by the file's name: xsub for NTU60_CS.npz"
    )
    add_array_arguments(parser)
    args = parse_preparation(parser, argv)
    return run_preparation(
        args,
        lambda: CtrGcnSource(
            args.data_path,
            layout=args.layout,
            class_names=args.class_names and read_class_names(args.class_names),
            frame_rate=args.frame_rate,
            benchmark=args.benchmark,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
