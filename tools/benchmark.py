"""Speed and memory of preparation, batches, networks and what is made of them, beside the same work the textbook way.

    python tools/benchmark.py [--only preparation batch network inference pretrain long_term] [--rounds 7]

Contestants take turns inside one process, so a change of the machine's speed hits all of them; medians are
quoted, and a ratio is the median of the ratios of the turns. The table is printed and written into
`docs/performance.md`, below the machine, the date and the command.
"""

import argparse
import contextlib
import datetime
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import torch
from tqdm import tqdm

from tools.benchmark_batch import batch
from tools.benchmark_inference import inference
from tools.benchmark_long_term import long_term
from tools.benchmark_network import network
from tools.benchmark_preparation import preparation
from tools.benchmark_pretrain import pretrain
from tools.contest import ROOT, Row
from torchlight.files import atomic_write

REPORT = ROOT / "docs" / "performance.md"
PARTS: dict[str, Callable[[int, torch.device], Iterator[Row]]] = {
    "preparation": lambda rounds, device: preparation(rounds),
    "batch": batch,
    "network": network,
    "inference": inference,
    "pretrain": pretrain,
    "long_term": long_term,
}
HEADER = Row(
    "work",
    "clips/s",
    "x textbook",
    "time",
    "GFLOP/s",
    "of the product of 2048",
    "of the fastest product",
    "peak memory",
)


def table(rows: Sequence[Row]) -> str:
    """Markdown, columns aligned; those that no row fills are left out."""
    filled = [k for k in range(len(HEADER)) if any(row[k] for row in rows)]
    cells = [[row[k] for k in filled] for row in (HEADER, *rows)]
    width = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *lines[1:]])


def machine(device: torch.device) -> str:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{name}, {cores} cores, {torch.get_num_threads()} threads"
    gpu = f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu}{gpu}; Python {platform.python_version()}, torch {torch.__version__}"


def write_report(text: str, title: str, path: Path) -> None:
    """Replace the section `title` of the report, or add it; what others wrote stays."""
    old = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    head, *sections = old.split("\n## ")
    kept = [section for section in sections if not section.startswith(title + "\n")]
    with atomic_write(path) as file:
        file.write("\n## ".join([head, *kept, f"{title}\n\n{text}\n"]).encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Speed beside the textbook way.")
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, help="some parts (default: all)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of all but preparation")
    add("--rounds", type=int, default=7, help="turns of each contestant (default 7)")
    add("--out", type=Path, default=REPORT, help="report to write (default docs/performance.md)")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    for part in args.only or PARTS:
        rows = list(tqdm(PARTS[part](args.rounds, device), desc=part, unit="row"))
        command = f"python tools/benchmark.py --only {part} --device {args.device} --rounds {args.rounds}"
        about = f"{machine(device)}. {datetime.date.today().isoformat()}. `{command}`"
        print(f"{about}\n\n{table(rows)}\n")
        write_report(f"{about}\n\n{table(rows)}", f"{part} on {args.device}", args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
