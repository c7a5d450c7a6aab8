"""Timing of several functions in alternation, and what is made of the times."""

import math
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


# (limit, size, unit): times below the limit are shown in this unit. Limit and size are in seconds.
UNITS = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (math.inf, 86_400, "days"))


def duration(seconds: float) -> str:
    """A time in s, min, h or days, with three digits."""
    size, unit = next((size, unit) for limit, size, unit in UNITS if seconds < limit)
    return f"{seconds / size:.3g} {unit}"
