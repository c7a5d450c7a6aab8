"""Clips in memory, handed to a method as a loader hands them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from net.method import Loss, Output, as_method
from net.utils.clip import Batch, Clip


class Given(NamedTuple):
    """Views (N, C, T, V, M), future (N, C, P, V, M), label (N,), and who is there; if nobody says so, by the zeros."""

    views: list[Tensor]
    future: Tensor | None = None
    label: Tensor | None = None
    present: list[Tensor] | None = None
    future_present: Tensor | None = None

    def batch(self) -> Batch:
        """The same as a batch; without labels these are -1."""
        clip = torch.arange(len(self.views[0]), device=self.views[0].device)
        present = self.present or [None] * len(self.views)
        return Batch(
            [Clip.of(*each) for each in zip(self.views, present, strict=True)],
            None if self.future is None else Clip.of(self.future, self.future_present),
            torch.full_like(clip, -1) if self.label is None else self.label,
            clip,
            torch.full_like(clip, self.views[0].shape[4]),
        )


def names_of(losses: Iterable[Loss]) -> tuple[str, ...]:
    """Names of losses."""
    return tuple(loss.name for loss in losses)


def learn(network: nn.Module, given: Given, wanted: Iterable[str] | None = None) -> Output:
    """What the method of a network makes of a batch; None for all its losses."""
    method = as_method(network)
    return method(given.batch(), names_of(method.LOSSES) if wanted is None else tuple(wanted))


def forecast(network: nn.Module, x: Tensor, present: Tensor | None = None) -> Tensor:
    """The poses that a network predicts after clips."""
    return as_method(network).forecast(Clip.of(x, present))


def scores(network: nn.Module, x: Tensor, present: Tensor | None = None) -> Tensor:
    """The class scores of clips."""
    return as_method(network).scores(Clip.of(x, present))
