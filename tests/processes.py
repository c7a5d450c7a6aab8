"""`main.py` in processes of their own, to be killed or to meet, forked from one that has loaded torch already.

A start of `python main.py` takes seconds, most of them to load torch, and the suite needs dozens of starts.
"""

import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import main
from conftest import environment_of_two, free_port

CONTEXT = multiprocessing.get_context("forkserver")
# torch loads its compiler when a run asks for deterministic algorithms.
CONTEXT.set_forkserver_preload(["processor.recognition", "processor.pretrain", "torch._inductor.config"])


class MainProcess(CONTEXT.Process):
    """`python main.py` with these words, on one thread; what it says goes into the file `said`."""

    def __init__(
        self, words: Sequence[str], said: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.words, self.said, self.environment = list(words), said, dict(environment or {})

    def run(self) -> None:
        """In the new process."""
        os.environ.update(self.environment)
        out = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        torch.set_num_threads(1)
        raise SystemExit(main.main(self.words))

    def wait(self, timeout: float = 120) -> int:
        """Exit status, negative for the signal that ended it."""
        self.join(timeout)
        assert self.exitcode is not None, f"still running after {timeout} s: {self.said.read_text()}"
        return self.exitcode

    def wait_for(self, path: Path, changed_since: int = 0) -> None:
        """Until the file is there, written since then (in nanoseconds of the epoch)."""
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_mtime_ns < changed_since:
            assert self.exitcode is None, self.said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)


def run_two(words: Sequence[str], folder: Path) -> None:
    """The command in two processes that meet, as torchrun starts them; fails with what both said if one does."""
    port = free_port()
    processes = [
        MainProcess(words, folder / f"rank{rank}.txt", environment_of_two(rank, port)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    # The first to fail leaves the other waiting.
    ended = multiprocessing.connection.wait([process.sentinel for process in processes], timeout=120)
    try:
        for process in sorted(processes, key=lambda process: process.sentinel not in ended):
            assert process.wait() == 0, "\n".join(each.said.read_text() for each in processes)
    finally:
        for process in processes:
            process.kill()
