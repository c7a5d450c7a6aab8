"""What the parts of the benchmark share: turns, ratios, and the rows of a table."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from net.utils.graph import Graph

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = "ntu-rgb+d"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


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


def take_turns(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            begin = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the rounds of slow / fast."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def duration(seconds: float) -> str:
    """In the unit that leaves a small number."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The precision of a network; float32 is its own."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def adjacency(strategy: str, layout: str = LAYOUT) -> Tensor:
    """(K, V, V) of a layout, by default the one that is measured most."""
    return torch.from_numpy(Graph(layout, strategy).A).float()
