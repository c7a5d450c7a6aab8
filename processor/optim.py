"""Optimizers, and the learning rate as a pure function of training progress."""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from net.method import Method
from processor.config import OptimConfig
from torchlight.build import nearest

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "cosine", "constant")


class Group(NamedTuple):
    """Parameters with one learning rate."""

    parameters: Iterable[nn.Parameter]
    lr: float
    # column of `metrics.csv` for the rate
    name: str = "lr"
    # factor on `lr`, and whether weight decay acts on the parameters
    factor: float = 1.0
    decays: bool = True


def split(groups: Sequence[Group], method: Method, settings: OptimConfig) -> list[Group]:
    """Split groups so that each has one factor on its rate, and weight decay for all its parameters or for none.

    The settings give factors and weight decay for parts of the method. A group without such parts stays as it is.

    Raises ValueError: see `rate_factors`.
    """
    factors = rate_factors(method, settings)
    undecayed = set() if settings.decayed == "all" else set(method.parameters()) - layer_weights(method)
    found = []
    for group in groups:
        parts: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for parameter in group.parameters:
            parts.setdefault((factors.get(parameter, 1.0), parameter not in undecayed), []).append(parameter)
        found += [
            group._replace(parameters=parameters, factor=factor, decays=decays)
            for (factor, decays), parameters in (parts or {(1.0, True): []}).items()
        ]
    return found


def rate_factors(method: Method, settings: OptimConfig) -> dict[nn.Parameter, float]:
    """Factors on the learning rates of parameters, from the settings `layer_decay` and `lr_factor`.

    Layer k of n, counted from 0, has `layer_decay` ** (n - k), as in BEiT (Bao et al. 2022) and MAE. timm's
    `param_groups_layer_decay` finds layers by regular expressions on names; here the encoder defines them.

    Raises ValueError: the encoder defines no layers, or `lr_factor` names a part that the method does not have.
    """
    factors: dict[nn.Parameter, float] = {}
    layers = method.encoder_layers() if settings.layer_decay < 1 else []
    if settings.layer_decay < 1 and not layers:
        raise ValueError(
            f"optim.layer_decay is {settings.layer_decay}, but the encoder defines no layers; give it "
            "`layers` (see net.encoder.Encoder), or set optim.layer_decay=1"
        )
    for below, parameters in enumerate(reversed(layers), start=1):
        factors |= dict.fromkeys(parameters, settings.layer_decay**below)
    parts = method.parameter_groups()
    for name, factor in settings.lr_factor.items():
        if name not in parts:
            hint = nearest(name, parts) if parts else "it names no parts at all: leave optim.lr_factor empty"
            raise ValueError(f"optim.lr_factor.{name}: the network names no part {name!r}; {hint}")
        factors |= {each: factors.get(each, 1.0) * factor for each in parts[name]}
    return factors


def layer_weights(network: nn.Module) -> set[nn.Parameter]:
    """Parameters that torch calls weights and that have two or more dimensions, except embeddings.

    These are the matrices of linear, attention and recurrent layers and the kernels of convolutions. Norms, biases,
    position embeddings and learnt graphs are not among them.
    """
    embedded = {each.weight for each in network.modules() if isinstance(each, nn.Embedding)}
    named = ((name.rpartition(".")[2], parameter) for name, parameter in network.named_parameters())
    return {each for name, each in named if "weight" in name and each.dim() >= 2} - embedded


def build_optimizer(groups: Sequence[Group], settings: OptimConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that require a gradient.

    Each group stores its `base_lr`, which `set_lr` scales.
    """
    trained = [
        {
            "params": [p for p in group.parameters if p.requires_grad],
            "lr": group.lr * group.factor,
            "base_lr": group.lr * group.factor,
            "name": group.name,
            # Only where they have an effect: states of earlier versions do not have these keys.
            **({} if group.factor == 1 else {"factor": group.factor}),
            **({} if group.decays else {"weight_decay": 0.0}),
        }
        for group in groups
    ]
    decay = settings.weight_decay
    # Fused steps update all parameters at once, which is 4 to 6 times as fast on a CPU.
    if settings.optimizer == "sgd":
        momentum, nesterov = settings.momentum, settings.nesterov
        optimizer = torch.optim.SGD(
            trained, momentum=momentum, nesterov=nesterov, weight_decay=decay, fused=True
        )
        # Buffers from the start: fused steps fail if some parameters get their first gradient later than others.
        for parameter in (p for group in optimizer.param_groups for p in group["params"] if momentum > 0):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    if settings.optimizer == "adamw":
        first, second = settings.betas
        return torch.optim.AdamW(trained, betas=(first, second), weight_decay=decay, fused=True)
    raise ValueError(f"optimizer {settings.optimizer!r} is unknown; use one of {', '.join(OPTIMIZERS)}")


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


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The rates of the groups by name, without the factors that `split` gave them."""
    return {group["name"]: group["lr"] / group.get("factor", 1.0) for group in optimizer.param_groups}


class Step(NamedTuple):
    """The batches of one optimizer step: `size` batches of the epoch, from number `first` on."""

    first: int
    size: int

    @classmethod
    def of(cls, batch: int, *, accumulate: int, num_batch: int) -> "Step":
        """The step that batch number `batch` of `num_batch` belongs to; the last step may be smaller."""
        first = batch - batch % accumulate
        return cls(first, min(accumulate, num_batch - first))

    @property
    def middle(self) -> float:
        """Number of batches of the epoch that are done in the middle of the step."""
        return self.first + self.size / 2

    def ends_with(self, batch: int) -> bool:
        """Whether a batch is the last one of the step."""
        return batch == self.first + self.size - 1


def exchange(network: nn.Module, *, gradients: bool) -> AbstractContextManager:
    """A context for forward and backward passes.

    gradients: processes average the gradients, including those that they have accumulated before. Otherwise each
        process only accumulates its own.
    """
    if gradients or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    return network.no_sync()
