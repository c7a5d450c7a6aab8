"""What evaluating a part of the data gives, and further figures of it that a config asks for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from torchlight.build import Item, Problem, build_listed

if TYPE_CHECKING:
    from feeder.loader import Loader
    from processor.processor import Processor


class Evaluation(NamedTuple):
    """Figures for the log, and arrays over the clips of a part for files."""

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]


class Evaluator:
    """Further figures of a part of the data, beside those of the task.

    figures: the names of what it gives, any of which `select_by` may name.
    falling: those that are better where they are smaller.
    """

    figures: ClassVar[tuple[str, ...]] = ()
    falling: ClassVar[tuple[str, ...]] = ()

    def evaluate(self, run: "Processor", loader: "Loader", evaluation: Evaluation) -> dict[str, float]:
        """Its figures of a part.

        Args:
            run: whose `method` is the network, in eval mode.
            loader: the clips of the part.
            evaluation: what the task found; where it gives class scores, `arrays` has `scores` (n, num_class) and
                `label` (n,), in every process those of all clips.
        """
        raise NotImplementedError


def build_evaluators(
    items: Sequence[Item], packages: Sequence[str], problems: list[Problem]
) -> list[Evaluator]:
    """The evaluators that a config lists; what is wrong is added to `problems`."""
    return build_listed("evaluators", items, {}, packages=packages, base=Evaluator, problems=problems)
