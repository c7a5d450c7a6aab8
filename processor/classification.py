"""Supervised classification of clips: the loss, the metrics, and a warning if nothing is learnt."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.loader import Loader
from net.encoder import Encoder
from net.method import CROSS_ENTROPY
from net.utils.clip import Batch
from processor.config import Range
from processor.evaluation import Evaluation
from processor.metrics import classification_metrics, predicted_class
from torchlight import distributed

if TYPE_CHECKING:
    from processor.experiment import Experiment
    from processor.processor import Processor

# Near chance: the loss has fallen by less than this share of the range from chance level to its minimum.
NEAR_CHANCE = 0.1


@dataclass
class SmoothingKeys:
    """A key of tasks that train on labels."""

    # share of the target probability that is distributed evenly over all classes
    label_smoothing: float = 0.0


SMOOTHING_RANGES: tuple[Range, ...] = (
    ("label_smoothing", lambda value: 0 <= value < 1, "0 or more and below 1"),
)


def with_head(model: nn.Module, num_class: int) -> nn.Module:
    """The same network; an encoder without a head gets a linear one."""
    if isinstance(model, Encoder) and not model.has_head:
        model.replace_head(nn.Linear(model.feature_dim, num_class))
    return model


def step(run: "Processor", batch: Batch) -> dict[str, Tensor]:
    """The losses of a batch by name: only the cross-entropy."""
    output = run.network(batch, (CROSS_ENTROPY.name,))
    return {CROSS_ENTROPY.name: cross_entropy(run, output.scores, batch)}


def cross_entropy(run: "Processor", scores: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy, (), of the class scores (N, num_class) of a batch; adds the accuracy to the run's meter."""
    scores, target = _checked(run, scores, len(batch.label)).float(), target_of(run, batch)
    # The target's most probable class; of equal ones the first.
    own = target if target.dim() == 1 else target.argmax(1)
    hit = predicted_class(scores, own) == own
    # Unlabelled clips have soft labels only.
    run.meter.add("train_top1" if target.dim() == 1 else "train_agreement", hit.float().mean(), len(hit))
    return F.cross_entropy(scores, target, label_smoothing=_smoothing(run))


def _smoothing(run: "Processor") -> float:
    assert isinstance(run.config, SmoothingKeys)
    return run.config.label_smoothing


def target_of(run: "Processor", batch: Batch) -> Tensor:
    """Targets of a batch: classes (N,), or soft targets (N, num_class)."""
    return batch.label if run.targets is None else run.targets[batch.index]


def review(run: "Processor", row: Mapping[str, float]) -> None:
    """Warn, half way and at the end, if the training loss is still near chance."""
    phase = run.schedule[-1]
    done = run.epoch + 1 - phase.start
    if run.config.debug or done not in (math.ceil(phase.num_epoch / 2), phase.num_epoch):
        return
    if phase.losses and CROSS_ENTROPY.name not in phase.losses:
        return
    # With cross-entropy as the only loss, `train_loss` is its name.
    loss = row.get(f"train_{CROSS_ENTROPY.name}_loss", row.get("train_loss"))
    if loss is None:  # a run that resumes with the evaluation has no loss
        return
    loss /= phase.losses.get(CROSS_ENTROPY.name, 1.0)
    guess, least = _chance(run)
    if guess - loss < NEAR_CHANCE * (guess - least):
        run.log.info(
            f"warning: after {done} of {phase.num_epoch} epochs the training loss is {loss:.3f}, and equal scores for "
            f"all clips have {guess:.3f}: the network has learnt next to nothing. Set "
            f"optim.lr{run.whose_optim(phase)}, which is {phase.optim.lr:g}, to a tenth, then to ten times as much; "
            "if neither helps, train longer (num_epoch, min_epoch_clip), or check that labels fit their clips"
        )


def _chance(run: "Processor") -> tuple[float, float]:
    """Cross-entropy at chance level (the best scores that are equal for all clips), and its minimum.

    The first is the entropy of the mean smoothed target over the clips that an epoch draws. The second is the mean
    of the entropies of their targets.
    """
    loader, config = run.loaders["train"], run.config
    label = torch.from_numpy(loader.feeder.label)
    targets = F.one_hot(label, config.data.num_class) if run.targets is None else run.targets.cpu()
    count = label.bincount()[label] if loader.balanced else torch.ones(len(label))
    weight = (1 / count) / (1 / count).sum()
    smoothing = _smoothing(run)
    smoothed = targets * (1 - smoothing) + smoothing / config.data.num_class
    guess = torch.special.entr(weight @ smoothed).sum()
    return float(guess), float(weight @ torch.special.entr(smoothed).sum(1))


def evaluate(run: "Processor", loader: Loader) -> Evaluation:
    """Scores of all clips of a part, in the order of its feeder, and their accuracies and loss."""
    order, scores = score(run, loader)
    label = loader.feeder.label[order]
    metrics = classification_metrics(scores.numpy(), label)
    metrics["loss"] = float(F.cross_entropy(scores, torch.from_numpy(label)))
    by_clip = np.argsort(order)
    arrays = {"name": loader.feeder.name[order], "label": label, "scores": scores.numpy()}
    return Evaluation(metrics, {key: value[by_clip] for key, value in arrays.items()})


def score(run: "Experiment", loader: Loader) -> tuple[np.ndarray, Tensor]:
    """Indices of clips in the feeder (n,), and their scores (n, num_class), averaged over each clip's views."""
    index = [torch.empty(0, dtype=torch.int64, device=run.device)]
    scores = [torch.empty(0, run.config.data.num_class, device=run.device)]
    for batch in run.watch(loader):
        index.append(batch.index)
        with run.autocast():
            views = [_checked(run, run.method.scores(clip), len(batch.label)) for clip in batch.views]
        scores.append(torch.stack(views).float().mean(0))
    # Ranks hold disjoint shares of the clips.
    order = distributed.all_gather_ragged(torch.cat(index)).cpu().numpy()
    return order, distributed.all_gather_ragged(torch.cat(scores)).cpu()


def _checked(run: "Experiment", scores: Tensor, num_clip: int) -> Tensor:
    """The scores; raises ValueError if their shape is not (num_clip, num_class)."""
    if scores.shape != (num_clip, run.config.data.num_class):
        raise ValueError(
            f"{run.config.model} gives {tuple(scores.shape)} for {num_clip} clips of "
            f"{run.config.data.num_class} classes; set model_args.num_class to data.num_class"
        )
    return scores
