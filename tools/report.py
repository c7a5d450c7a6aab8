"""Write a page about a run: curves, confusion matrix, table of classes, and the worst test clips, which it plays.

    python tools/report.py work_dir/nw_ucla/st_gcn/joint

Open WORK_DIR/report.html in a browser. Poses come from the data file that the run's config names; without that file the
clips are listed without poses. For a run of prediction the clips are those with the largest errors, with true and
predicted poses.
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

from feeder.prepared import refuse_existing
from processor.io import REPORT
from processor.page import MOST_CLIPS, check_package
from processor.run_page import write_run_page
from torchlight.status import status_of


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("work_dir", type=Path, metavar="WORK_DIR", help="folder of a run")
    add("--out", type=Path, metavar="FILE", help=f"the page (default: WORK_DIR/{REPORT})")
    add("--num_clip", type=int, default=20, metavar="N", help="clips to show (default %(default)s)")
    add("--overwrite", action="store_true", help="replace a page that exists")
    args = parser.parse_args(argv)
    if not 0 <= args.num_clip <= MOST_CLIPS:
        parser.error(f"--num_clip is {args.num_clip}; give 0 to {MOST_CLIPS}")
    return args


def report(args: argparse.Namespace) -> None:
    """Write the page."""
    check_package()
    if not args.work_dir.is_dir():
        raise FileNotFoundError(f"there is no folder {args.work_dir}; name the work_dir of a run")
    out = args.out or args.work_dir / REPORT
    refuse_existing(out, overwrite=args.overwrite)
    parts = write_run_page(args.work_dir, out, num_clip=args.num_clip)
    print(f"{out}: {len(parts.clips)} clips to play, {out.stat().st_size / 1e6:.1f} MB")
    for note in parts.notes:
        print(note)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 written, 1 not, 2 wrong usage."""
    args = parse(argv)
    return status_of(lambda: report(args))


if __name__ == "__main__":
    sys.exit(main())
