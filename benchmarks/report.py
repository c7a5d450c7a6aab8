"""The table of measurements, and the page that it is written into."""

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from torchlight.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"


class Row(NamedTuple):
    """One line of the table; `ratio` is the textbook's time over ours."""

    work: str
    clips_per_second: str
    ratio: str = ""
    time: str = ""
    gflops: str = ""
    of_matmul: str = ""
    of_best_matmul: str = ""
    memory: str = ""


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
    """Markdown, without the columns that no row fills."""
    filled = [k for k in range(len(HEADER)) if any(row[k] for row in rows)]
    return aligned([[row[k] for k in filled] for row in (HEADER, *rows)])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; the first row is the header."""
    width = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *lines[1:]])


def machine(device: torch.device) -> str:
    """Processor, cores, threads, GPU, and versions of Python and torch."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{name}, {cores} cores, {torch.get_num_threads()} threads"
    gpu = f"; {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu}{gpu}; Python {platform.python_version()}, torch {torch.__version__}"


def write_section(text: str, title: str, path: Path) -> None:
    """Replace the section `title` of a page, or add it; the rest of the page stays."""
    old = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    head, *sections = old.split("\n## ")
    kept = [section for section in sections if not section.startswith(title + "\n")]
    with atomic_write(path) as file:
        file.write("\n## ".join([head, *kept, f"{title}\n\n{text}\n"]).encode())
