"""Evaluation with a running mean of the weights instead of the last ones (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def running_mean(model: nn.Module, num_step: float) -> AveragedModel:
    """An exponential mean of the weights and buffers of `model` over about `num_step` steps.

    It begins with the weights after the first step. `update_parameters(model)` goes after each step.
    """
    decay = 1 - 1 / max(num_step, 1.0)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)


@contextmanager
def in_its_place(model: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Within the context `model` has the weights of `average`; if that is None, its own."""
    if average is None:
        yield
        return
    own = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)
