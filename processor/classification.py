"""What all processors share that learn class scores of clips from labels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.feeder import Part
from feeder.loader import Loader
from net.encoder import Encoder
from net.method import CROSS_ENTROPY
from net.utils.clip import Batch
from processor.config import ProcessorConfig, Range, TrainViewConfig, ViewConfig
from processor.metrics import classification_metrics, predicted_class
from processor.processor import Evaluation, Processor
from torchlight import distributed

# A training loss that has come this share of the way from a guess to its least value, or less, is near chance.
NEAR_CHANCE = 0.1


@dataclass
class ClassificationConfig(TrainViewConfig):
    """Keys of processors that train on labels, beside the shared ones."""

    # share of the label that is spread over all classes
    label_smoothing: float = 0.0


class Classification(Processor):
    """Trains a network with `forward(x (N, C, T, V, M)) -> scores (N, num_class)` by cross-entropy."""

    config_class: ClassVar[type[ProcessorConfig]] = ClassificationConfig
    ranges: ClassVar[tuple[Range, ...]] = (
        *Processor.ranges,
        ("label_smoothing", lambda value: 0 <= value < 1, "0 or more and below 1"),
    )
    config: ClassificationConfig

    def build_model(self) -> nn.Module:
        """See `Experiment.build_model`; an encoder without a head is given a linear one."""
        model = super().build_model()
        if isinstance(model, Encoder) and not model.has_head:
            model.replace_head(nn.Linear(model.feature_dim, self.config.data.num_class))
        return model

    def views(self, part: Part) -> list[ViewConfig]:
        """See `Experiment.views`."""
        return [self.config.train_view] if part == "train" else super().views(part)

    def setup(self, phase: str = "train") -> None:
        """See `Experiment.setup`."""
        super().setup(phase)
        # probabilities of classes (n, num_class) that training clips are taught, where it is not their labels
        self.targets: Tensor | None = None

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the class scores, with label smoothing."""
        return {
            CROSS_ENTROPY.name: self.cross_entropy(self.network(batch, (CROSS_ENTROPY.name,)).scores, batch)
        }

    def cross_entropy(self, scores: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the class scores (N, num_class) of a batch, (); counts the hits."""
        scores, target = self._checked(scores).float(), self.target(batch)
        # Of probabilities that tie, the first class stands for the clip.
        own = target if target.dim() == 1 else target.argmax(1)
        hit = predicted_class(scores, own) == own
        # Of clips without a label only what others say of them is known.
        self.meter.add("train_top1" if target.dim() == 1 else "train_agreement", hit.float().mean(), len(hit))
        return F.cross_entropy(scores, target, label_smoothing=self.config.label_smoothing)

    def target(self, batch: Batch) -> Tensor:
        """What the scores of a batch are to be: classes (N,), or their probabilities (N, num_class)."""
        return batch.label if self.targets is None else self.targets[batch.index]

    def review(self, row: Mapping[str, float]) -> None:
        """See `Processor.review`: warn, half way and at the end, if the training loss is still near chance."""
        phase = self.schedule[-1]
        done = self.epoch + 1 - phase.start
        if self.config.debug or done not in (math.ceil(phase.num_epoch / 2), phase.num_epoch):
            return
        if phase.losses and CROSS_ENTROPY.name not in phase.losses:
            return
        # The sum has that name where cross-entropy is all of it.
        loss = row.get(f"train_{CROSS_ENTROPY.name}_loss", row.get("train_loss"))
        if loss is None:  # the run goes on with the evaluation
            return
        loss /= phase.losses.get(CROSS_ENTROPY.name, 1.0)
        guess, least = self._chance()
        if guess - loss < NEAR_CHANCE * (guess - least):
            self.log.info(
                f"warning: after {done} of {phase.num_epoch} epochs the training loss is {loss:.3f}, and that of a "
                f"guess {guess:.3f}: the network has learnt next to nothing. Change optim.lr{self.whose_optim(phase)}, "
                f"which is {phase.optim.lr:g}, to a tenth, then to ten times as much; if neither helps, train longer "
                "(num_epoch, min_epoch_clip), or see whether labels fit their clips"
            )

    def _chance(self) -> tuple[float, float]:
        """Cross-entropy of the best scores that are equal for all clips, and of the best scores there are.

        Both are entropies of the smoothed targets, of their mean over the clips that an epoch draws and of each.
        """
        loader, config = self.loaders["train"], self.config
        label = torch.from_numpy(loader.feeder.label)
        targets = F.one_hot(label, config.data.num_class) if self.targets is None else self.targets.cpu()
        count = label.bincount()[label] if loader.balanced else torch.ones(len(label))
        weight = (1 / count) / (1 / count).sum()
        smoothing = config.label_smoothing
        smoothed = targets * (1 - smoothing) + smoothing / config.data.num_class
        guess = torch.special.entr(weight @ smoothed).sum()
        return float(guess), float(weight @ torch.special.entr(smoothed).sum(1))

    def evaluate(self, loader: Loader) -> Evaluation:
        """Scores of all clips of a part in the order of its feeder, and their worth."""
        order, scores = self.score(loader)
        label = loader.feeder.label[order]
        metrics = classification_metrics(scores.numpy(), label)
        metrics["loss"] = float(F.cross_entropy(scores, torch.from_numpy(label)))
        by_clip = np.argsort(order)
        arrays = {"name": loader.feeder.name[order], "label": label, "scores": scores.numpy()}
        return Evaluation(metrics, {key: value[by_clip] for key, value in arrays.items()})

    def score(self, loader: Loader) -> tuple[np.ndarray, Tensor]:
        """Places in the feeder (n,), and scores (n, num_class) of the clips there: the mean over a clip's views."""
        index = [torch.empty(0, dtype=torch.int64, device=self.device)]
        scores = [torch.empty(0, self.config.data.num_class, device=self.device)]
        for batch in self.watch(loader):
            index.append(batch.index)
            with self.autocast():
                views = [self._checked(self.method.scores(clip)) for clip in batch.views]
            scores.append(torch.stack(views).float().mean(0))
        # Ranks hold disjoint shares of the clips.
        order = distributed.all_gather_ragged(torch.cat(index)).cpu().numpy()
        return order, distributed.all_gather_ragged(torch.cat(scores)).cpu()

    def _checked(self, scores: Tensor) -> Tensor:
        """Class scores (N, num_class); raises ValueError where the network gives another number of classes."""
        if scores.shape[1:] != (self.config.data.num_class,):
            raise ValueError(
                f"{self.config.model} gives scores of shape {tuple(scores.shape)} for "
                f"{self.config.data.num_class} classes; set model_args.num_class to data.num_class"
            )
        return scores
