"""Speed and memory of preparation, batches, networks and training, compared with textbook implementations.

    python tools/benchmark.py [--only network predictor …] [--rounds 7]

All functions of a comparison are timed in alternation in one process, so a change of the machine's speed affects all
of them. A speed is a median over the rounds, and a ratio is the median of the ratios of the rounds. The tables are
printed and written into `docs/performance.md`, below the machine, the date and the command.

It needs the folder `benchmarks` of the repository, which is not installed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()


def main(argv: Sequence[str] | None = None) -> int:
    """Run `benchmarks.speed`; returns its exit status, or 2 if the benchmarks are not installed."""
    try:
        from benchmarks.speed import main as measure
    except ModuleNotFoundError as error:
        if error.name not in ("benchmarks", "benchmarks.speed"):
            raise
        print(
            "benchmark.py: the benchmarks are in LongSkel's repository only, and are not installed; "
            "run python tools/benchmark.py in a clone of it",
            file=sys.stderr,
        )
        return 2
    return measure(argv)


if __name__ == "__main__":
    sys.exit(main())
