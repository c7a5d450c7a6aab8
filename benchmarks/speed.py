"""Speed and memory of preparation, batches, networks and training; the command is `tools/benchmark.py`."""

import argparse
import datetime
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.batch import batch
from benchmarks.inference import inference
from benchmarks.long_term import long_term
from benchmarks.masked_motion import masked_motion
from benchmarks.network import COMPARISONS, compare
from benchmarks.preparation import preparation
from benchmarks.pretrain import pretrain
from benchmarks.report import PAGE, Row, machine, table, write_section

PARTS: dict[str, Callable[[int, torch.device], Iterator[Row]]] = {
    "preparation": lambda rounds, device: preparation(rounds),
    "batch": batch,
    **{part: partial(compare, part) for part in COMPARISONS},
    "inference": inference,
    "pretrain": pretrain,
    "masked_motion": masked_motion,
    "long_term": long_term,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Speed beside the textbook way.")
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, help="some parts (default: all)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of all but preparation")
    add("--rounds", type=int, default=7, help="how often each time is measured (default 7)")
    add("--out", type=Path, default=PAGE, help="report to write (default docs/performance.md)")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    for part in args.only or PARTS:
        rows = list(tqdm(PARTS[part](args.rounds, device), desc=part, unit="row"))
        command = f"python tools/benchmark.py --only {part} --device {args.device} --rounds {args.rounds}"
        about = f"{machine(device)}. {datetime.date.today().isoformat()}. `{command}`"
        print(f"{about}\n\n{table(rows)}\n")
        write_section(f"{about}\n\n{table(rows)}", f"{part} on {args.device}", args.out)
    return 0
