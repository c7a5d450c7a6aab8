"""Networks that learn from more than one loss, of which a config says which count, and how much.

N clips, C channels, T frames, P future frames, V joints, M bodies.
"""

from collections.abc import Collection
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from net.utils.backbone import Backbone
from net.utils.presence import Informed, presence

# The loss that is made of class scores; every other one has a name that the network gives it.
CROSS_ENTROPY = "cross_entropy"


class Lesson(NamedTuple):
    """What a batch of clips teaches.

    views: each (N, C, T, V, M), of the same clips in the same order.
    future: (N, C, P, V, M), the frames that follow those of the first view; None where nobody asked for them.
    label: (N,) int64 classes; None where they are not to be used.
    present: (N, M, T) bool of each view, which body is there in which frame; None to read that off the zeros.
    future_present: (N, M, P) bool, the same of the future.
    """

    views: list[Tensor]
    future: Tensor | None = None
    label: Tensor | None = None
    present: list[Tensor] | None = None
    future_present: Tensor | None = None

    def present_in(self, view: int) -> Tensor:
        """Which bodies are there in which frames of a view, (N, M, T) bool."""
        return presence(self.views[view], None if self.present is None else self.present[view])


class Taught(NamedTuple):
    """What a network makes of a lesson.

    losses: named, each ().
    scores: (N, num_class), where the cross-entropy is wanted.
    embedding: (n, E) of clips or bodies, in whose spread a collapse shows; where there is such.
    """

    losses: dict[str, Tensor]
    scores: Tensor | None = None
    embedding: Tensor | None = None


class MultiTask(Informed):
    """A network of several losses; `forward` gives class scores, as any network's does.

    A subclass gives `learn`, and the names of its losses; and where it predicts poses, `forecast` and `num_predict`.
    """

    # losses beside the cross-entropy; those of them that need a future, that predict poses from the last one seen,
    # that need a second view of the same frames, and that labels change
    LOSSES: ClassVar[tuple[str, ...]] = ()
    NEED_FUTURE: ClassVar[tuple[str, ...]] = ()
    NEED_POSES: ClassVar[tuple[str, ...]] = ()
    NEED_KEY: ClassVar[tuple[str, ...]] = ()
    USE_LABEL: ClassVar[tuple[str, ...]] = ()
    # P, frames that `forecast` gives
    num_predict: int = 0

    def get_encoder(self) -> Backbone:
        """The backbone, which evaluations take over."""
        raise NotImplementedError

    def forecast(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """The next P frames (N, C, P, V, M) of clips x (N, C, T, V, M), in which bodies are `present` (N, M, T) bool.

        Bodies that are not there in the last frame stay zero. None to read who is there off the zeros.
        """
        raise NotImplementedError

    def learn(self, lesson: Lesson, wanted: Collection[str]) -> Taught:
        """The losses that are wanted, no others; and class scores if `CROSS_ENTROPY` is."""
        raise NotImplementedError


def tasks_of(network: type) -> type[MultiTask]:
    """The class whose names of losses hold for a network: `MultiTask` itself, which names none, for a plain one."""
    return network if issubclass(network, MultiTask) else MultiTask


def nothing(network: nn.Module) -> Tensor:
    """A loss of 0, (), whose gradient is 0 for all that learns: what a batch teaches that nobody is in."""
    return 0 * torch.stack([p.sum() for p in network.parameters() if p.requires_grad]).sum()


class Learner(nn.Module):
    """Calls `learn` by `forward`, which is what `DistributedDataParallel` can wrap."""

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.model = model

    def forward(self, lesson: Lesson, wanted: Collection[str]) -> Taught:
        """See `MultiTask.learn`."""
        return self.model.learn(lesson, wanted)
