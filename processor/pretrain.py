"""Self-supervised pre-training: train an encoder on views of clips, without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from omegaconf import MISSING
from torch import Tensor, nn

from feeder.arrays import ArrayFolder
from feeder.feeder import Feeder, Part
from feeder.loader import Loader
from feeder.prepared import NO_LABEL, Prepared
from net.encoder import Encoder
from net.loss import spread
from net.method import CROSS_ENTROPY
from net.utils.clip import Batch
from processor.config import RANGES, ProcessorConfig, Range, ViewConfig
from processor.evaluation import Evaluation
from processor.experiment import Experiment
from processor.loss_plan import LossPlan, MethodKeys
from processor.metrics import CLASSIFICATION_METRICS
from processor.neighbours import KNN_RANGES, by_neighbours
from processor.processor import Processor
from processor.schedule import active_losses
from processor.task import Task
from torchlight.build import ClassPathError, Problem
from torchlight.checkpoint import load_weights

# Embeddings with a spread below this have collapsed; random directions have 1.
COLLAPSED = 0.1


@dataclass
class PretrainConfig(MethodKeys, ProcessorConfig):
    """Keys of `pretrain`."""

    # class path of the method around `model`, such as `net.aimclr.AimCLR`
    method: str = MISSING
    # views of a clip, in the method's order; views that the method does not use are not computed
    views: list[ViewConfig] = field(default_factory=list)
    # number of nearest neighbours that vote in the evaluation of the encoder
    knn_k: int = 1
    # part of the data that selects the best epoch; `last` keeps the last epoch and uses no labels
    select: Literal["val", "last", "test"] = "last"


class Pretrain(Task):
    """Trains an encoder by a method that needs no labels; evaluates it by nearest neighbours."""

    config_class: ClassVar[type[ProcessorConfig]] = PretrainConfig
    model_class = Encoder
    ranges: ClassVar[tuple[Range, ...]] = (*RANGES, *KNN_RANGES)
    metrics = tuple(f"knn_{name}" for name in CLASSIFICATION_METRICS)
    names_actions = False
    config: PretrainConfig
    plan: LossPlan

    def __init__(self, config: ProcessorConfig, packages: Sequence[str]) -> None:
        super().__init__(config, packages)
        views: list[ViewConfig | None] = [*self.config.views, None, None]
        shown = views[: max(2, len(self.config.views))]
        named = {f"views.{number}": view for number, view in enumerate(shown)}
        self.plan = LossPlan(config, packages, default=None, needed=None, views=named)

    def problems(self) -> list[Problem]:
        """See `Task`."""
        config, problems = self.config, super().problems()
        if config.data.label_fraction < 1:
            text = (
                f"is {config.data.label_fraction}; pre-training uses all clips, without labels: leave it at 1"
            )
            problems.append(Problem("data.label_fraction", text))
        if config.data.balanced:
            text = "is true; pre-training uses no labels, so it cannot draw by class: leave it at false"
            problems.append(Problem("data.balanced", text))
        if any(problem.key in ("model", "method") for problem in problems):
            return problems
        try:
            active = self.plan.active
        except ClassPathError:  # reported by `check_class`
            return problems
        if not config.schedule and not active:
            text = f"is empty; give losses of {config.method} a weight"
            problems.append(Problem("schedule", text))
        problems += [
            Problem(
                f"schedule.{number}.losses.{CROSS_ENTROPY.name}",
                "needs labels, which pre-training does not use",
            )
            for number, phase in enumerate(config.schedule)
            if CROSS_ENTROPY.name in active_losses([phase], without=config.without)
        ]
        return problems

    def parts(self, source: Prepared | ArrayFolder, phase: str) -> list[Part]:
        """See `Task`; a test needs the training clips as neighbours.

        Without labels in the training or test clips there is no test part.

        Raises ValueError: the phase or `select` needs a test part, and there is none.
        """
        parts: list[Part] = ["test", "train"] if phase == "test" else super().parts(source, phase)
        split = source.splits.get(self.config.benchmark, {})
        if all((source.label[clips] != NO_LABEL).any() for clips in split.values()):
            return parts
        if phase == "test" or self.config.select == "test":
            raise ValueError(
                f"benchmark {self.config.benchmark!r} of {source.path} has no labels in its training clips, its test "
                "clips or both, so that nothing can be tested; train with select=last"
            )
        return [part for part in parts if part != "test"]

    def feeder(self, run: Experiment, part: Part, **changes: Any) -> Feeder:
        """See `Task`; includes clips without a label."""
        return super().feeder(run, part, **{"unlabelled": True, **changes})

    def load_weights(self, run: Experiment, path: str) -> None:
        """See `Task`; also loads weights under AimCLR's published names, and those that the method translates."""
        translate = self.build_method(run.model, run.phase).translate
        load_weights(run.model, path, ignore=self.config.ignore_weights, translate=translate)

    def opened(self, run: Experiment) -> None:
        """See `Task`; no label is used."""
        run.labelled = {}

    def start_epoch(self, run: Processor, epoch: int) -> None:
        """See `Task`."""
        run.method.start_epoch(epoch)

    def step(self, run: Processor, batch: Batch) -> dict[str, Tensor]:
        """The method's losses, without labels."""
        unlabelled = replace(batch, label=torch.full_like(batch.label, NO_LABEL))
        output, losses = self.plan.learn(run, unlabelled)
        if output.embedding is not None:
            run.meter.add("train_spread", spread(output.embedding), len(batch.label))
        return losses

    def review(self, run: Processor, row: Mapping[str, float]) -> None:
        """Warn if all losses of an epoch were 0, and of a collapse (from the second epoch on)."""
        if row.get("train_loss") == 0:
            run.log.info(
                "warning: all losses were 0: the encoder has learnt nothing. Temporal losses need clips in which a "
                "body is present in all frames. For masked methods, mask_ratio must hide a token of each body"
            )
        if run.epoch > 0 and row.get("train_spread", 1.0) < COLLAPSED:
            run.log.info(
                f"warning: the encoder collapses: the spread of its embeddings is {row['train_spread']:.3f} of 1 (they "
                "are nearly equal); lower optim.lr, or change the method's temperature, momentum or weights"
            )

    def evaluate(self, run: Processor, loader: Loader) -> Evaluation:
        """Classify a part's clips by their nearest training clips."""
        metrics, arrays = by_neighbours(
            run,
            run.method.encoder,
            run.loaders["train"],
            loader,
            k=self.config.knn_k,
            change=nn.Identity(),
        )
        return Evaluation({f"knn_{name}": value for name, value in metrics.items()}, arrays)

    def result(self, run: Processor) -> dict[str, Any]:
        """See `Task`."""
        return {**super().result(run), "knn_k": self.config.knn_k}
