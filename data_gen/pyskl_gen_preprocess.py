"""Prepares a pickle of PYSKL or MMAction2; its splits become benchmarks.

    python data_gen/pyskl_gen_preprocess.py --data_path ntu60_3danno.pkl

The pickle is {"split": {name: [frame_dir, ...]}, "annotations": [...]}, or the bare list of annotations. Each holds
frame_dir, label (may be missing), keypoint (M, T, V, C): x y z in metres; or x y in pixels, with keypoint_score
(M, T, V) and img_shape (height, width).

Splits xsub_train and xsub_val become benchmark xsub; train1 and test1 become split1; train and val become split. A file
without splits becomes one benchmark, all, without a test part: use it for pre-training.

2-D coordinates are moved to the middle of the picture, and divided by its height.

The pickle cannot run code. Clips that cannot be used are skipped and listed in OUT.report.csv.
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
from data_gen.sources.pyskl import PysklSource
from feeder.class_names import read_class_names


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/<name of the pickle>.h5")
    parser.add_argument(
        "--data_path", type=existing_file, required=True, metavar="FILE.pkl", help="the pickle"
    )
    add_array_arguments(parser)
    args = parse_preparation(parser, argv)
    return run_preparation(
        args,
        lambda: PysklSource(
            args.data_path,
            layout=args.layout,
            class_names=args.class_names and read_class_names(args.class_names),
            frame_rate=args.frame_rate,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
