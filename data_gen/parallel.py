"""A map over processes whose memory does not grow with the number of items."""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16  # items per message to a process
CHUNKS_UNDER_WAY = 4  # per process
ARENA_BYTES = 16 << 20


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_worker: int
) -> Generator[Result, None, None]:
    """`map(function, items)`, in order, by `num_worker` processes; by this one alone if that is 1.

    Only a few items per process are under way or waiting to be taken. Close the iterator to stop early.
    """
    if num_worker == 1:
        _keep_freed_memory()
        yield from map(function, items)
        return
    # Forked workers start at once; spawned ones would import the command, and all it imports, again.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(num_worker, mp_context=context, initializer=_start_worker)
    try:
        under_way: deque[Future[list[Result]]] = deque()
        for first in range(0, len(items), CHUNK):
            under_way.append(pool.submit(_apply, function, items[first : first + CHUNK]))
            if len(under_way) > num_worker * CHUNKS_UNDER_WAY:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _apply(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _start_worker() -> None:
    # Ctrl-C reaches every process of the terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have the C library (glibc) reuse the memory of arrays instead of returning it.

    Freeing one large block raises the size from which it maps blocks anew each time, which took a third of
    the time of reading a file.
    """
    np.empty(ARENA_BYTES, np.uint8)
