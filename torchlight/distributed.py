"""Communication between the W processes of torchrun. A single process is rank 0 of 1, and nothing is sent.

Numbers, flags and objects are sent between CPUs by gloo, tensors on CUDA devices by NCCL.
"""

import math
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional
from torch import Tensor, nn

T = TypeVar("T")


def init(device_name: str = "auto") -> None:
    """Choose the device, and join the process group if there are several processes. `shutdown` leaves it.

    Args:
        device_name: see `device`.

    Raises:
        ValueError: see `device`.
    """
    chosen = device(device_name)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")


def shutdown() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """W, the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and messages: rank 0."""
    return rank() == 0


def device(name: str = "auto") -> torch.device:
    """The device of this process.

    Args:
        name: "auto" is CUDA if available, else the CPU; "cuda" is the device of the local rank.

    Raises:
        ValueError: torch has no such device, or several processes would share it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; choose auto, cpu, cuda, or cuda:0 and so on") from None
    if found.type != "cuda":
        return found
    index = int(os.environ.get("LOCAL_RANK", "0")) if found.index is None else found.index
    if index >= torch.cuda.device_count():
        raise ValueError(
            f"device is {name!r} (number {index}), but torch finds {torch.cuda.device_count()} CUDA devices; "
            "use device=cpu, or start at most one process per device"
        )
    if found.index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            f"device is {name!r}, but several processes cannot share one device; use device=cuda"
        )
    return torch.device("cuda", index)


def all_reduce_max(value: int) -> int:
    """The largest value of all processes. Every process must call it, and waits for all others."""
    if world_size() == 1:
        return value
    values = torch.tensor(value)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


def barrier() -> None:
    """Wait until every process has called this."""
    all_reduce_max(0)


def all_gather_object(value: T) -> list[T]:
    """The values of all processes, in the order of ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def all_gather_ragged(tensor: Tensor) -> Tensor:
    """The tensors (n_rank, …) of all processes, concatenated, (sum of n_rank, …), on the device of the argument.

    Raises:
        ValueError: the tensors differ in dtype or in a dimension other than the first.
    """
    if world_size() == 1:
        return tensor
    kinds = all_gather_object((tensor.dtype, tuple(tensor.shape)))
    if any((dtype, shape[1:]) != (tensor.dtype, tuple(tensor.shape[1:])) for dtype, shape in kinds):
        raise ValueError(
            f"tensors of the processes have dtypes and shapes {kinds}; they may differ only in the first dimension"
        )
    # Sent as bytes, because gloo has neither bool nor bfloat16; padded, because it gathers only equal sizes.
    row = math.prod(tensor.shape[1:]) * tensor.element_size()
    sizes = [shape[0] for _, shape in kinds]
    sent = torch.zeros(max(sizes) * row, dtype=torch.uint8, device=tensor.device)
    sent[: len(tensor) * row] = tensor.contiguous().reshape(-1).view(torch.uint8)
    received = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(received, sent)
    parts = [
        part[: size * row].view(tensor.dtype).reshape(size, *tensor.shape[1:])
        for part, size in zip(received, sizes, strict=True)
    ]
    return torch.cat(parts)


def broadcast_buffers(module: nn.Module) -> None:
    """Copy the buffers of the module on rank 0 to the modules of all other ranks."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def all_gather_equal(tensor: Tensor) -> Tensor:
    """The tensors (n, …) of all processes, concatenated, (W * n, …). Gradients flow back to each process.

    All tensors must have one shape and one dtype that the backend supports, such as float32.
    """
    if world_size() == 1:
        return tensor
    return torch.cat(dist.nn.functional.all_gather(tensor.contiguous()))


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over the ranks, without gradient; it must have the same shape in all ranks."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def all_reduce_sum(values: Mapping[str, float]) -> dict[str, float]:
    """Sums over the processes, by name, added in the order of ranks. Not every process needs to have every name."""
    total: dict[str, float] = {}
    for given in all_gather_object(dict(values)):
        for name, value in given.items():
            total[name] = total.get(name, 0) + value
    return total
