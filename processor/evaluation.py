"""The result of evaluating a part of the data, and evaluators that add metrics to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from torchlight.build import Item, Problem, build_listed

if TYPE_CHECKING:
    from feeder.loader import Loader
    from processor.processor import Processor


class Evaluation(NamedTuple):
    """Metrics for the log, and arrays over the clips of a part for files."""

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]


class Evaluator:
    """Metrics of a part of the data, in addition to the task's.

    metrics: their names; `select_by` may name any of them.
    lower_is_better: the names of those metrics for which it is.
    """

    metrics: ClassVar[tuple[str, ...]] = ()
    lower_is_better: ClassVar[tuple[str, ...]] = ()

    def evaluate(self, run: "Processor", loader: "Loader", evaluation: Evaluation) -> dict[str, float]:
        """The metrics of a part, by name.

        Args:
            run: its `method` is the network, in eval mode.
            loader: the clips of the part.
            evaluation: the task's result. For tasks with class scores, `arrays` has `scores` (n, num_class) and
                `label` (n,). Each process has them for all clips.
        """
        raise NotImplementedError


def build_evaluators(
    items: Sequence[Item], packages: Sequence[str], problems: list[Problem]
) -> list[Evaluator]:
    """The evaluators that a config lists; adds what is wrong with them to `problems`."""
    return build_listed("evaluators", items, {}, packages=packages, base=Evaluator, problems=problems)
