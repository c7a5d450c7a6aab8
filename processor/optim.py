"""Optimizers, and the learning rate as a pure function of training progress."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "cosine", "constant")


class Group(NamedTuple):
    """Parameters that learn at one rate."""

    parameters: Iterable[nn.Parameter]
    lr: float
    # under which its rate is written down
    name: str = "lr"


def build_optimizer(
    groups: Sequence[Group],
    name: str,
    *,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that require a gradient.

    Every group remembers its own `base_lr`, which `set_lr` scales.
    """
    trained = [
        {
            "params": [p for p in group.parameters if p.requires_grad],
            "lr": group.lr,
            "base_lr": group.lr,
            "name": group.name,
        }
        for group in groups
    ]
    # Fused: all parameters in one go, which is 4 to 6 times as fast on a CPU.
    if name == "sgd":
        optimizer = torch.optim.SGD(
            trained, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True
        )
        # From the start, for fused steps fail where some parameters get their first gradient later than others.
        for parameter in (p for group in optimizer.param_groups for p in group["params"] if momentum > 0):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    if name == "adamw":
        return torch.optim.AdamW(trained, weight_decay=weight_decay, fused=True)
    raise ValueError(f"optimizer {name!r} is unknown; use one of {', '.join(OPTIMIZERS)}")


def lr_factor(
    progress: float,
    *,
    schedule: str,
    num_epoch: int,
    step: Sequence[int] = (),
    gamma: float = 0.1,
    warmup_epoch: float = 0,
    min_factor: float = 0.0,
) -> float:
    """Factor on the base learning rate after `progress` epochs (a fraction inside an epoch).

    Linear warm-up from 0 over `warmup_epoch`; then `step` multiplies by `gamma` at each epoch listed,
    `cosine` falls to `min_factor` at `num_epoch` (SGDR, Loshchilov and Hutter 2017, eq. 5),
    `constant` stays.

    Warm-up multiplies the schedule, so that a step inside the warm-up still counts.
    """
    warmup = min(1.0, progress / warmup_epoch) if warmup_epoch > 0 else 1.0
    if schedule == "step":
        return warmup * gamma ** sum(progress >= epoch for epoch in step)
    if schedule == "cosine":
        span = max(num_epoch - warmup_epoch, 1e-9)
        done = min(max((progress - warmup_epoch) / span, 0.0), 1.0)
        return warmup * (min_factor + (1 - min_factor) * 0.5 * (1 + math.cos(math.pi * done)))
    if schedule == "constant":
        return warmup
    raise ValueError(f"schedule {schedule!r} is unknown; use one of {', '.join(SCHEDULES)}")


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to `factor` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
