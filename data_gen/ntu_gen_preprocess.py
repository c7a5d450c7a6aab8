"""Prepares NTU RGB+D 60 or 120 from raw `.skeleton` files, with the official splits.

    python data_gen/ntu_gen_preprocess.py --data_path nturgb+d_skeletons

Files that cannot be used are skipped and listed in OUT.report.csv. Clips are in the order of their names. The file
does not depend on the number of processes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

from data_gen.ntu_labels import DATA_SETS
from data_gen.prepare import run_preparation
from data_gen.report import existing_file, parse_preparation, preparation_parser
from data_gen.sources.ntu import NtuSource
from feeder.recordings.bodies import CHOICES


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and run the command."""
    parser = preparation_parser(__doc__, "data/ntu60.h5 or data/ntu120.h5")
    parser.add_argument(
        "--data_path", type=Path, required=True, metavar="DIR", help="searched with its folders"
    )
    parser.add_argument(
        "--dataset", choices=list(DATA_SETS), help="default ntu120 if a clip is of action 61 or setup 18 on"
    )
    parser.add_argument(
        "--bodies",
        choices=list(CHOICES),
        default="energy",
        help="which bodies make a clip: the two of largest spread (AS-GCN), the first two (ST-GCN), or "
        "tracks by body id without noise (CTR-GCN); default energy",
    )
    parser.add_argument(
        "--ignored_sample_path",
        type=existing_file,
        metavar="FILE",
        help="list of clips with missing skeletons",
    )
    args = parse_preparation(parser, argv)
    return run_preparation(
        args,
        lambda: NtuSource(
            args.data_path,
            data_set=args.dataset,
            bodies=args.bodies,
            ignored=args.ignored_sample_path,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
