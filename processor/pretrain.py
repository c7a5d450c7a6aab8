"""Self-supervised pre-training: an encoder is learnt from views of clips whose labels are not used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from omegaconf import MISSING
from torch import Tensor, nn

from feeder.feeder import Feeder, Part
from feeder.loader import Loader
from feeder.prepared import NO_LABEL
from net.encoder import Encoder
from net.loss import spread
from net.method import CROSS_ENTROPY, Method
from net.utils.clip import Batch
from processor.config import ProcessorConfig, Range, ViewConfig
from processor.knn_evaluation import KNN_RANGES, by_neighbours
from processor.processor import Evaluation, Processor
from processor.schedule import counting_losses
from processor.teaching import Teaching, TeachingConfig, losses_in
from torchlight.build import Problem
from torchlight.checkpoint import load_weights

# A spread below this is a collapse: directions at random have 1.
COLLAPSED = 0.1


@dataclass
class PretrainConfig(TeachingConfig):
    """Keys of `pretrain` beside the shared ones."""

    # class path of the self-supervised method around `model`, such as `net.aimclr.AimCLR`
    method: str = MISSING
    # views of a clip, in the method's order; those that the method does not use are not made
    views: list[ViewConfig] = field(default_factory=list)
    # nearest neighbours whose labels evaluate the encoder
    knn_k: int = 1
    # which epoch is kept; `last`, the default, uses no labels
    select: Literal["val", "last", "test"] = "last"


class Pretrain(Teaching):
    """Trains an encoder by a method that needs no labels; nearest neighbours judge it."""

    config_class: ClassVar[type[ProcessorConfig]] = PretrainConfig
    model_class = Encoder
    needed = None
    ranges: ClassVar[tuple[Range, ...]] = (*Processor.ranges, *KNN_RANGES)
    selected_by = ("knn_top1", 1)
    config: PretrainConfig
    model: Method

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """See `Experiment.check`."""
        assert isinstance(config, PretrainConfig)
        problems = super().check(config, packages)
        if config.data.label_fraction < 1:
            text = f"is {config.data.label_fraction}; pre-training uses no labels, so it takes all clips: leave it at 1"
            problems.append(Problem("data.label_fraction", text))
        if config.data.balanced:
            text = "is true; pre-training uses no labels, so it cannot draw by class: leave it at false"
            problems.append(Problem("data.balanced", text))
        if any(problem.key in ("model", "method") for problem in problems):
            return problems
        wanted = cls.num_view(config, packages)
        if len(config.views) < wanted:
            text = f"are {len(config.views)}; {config.method} takes {wanted} views of a clip"
            problems.append(Problem("views", text))
        if not config.schedule and not cls.counting(config, packages):
            text = f"is empty; name the losses of {config.method} that are to count"
            problems.append(Problem("schedule", text))
        problems += [
            Problem(
                f"schedule.{number}.losses.{CROSS_ENTROPY.name}",
                "needs labels, which pre-training does not use",
            )
            for number, phase in enumerate(config.schedule)
            if CROSS_ENTROPY.name in counting_losses([phase], without=config.without)
        ]
        return problems

    @classmethod
    def train_views(cls, config: ProcessorConfig) -> dict[str, ViewConfig | None]:
        """See `Teaching.train_views`."""
        assert isinstance(config, PretrainConfig)
        views: list[ViewConfig | None] = [*config.views, None, None]
        return {f"views.{number}": view for number, view in enumerate(views[: max(2, len(config.views))])}

    @classmethod
    def losses_by_default(cls, config: TeachingConfig, packages: Sequence[str]) -> Mapping[str, float]:
        """See `Teaching.losses_by_default`; the method's own weights."""
        return {loss.name: loss.weight for loss in losses_in(config, packages) if loss.weight > 0}

    def views(self, part: Part) -> list[ViewConfig]:
        """See `Experiment.views`."""
        if part != "train":
            return super().views(part)
        return self.config.views[: self.num_view(self.config, self.packages)]

    def parts(self, phase: str) -> list[Part]:
        """See `Experiment.parts`; the training clips are the neighbours of the test clips.

        Where no clip of either has a label, there is no test part.

        Raises ValueError: it is needed.
        """
        parts: list[Part] = ["test", "train"] if phase == "test" else super().parts(phase)
        split = self.source.splits.get(self.config.benchmark, {})
        if all((self.source.label[clips] != NO_LABEL).any() for clips in split.values()):
            return parts
        if phase == "test" or self.config.select == "test":
            raise ValueError(
                f"benchmark {self.config.benchmark!r} of {self.source.path} has not both training and test clips with "
                "labels, so that nothing can be tested; train with select=last"
            )
        return [part for part in parts if part != "test"]

    def feeder(self, part: Part, **changes: Any) -> Feeder:
        """See `Experiment.feeder`; clips without a label train, too."""
        return super().feeder(part, **{"unlabelled": True, **changes})

    def load_weights(self, path: str) -> None:
        """See `Experiment.load_weights`; the published names of AimCLR are known."""
        encoder = self.model.encoder
        load_weights(self.model, path, ignore=self.config.ignore_weights, translate=encoder.translate)

    def setup(self, phase: str = "train") -> None:
        """See `Experiment.setup`."""
        super().setup(phase)
        self.labelled = {}

    def start_epoch(self, epoch: int) -> None:
        """See `Processor.start_epoch`."""
        self.method.start_epoch(epoch)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """The method's losses, without labels."""
        output, losses = self.learn(replace(batch, label=torch.full_like(batch.label, NO_LABEL)))
        if output.embedding is not None:
            self.meter.add("train_spread", spread(output.embedding), len(batch.label))
        return losses

    def review(self, row: Mapping[str, float]) -> None:
        """Warn of an epoch that taught nothing, or of a collapse; before the first, an encoder spreads little, too."""
        if row.get("train_loss") == 0:
            self.log.info(
                "warning: all losses were 0: the encoder has learnt nothing; clips in which nobody stays throughout "
                "teach none of the temporal signals"
            )
        if self.epoch > 0 and row.get("train_spread", 1.0) < COLLAPSED:
            self.log.info(
                f"warning: the encoder collapses: embeddings spread {row['train_spread']:.3f} of 1 (all clips look "
                "alike to it); lower optim.lr, or change the method's temperature, momentum or weights"
            )

    def evaluate(self, loader: Loader) -> Evaluation:
        """Classes of a part's clips as their nearest training clips have them."""
        encoder, train = self.model.encoder, self.loaders["train"]
        metrics, arrays = by_neighbours(
            self, encoder, train, loader, k=self.config.knn_k, change=nn.Identity()
        )
        return Evaluation({f"knn_{name}": value for name, value in metrics.items()}, arrays)

    def result(self) -> dict[str, Any]:
        """See `Processor.result`."""
        return {**super().result(), "knn_k": self.config.knn_k}
