"""Action recognition: class scores of whole clips, learnt with labels, and with what else a network can learn from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from net.method import CROSS_ENTROPY
from net.utils.clip import Batch
from processor import io
from processor.classification import Classification, ClassificationConfig
from processor.config import ProcessorConfig, Range
from processor.processor import Evaluation
from processor.teaching import PairConfig, PairTeaching
from torchlight import distributed


@dataclass
class RecognitionConfig(PairConfig, ClassificationConfig):
    """Keys of `recognition` beside the shared ones."""

    # shares of a test clip after which it is classified, such as [0.1, 0.2, 0.5, 1.0]; gives a table and a curve
    observe_ratio: list[float] = field(default_factory=list)


class Recognition(PairTeaching, Classification):
    """Trains a network with `forward(x (N, C, T, V, M)) -> scores (N, num_class)` by cross-entropy, and more."""

    config_class: ClassVar[type[ProcessorConfig]] = RecognitionConfig
    ranges: ClassVar[tuple[Range, ...]] = (
        *Classification.ranges,
        (
            "observe_ratio",
            lambda values: all(0 < value <= 1 for value in values),
            "shares of a clip, above 0, up to 1",
        ),
    )
    config: RecognitionConfig

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """The losses that count in this phase, times their weights."""
        output, losses = self.learn(batch)
        if output.scores is not None:
            weight = self.phase_of(self.epoch).losses[CROSS_ENTROPY.name]
            losses[CROSS_ENTROPY.name] = weight * self.cross_entropy(output.scores, batch)
        return losses

    def examine(self, work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """See `Processor.examine`: top-1 after each share of `observe_ratio`."""
        ratios = sorted(set(self.config.observe_ratio))
        if not ratios:
            return {}
        loader = self.loaders["test"]
        judged = [evaluation if ratio == 1 else self.evaluate(loader.beginnings(ratio)) for ratio in ratios]
        top1 = [each.metrics["top1"] for each in judged]
        if distributed.is_main():
            io.save_anticipation(work_dir, ratios, top1)
        self.log.info(
            "top1 by share observed: "
            + ", ".join(f"{100 * ratio:g} % {value:.4f}" for ratio, value in zip(ratios, top1, strict=True))
        )
        return {"anticipation": {str(ratio): value for ratio, value in zip(ratios, top1, strict=True)}}
