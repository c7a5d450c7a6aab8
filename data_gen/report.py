"""The report (a CSV of skipped input), errors, exit status and common options of data_gen's commands."""

import argparse
import csv
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from torchlight.files import naming


class Report:
    """A list of input that was skipped or changed; `write` writes it to `<out>.report.csv`.

    num_bad, num_mended: numbers of skipped and of changed inputs.
    """

    def __init__(self, out: str | Path) -> None:
        self.path = Path(f"{out}.report.csv")
        self.rows: list[tuple[str, int | None, str]] = []
        self.num_bad = self.num_mended = 0

    def add(self, file: str | Path, line: int | None, reason: str, *, mended: bool = False) -> None:
        """Add a row: input of `file` was skipped, or changed if `mended`. `line` is from 1, or None."""
        self.rows.append((str(file), line, reason))
        self.num_mended += mended
        self.num_bad += not mended

    def write(self) -> None:
        """Write the report, sorted by file; also an empty one, to replace that of an earlier run."""
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
    """Type of an argument: an existing file."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"is {number}; give 0 or more")
    return number


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command with a report: --max_bad and --overwrite."""
    parser.add_argument(
        "--max_bad",
        type=_count,
        default=0,
        metavar="N",
        help="inputs that cannot be used are skipped and listed in OUT.report.csv; exit with status 1 if there are "
        "more than N of them (default 0)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


def _frame_rate(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"is {text}; give a number above 0")
    return number


def add_array_arguments(parser: argparse.ArgumentParser) -> None:
    """Add options for facts that arrays of poses do not state: --layout, --class_names and --frame_rate."""
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
        default_out: text of the help for the default of --out; None if --out is required.
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
    """Parse the arguments of a command that prepares raw files, with --num_worker and `add_output_arguments`."""
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
    """Run a command and return its exit status; an OSError or ValueError is printed in one line.

    The status is 2 after such an error, and 130 after Ctrl-C. SIGTERM raises SystemExit with status 143.
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
