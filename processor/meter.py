"""Figures of an epoch that are made on the device and read on the host, without a wait in every step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchlight import distributed


@dataclass
class Meter:
    """Means of named values over the clips of an epoch; sums stay on the device until they are read."""

    total: dict[str, Tensor] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: Tensor, count: int) -> None:
        """Add a mean over `count` clips."""
        value = value.detach().double() * count
        self.total[name] = self.total[name] + value if name in self.total else value
        self.count[name] = self.count.get(name, 0) + count

    def over_ranks(self) -> "Meter":
        """The sums of all ranks, on the host. All must call it."""
        total = distributed.all_reduce_sum({name: float(value) for name, value in self.total.items()})
        count = distributed.all_reduce_sum(self.count)
        return Meter(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in total.items()},
            {name: int(value) for name, value in count.items()},
        )

    def means(self) -> dict[str, float]:
        """Means so far, over all ranks. All must call it."""
        sums = self.over_ranks()
        return {name: float(value) / sums.count[name] for name, value in sums.total.items()}


@dataclass(frozen=True)
class PendingLoss:
    """A loss on its way from the device.

    value: (), on the host, to be read once `arrived`, or at once where that is None.
    clips: (N,) places in the feeder of the clips it is of.
    """

    value: Tensor
    arrived: torch.cuda.Event | None
    clips: Tensor

    @classmethod
    def of(cls, loss: Tensor, clips: Tensor) -> "PendingLoss":
        """Send a loss () to the host without waiting for the device."""
        if loss.device.type != "cuda":
            return cls(loss, None, clips)
        value = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(loss.device))
        return cls(value, arrived, clips)

    def wait(self) -> float:
        """The loss, as soon as the device has made it; what the device does after it is not waited for."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.value)
