"""How a data_gen command ends: a CSV of what it skipped and why, one line for an error, an exit status."""

import argparse
import csv
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from torchlight.files import naming


class Report:
    """Input that could not be used, or not as it is, one row each; `write` puts them into `<out>.report.csv`.

    num_bad, num_mended: rows of either kind.
    """

    def __init__(self, out: str | Path) -> None:
        self.path = Path(f"{out}.report.csv")
        self.rows: list[tuple[str, int | None, str]] = []
        self.num_bad = self.num_mended = 0

    def add(self, file: str | Path, line: int | None, reason: str, *, mended: bool = False) -> None:
        """Note that something of `file` was skipped, or is used `mended`; `line` counts from 1, None: no one line."""
        self.rows.append((str(file), line, reason))
        self.num_mended += mended
        self.num_bad += not mended

    def write(self) -> None:
        """Write the report, sorted by file; one without rows too, so that none of an earlier run misleads."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with naming(self.path):
                with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                    table = csv.writer(file)
                    table.writerow(("file", "line", "reason"))
                    for name, line, reason in sorted(self.rows, key=lambda row: (row[0], row[1] or 0)):
                        table.writerow((name, line, reason))
                os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def exit_status(self, max_bad: int) -> int:
        """Exit status of the command: 1 if more than `max_bad` inputs were skipped, else 0."""
        return int(self.num_bad > max_bad)


def existing_file(text: str) -> Path:
    """An argument's type: a file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"is {number}; give 0 or more")
    return number


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command with a report has in common: --max_bad and --overwrite."""
    parser.add_argument(
        "--max_bad",
        type=_count,
        default=0,
        metavar="N",
        help="unusable inputs are skipped and listed in OUT.report.csv, the rest is prepared; exit with "
        "status 1 if there are more than N of them (default 0: any is worth a look)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")


def _frame_rate(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"is {text}; give a number above 0")
    return number


def add_array_arguments(parser: argparse.ArgumentParser) -> None:
    """What arrays of poses do not say: --layout, --class_names and --frame_rate."""
    parser.add_argument(
        "--layout",
        metavar="NAME|FILE.yaml",
        help="of the joints; default by their number: ntu-rgb+d for 25, kinect-v1 for 20, and in a picture coco "
        "for 17, openpose for 18",
    )
    parser.add_argument(
        "--class_names",
        type=existing_file,
        metavar="FILE",
        help="a name per line, in order of labels; default those of a known data set, or numbers",
    )
    parser.add_argument(
        "--frame_rate", type=_frame_rate, default=30.0, help="frames a second; default %(default)s"
    )


def preparation_parser(description: str | None, default_out: str | None) -> argparse.ArgumentParser:
    """A parser of a command that prepares raw files, with --out.

    Args:
        description: the command's docstring, which is its help.
        default_out: the file that is made without --out, as the help says it; None: --out is required.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=default_out is None,
        metavar="FILE",
        help="prepared file to make" if default_out is None else f"default {default_out}",
    )
    return parser


def parse_preparation(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of a command that prepares raw files, --num_worker and those of `add_output_arguments` included."""
    parser.add_argument(
        "--num_worker",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default one per core)",
    )
    add_output_arguments(parser)
    args = parser.parse_intermixed_args(argv)
    if args.num_worker < 1:
        parser.error(f"--num_worker {args.num_worker}: give 1 or more")
    return args


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; user errors are printed in one line.

    2 if it ended with OSError or ValueError, 130 after Ctrl-C. SIGTERM ends it in order, with status 143.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return command()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no output was written", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)
