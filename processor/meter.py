"""Metrics of an epoch: computed on the device, and read on the host without waiting in every step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchlight import distributed


@dataclass
class Meter:
    """Means of named values over the clips of an epoch; the sums stay on the device until they are read."""

    total: dict[str, Tensor] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: Tensor, count: int) -> None:
        """Add a mean over `count` clips."""
        value = value.detach().double() * count
        self.total[name] = self.total[name] + value if name in self.total else value
        self.count[name] = self.count.get(name, 0) + count

    def over_ranks(self) -> "Meter":
        """A meter with the sums over all ranks, on the host. Every rank must call it."""
        total = distributed.all_reduce_sum({name: float(value) for name, value in self.total.items()})
        count = distributed.all_reduce_sum(self.count)
        return Meter(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in total.items()},
            {name: int(value) for name, value in count.items()},
        )

    def means(self) -> dict[str, float]:
        """Means so far, over all ranks. Every rank must call it."""
        sums = self.over_ranks()
        return {name: float(value) / sums.count[name] for name, value in sums.total.items()}


@dataclass(frozen=True)
class PendingLoss:
    """A loss that is being copied from the device.

    value: (), on the host; valid after the event `arrived`, or at once if that is None.
    clips: (N,) indices in the feeder of the clips of its batch.
    """

    value: Tensor
    arrived: torch.cuda.Event | None
    clips: Tensor

    @classmethod
    def of(cls, loss: Tensor, clips: Tensor) -> "PendingLoss":
        """Start the copy of a loss () to the host, without waiting for the device."""
        if loss.device.type != "cuda":
            return cls(loss, None, clips)
        value = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(loss.device))
        return cls(value, arrived, clips)

    def wait(self) -> float:
        """Wait until the loss is on the host, but not for later work of the device; returns the loss."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.value)
