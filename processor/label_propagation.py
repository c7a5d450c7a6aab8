"""Label propagation: soft targets for unlabelled clips, from similar labelled ones.

n clips, D channels of a feature, K classes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from processor.config import Range

if TYPE_CHECKING:
    from processor.processor import Processor


@dataclass
class SpreadConfig:
    """Settings of label propagation; see `propagate_labels`."""

    # number of nearest neighbours that each clip is linked to
    num_neighbour: int = 20
    # temperature of the links: similarities are divided by it
    temperature: float = 0.05
    # share of a clip's label that comes from its neighbours in each round; above 0, up to 0.99
    alpha: float = 0.9
    # the data's key of the camera: link clips of the same performance from several cameras too; null: by features only
    camera_key: Literal["camera", "view"] | None = None


@dataclass
class SemiSupervisedConfig:
    """The key of tasks that learn from few labels."""

    # train on unlabelled clips too, with propagated labels; null: on labelled clips only; ignored without `weights`
    spread: SpreadConfig | None = None


SPREAD_RANGES: tuple[Range, ...] = (
    ("spread.num_neighbour", lambda value: value >= 1, "1 or more"),
    ("spread.temperature", lambda value: value > 0, "above 0"),
    ("spread.alpha", lambda value: 0 < value <= 0.99, "above 0, up to 0.99"),
)

BALANCE_ROUNDS = 30
TOLERANCE = 1e-6
# Clips compared with all others at a time: all similarities at once may not fit into the device's memory.
PART = 4096


def propagate_labels(
    features: Tensor,
    label: Tensor,
    known: Tensor,
    *,
    num_class: int,
    num_neighbour: int,
    temperature: float,
    alpha: float,
    take: Tensor | None = None,
) -> Tensor:
    """Probabilities of classes, by label propagation between neighbours (Zhou et al., NeurIPS 2003).

    The classes keep their shares among the labelled clips, by scaling columns and rows in turn (Sinkhorn 1967).
    Otherwise classes whose clips lie densely would get clips of other classes.

    Args:
        features: (n, D), compared by their cosine.
        label: (n,) int64; ignored where not known.
        known: (n,) bool, which clips are labelled; at least one.
        num_class: K.
        num_neighbour: number of nearest clips that a clip is linked to, at most n - 1.
        temperature: a link has the weight exp((cosine - 1) / temperature).
        alpha: share of a clip's label that comes from its neighbours in each round, above 0 and below 1.
        take: (n,) int64 from 0, number of the performance that a clip shows. Clips of one performance are linked too,
            with the median weight of the links from a clip to its nearest neighbour.

    Returns:
        (n, K) float32, rows of sum 1; a clip that no label reaches has the classes' shares.

    Raises:
        ValueError: a feature is NaN or infinite.
    """
    if not features.isfinite().all():
        raise ValueError(
            "labels cannot be propagated: the encoder gives features that are NaN or infinite; use other weights"
        )
    affinity = _affinity(features, min(num_neighbour, len(features) - 1), temperature, take)
    tiny = torch.finfo(torch.float64).tiny
    scale = affinity.sum(1).to_dense().clamp(min=tiny).rsqrt()[:, None]
    share = label[known].bincount(minlength=num_class).double()
    given = torch.zeros(len(features), num_class, dtype=torch.float64, device=features.device)
    given[known] = F.one_hot(label[known], num_class) / share.clamp(min=1)
    reach = step = given
    # Each step carries labels over one more link. The sum is (1 - alpha S)^-1 times the given labels.
    while (step > TOLERANCE * reach).any():
        step = alpha * scale * (affinity @ (scale * step))
        reach = reach + step
    reached = reach.sum(1) > 0
    balanced = reach[reached]
    for _ in range(BALANCE_ROUNDS):
        balanced = balanced * (share / balanced.sum(0).clamp(min=tiny))
        balanced = balanced / balanced.sum(1, keepdim=True)
    targets = (share / share.sum()).repeat(len(features), 1)
    targets[reached] = balanced
    return targets.float()


def _affinity(features: Tensor, num_neighbour: int, temperature: float, take: Tensor | None) -> Tensor:
    """Weights of the links between clips, symmetric, 0 on the diagonal: (n, n) float64, sparse."""
    count, unit = len(features), F.normalize(features.float(), dim=1)
    place = torch.arange(count, device=features.device)
    weights, nearest = [], []
    for rows in place.split(PART):
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        similarity, neighbour = similarity.topk(num_neighbour, dim=1)
        weights.append(((similarity.double() - 1) / temperature).exp())
        nearest.append(neighbour)
    weight, neighbour = torch.cat(weights), torch.cat(nearest)
    pairs = torch.stack([place.repeat_interleave(num_neighbour), neighbour.flatten()])
    affinity = torch.sparse_coo_tensor(pairs, weight.flatten(), (count, count), check_invariants=True)
    affinity = affinity + affinity.T
    if take is not None:
        size = take.bincount()
        first, member, size = size.cumsum(0) - size, take.argsort(stable=True), size[take]
        clip = place.repeat_interleave(size)
        number = torch.arange(len(clip), device=clip.device) - (size.cumsum(0) - size)[clip]
        same = torch.stack([clip, member[first[take[clip]] + number]])
        same = same[:, same[0] != same[1]]
        closeness = 2 * weight[:, 0].median().expand(same.shape[1])
        affinity = affinity + torch.sparse_coo_tensor(same, closeness, (count, count), check_invariants=True)
    return affinity.coalesce()


class Spreading:
    """Lets a run train on all training clips, labelled or not.

    Raises:
        ValueError: the data cannot tell performances apart, or labelled clips of one performance differ in class.
    """

    def __init__(self, run: "Processor", config: SpreadConfig) -> None:
        self.run, self.config = run, config
        everything = run.feeder("train", label_fraction=1.0)
        self.known = np.isin(everything.clips, run.labelled["train"].clips)
        self.take = None if config.camera_key is None else everything.take_index(config.camera_key)
        if self.take is not None:
            label = everything.label[self.known]
            _, first, of = np.unique(self.take[self.known], return_index=True, return_inverse=True)
            if (other := np.flatnonzero(label != label[first][of])).size:
                names = everything.name[self.known]
                raise ValueError(
                    f"{names[first][of][other[0]]} and {names[other[0]]} of {everything.path} differ only in key "
                    f"{config.camera_key!r}, but have two classes; set spread.camera_key=null"
                )
        # One loader at a time: each may hold the poses of all clips on the device.
        del run.loaders["train"]
        run.loaders["train"] = run.part_loader(everything)

    def spread(self, features: Tensor) -> None:
        """Set the targets of training clips: their labels where known, else labels propagated by features (n, D)."""
        feeder, device = self.run.loaders["train"].feeder, features.device
        label, known = (torch.from_numpy(each).to(device) for each in (feeder.label, self.known))
        targets = propagate_labels(
            features,
            label,
            known,
            num_class=feeder.num_class,
            num_neighbour=self.config.num_neighbour,
            temperature=self.config.temperature,
            alpha=self.config.alpha,
            take=None if self.take is None else torch.from_numpy(self.take).to(device),
        )
        targets[known] = F.one_hot(label[known], feeder.num_class).to(targets)
        self.run.targets = targets


def start_spreading(run: "Processor", config: SpreadConfig | None) -> Spreading | None:
    """The label propagation of a run; None without the setting, or without unlabelled clips.

    Raises ValueError: `data.balanced` is true; see also `Spreading`.
    """
    if config is None or run.config.data.label_fraction == 1:
        return None
    if run.config.data.balanced:
        raise ValueError(
            "data.balanced is true, but the classes of unlabelled clips are unknown; set data.balanced=false, "
            "or spread=null"
        )
    return Spreading(run, config)
