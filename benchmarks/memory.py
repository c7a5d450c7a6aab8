"""Peak memory of one function, measured in a process of its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch


def peak_memory(
    make: Callable[..., Callable[[], object]], arguments: tuple[object, ...], device: torch.device
) -> float:
    """MiB that a call of `make(*arguments)()` needs at most: of the process on a CPU, of the allocator on CUDA.

    Another process imports and calls `make`, so it is a function of a module. On a CPU, memory that is in use
    before the call is subtracted.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe()
    process = context.Process(target=_send_peak, args=(make, arguments, device, send))
    process.start()
    send.close()  # so that a process that dies is noticed
    peak = float(receive.recv())
    process.join()
    return peak


def _send_peak(
    make: Callable[..., Callable[[], object]],
    arguments: tuple[object, ...],
    device: torch.device,
    pipe: Connection,
) -> None:
    function = make(*arguments)
    # getrusage's peak is inherited from the parent process, so the process's own is reset here.
    if device.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    function()
    on_cuda = device.type == "cuda"
    pipe.send(torch.cuda.max_memory_allocated() / 2**20 if on_cuda else _resident("VmHWM") - before)


def _resident(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MiB; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
