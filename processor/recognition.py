"""Action recognition: train class scores of whole clips by labels, and by further losses of the network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from net.method import CROSS_ENTROPY
from net.utils.clip import Batch
from processor import classification, io
from processor.classification import SMOOTHING_RANGES, SmoothingKeys
from processor.config import RANGES, ProcessorConfig, Range, TrainViewKeys
from processor.evaluation import Evaluation
from processor.loss_plan import KeyViewKeys, LossPlan, MethodKeys, pair_of_views
from processor.metrics import anticipation_table
from processor.processor import Processor
from processor.task import Task
from torchlight import distributed


@dataclass
class RecognitionConfig(SmoothingKeys, KeyViewKeys, TrainViewKeys, MethodKeys, ProcessorConfig):
    """Keys of `recognition`."""

    # shares of a test clip after which it is classified too, such as [0.1, 0.2, 0.5, 1.0]; writes a table and a curve
    observe_ratio: list[float] = field(default_factory=list)


class Recognition(Task):
    """Trains class scores by cross-entropy, together with further losses of the network."""

    config_class: ClassVar[type[ProcessorConfig]] = RecognitionConfig
    ranges: ClassVar[tuple[Range, ...]] = (
        *RANGES,
        *SMOOTHING_RANGES,
        (
            "observe_ratio",
            lambda values: all(0 < value <= 1 for value in values),
            "shares of a clip, above 0, up to 1",
        ),
    )
    config: RecognitionConfig
    plan: LossPlan

    def __init__(self, config: ProcessorConfig, packages: Sequence[str]) -> None:
        super().__init__(config, packages)
        self.plan = LossPlan(
            config,
            packages,
            default={CROSS_ENTROPY.name: 1.0},
            needed=CROSS_ENTROPY.name,
            views=pair_of_views(config),
        )

    def adapt_model(self, model: nn.Module) -> nn.Module:
        """See `Task`."""
        return classification.with_head(model, self.config.data.num_class)

    def step(self, run: Processor, batch: Batch) -> dict[str, Tensor]:
        """The active losses of this phase, times their weights."""
        output, losses = self.plan.learn(run, batch)
        if output.scores is not None:
            weight = run.phase_of(run.epoch).losses[CROSS_ENTROPY.name]
            losses[CROSS_ENTROPY.name] = weight * classification.cross_entropy(run, output.scores, batch)
        return losses

    def examine(self, run: Processor, work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """See `Task`; top-1 after each share of `observe_ratio`."""
        ratios = sorted(set(self.config.observe_ratio))
        if not ratios:
            return {}
        loader = run.loaders["test"]
        evaluations = [
            evaluation if ratio == 1 else self.evaluate(run, loader.beginnings(ratio)) for ratio in ratios
        ]
        top1 = [each.metrics["top1"] for each in evaluations]
        if distributed.is_main():
            table = anticipation_table(
                dict(zip(ratios, (each.arrays for each in evaluations), strict=True)), run.class_names
            )
            io.save_anticipation(work_dir, table)
        run.log.info(
            "top1 by share observed: "
            + ", ".join(f"{100 * ratio:g} % {value:.4f}" for ratio, value in zip(ratios, top1, strict=True))
        )
        return {"anticipation": {str(ratio): value for ratio, value in zip(ratios, top1, strict=True)}}
