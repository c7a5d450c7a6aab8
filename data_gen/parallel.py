"""An ordered map over processes; its memory does not grow with the number of items.

Executors of `concurrent.futures` are not suitable. Before Python 3.14 their `map` submits all items at once, and keeps
results in memory until they are taken. Their workers outlive a parent that is killed.
"""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16  # items whose results go in one message
ARENA_BYTES = 16 << 20
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_worker: int
) -> Generator[Result, None, None]:
    """Results of `map(function, items)`, in order, from `num_worker` processes; 1 uses this process only.

    A worker is at most one chunk of items ahead of the caller. Workers end when the generator is closed, or when this
    process dies. Call it in the main thread, because it sets signal handlers.

    Raises:
        ChildProcessError: a worker was killed.
        Exception: `function` raised it.
    """
    num_worker = min(num_worker, -(-len(items) // CHUNK))
    if num_worker <= 1:
        _keep_freed_memory()
        yield from map(function, items)
        return
    # Forked workers start at once; spawned workers import all modules again. On macOS, libraries may fail after a fork.
    can_fork = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork") if can_fork else multiprocessing.get_context("spawn")
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    receivers: list[Connection] = []
    processes = []
    try:
        with _stop_signals_held():
            for number in range(num_worker):
                receiver, sender = context.Pipe(duplex=False)
                receivers.append(receiver)
                task = (function, chunks[number::num_worker], sender, receivers)
                process = context.Process(target=_work, args=task, daemon=True)
                process.start()
                processes.append(process)
                sender.close()
        for number in range(len(chunks)):
            try:
                results = receivers[number % num_worker].recv()
            except EOFError:
                raise ChildProcessError(
                    "a worker process was killed; the machine may be out of memory: use fewer processes (--num_worker)"
                ) from None
            if isinstance(results, Exception):
                raise results
            yield from results
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for receiver in receivers:
            receiver.close()


def _work(
    function: Callable[[Item], Result],
    chunks: Sequence[Sequence[Item]],
    sender: Connection,
    receivers: Sequence[Connection],
) -> None:
    # A worker that keeps the other end of its pipe does not notice the death of its parent.
    for receiver in receivers:
        receiver.close()
    # Ctrl-C reaches every process of the terminal; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _change_mask("SIG_UNBLOCK", STOP_SIGNALS)
    _keep_freed_memory()
    for chunk in chunks:
        try:
            results: list[Result] | Exception = [function(item) for item in chunk]
        except Exception as error:
            results = error
        try:
            sender.send(results)
        except BrokenPipeError:
            return  # the parent is gone


@contextmanager
def _stop_signals_held() -> Generator[None, None, None]:
    """Delay Ctrl-C and SIGTERM, because an exception from a handler during a fork is lost.

    The mask alone is not enough, because another thread may receive the signal. Workers inherit the mask, and lift it
    themselves.
    """
    received: list[int] = []
    mask = _change_mask("SIG_BLOCK", STOP_SIGNALS)
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number)) for number in STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _change_mask("SIG_SETMASK", mask)
    for caught in received:
        signal.raise_signal(caught)


def _change_mask(how: str, signals: Iterable[int]) -> Iterable[int]:
    """Change the signal mask of this thread; returns the mask before. Without effect on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        return ()
    return signal.pthread_sigmask(getattr(signal, how), signals)


def _keep_freed_memory() -> None:
    """Make the C library (glibc) reuse the memory of freed arrays.

    glibc maps each large block anew, which took a third of the time of reading a file. Freeing one large block raises
    the size from which it does so.
    """
    np.empty(ARENA_BYTES, np.uint8)
