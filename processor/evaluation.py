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


def metrics_of(
    evaluator: Evaluator, run: "Processor", loader: "Loader", evaluation: Evaluation
) -> dict[str, float]:
    """The metrics that an evaluator gives of a part.

    Raises ValueError: they are not those that it declares, or one is not a number.
    """
    found, name = evaluator.evaluate(run, loader, evaluation), type(evaluator).__qualname__
    if set(found) != set(evaluator.metrics):
        raise ValueError(
            f"evaluator {name} gives {', '.join(found) or 'nothing'}, but declares the metrics "
            f"{', '.join(evaluator.metrics) or 'nothing'}; make them equal"
        )
    try:
        return {key: float(value) for key, value in found.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"evaluator {name} gives a metric that is not a number: {error}") from None


def build_evaluators(
    items: Sequence[Item], packages: Sequence[str], problems: list[Problem]
) -> list[Evaluator]:
    """The evaluators that a config lists; adds what is wrong with them to `problems`."""
    return build_listed("evaluators", items, {}, packages=packages, base=Evaluator, problems=problems)
