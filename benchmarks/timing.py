"""Timing of several functions in alternation, and what is made of the times."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch


def time_interleaved(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function in each round.

    A round calls every function once, so a change of the machine's speed affects all of them. A first round
    warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the rounds of slow / fast."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def duration(seconds: float) -> str:
    """A time in s, min or h, with three digits."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
