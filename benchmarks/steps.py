"""Steps of training: forward pass, backward pass, step of the optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from processor.experiment import cpu_has_bf16

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def fast_precisions(device: torch.device) -> dict[str, torch.dtype]:
    """`PRECISIONS`, without bf16 on a CPU that lacks it, where a step takes five times as long; the fastest is last."""
    slow = device.type == "cpu" and not cpu_has_bf16()
    return {name: dtype for name, dtype in PRECISIONS.items() if not (slow and dtype == torch.bfloat16)}


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The precision of a network; off for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def backward_step(network: nn.Module, loss_of: Callable[[], Tensor], dtype: torch.dtype) -> Tensor:
    """Set the gradients of a loss; returns the loss without its graph."""
    with autocast(next(network.parameters()).device, dtype):
        loss = loss_of()
    network.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach()


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Backward pass of a loss, and a step of the optimizer; returns the loss without its graph."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def sgd_step(
    method: nn.Module,
    losses_of: Callable[[Any], dict[str, Tensor]],
    make_batch: Callable[[], Any],
    dtype: torch.dtype,
) -> Callable[[], dict[str, Tensor]]:
    """A function that makes a batch and takes a step of SGD on the sum of its losses; it returns the losses."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=1e-4)

    def run() -> dict[str, Tensor]:
        batch = make_batch()
        with autocast(trained[0].device, dtype):
            losses = losses_of(batch)
        update(optimizer, torch.stack(list(losses.values())).sum())
        return losses

    return run
