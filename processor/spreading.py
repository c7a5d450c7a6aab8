"""Labels spread over clips: what unlabelled ones probably show, by how near they lie to labelled ones.

n clips, D channels of a feature, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from processor.config import Range
from processor.recognition import Recognition


@dataclass
class SpreadConfig:
    """How labels spread; see `spread_labels`."""

    num_neighbour: int = 20
    temperature: float = 0.05
    alpha: float = 0.9
    # clips equal in all keys of the data but this one (`camera` of NTU, `view` of NW-UCLA) show one performance, and
    # are neighbours, too; null: such keys are not looked at
    camera_key: str | None = None


@dataclass
class SemiSupervisedConfig:
    """A key of what learns from few labels."""

    # unlabelled training clips learn along, by labels spread to them; null: training has labelled clips alone
    spread: SpreadConfig | None = None


SPREAD_RANGES: tuple[Range, ...] = (
    ("spread.num_neighbour", lambda value: value >= 1, "1 or more"),
    ("spread.temperature", lambda value: value > 0, "above 0"),
    ("spread.alpha", lambda value: 0 < value < 1, "above 0 and below 1"),
)

BALANCE_ROUNDS = 30
TOLERANCE = 1e-6


def spread_labels(
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
    """Probabilities of classes, by label spreading (Zhou et al., NeurIPS 2003) between neighbours.

    Classes get the shares that they have among the labelled clips, by scaling columns and rows in turn (Sinkhorn
    1967): without it, classes whose clips lie densely take those of others.

    Args:
        features: (n, D), compared by their cosine.
        label: (n,) int64, looked at where known.
        known: (n,) bool, which clips are labelled; one of them at the least.
        num_class: K.
        num_neighbour: how many nearest clips a clip is tied to, as far as there are.
        temperature: a tie weighs exp((cosine - 1) / temperature).
        alpha: how much of its label a clip has from its neighbours in each round, above 0 and below 1.
        take: (n,) int64 from 0; clips of one take are tied, too, as closely as most clips to their nearest.

    Returns:
        (n, K) float32, rows of sum 1; a clip that no label reaches has the classes' shares.
    """
    tie = _ties(features, min(num_neighbour, len(features) - 1), temperature, take)
    scale = tie.sum(1).to_dense().rsqrt()[:, None]
    share = label[known].bincount(minlength=num_class).double()
    given = torch.zeros(len(features), num_class, dtype=torch.float64, device=features.device)
    given[known] = F.one_hot(label[known], num_class) / share.clamp(min=1)
    spread = change = given
    # Each round adds what labels reach by one more step: the series (1 - alpha S)^-1, to its end.
    while (change > TOLERANCE * spread).any():
        change = alpha * scale * (tie @ (scale * change))
        spread = spread + change
    reached = spread.sum(1) > 0
    balanced = spread[reached]
    for _ in range(BALANCE_ROUNDS):
        balanced = balanced * (share / balanced.sum(0).clamp(min=torch.finfo(balanced.dtype).tiny))
        balanced = balanced / balanced.sum(1, keepdim=True)
    spread[~reached], spread[reached] = share / share.sum(), balanced
    return spread.float()


def _ties(features: Tensor, num_neighbour: int, temperature: float, take: Tensor | None) -> Tensor:
    """Weights of the ties between clips, symmetric, 0 on the diagonal: (n, n) float64, sparse."""
    count, unit = len(features), F.normalize(features.float(), dim=1)
    place = torch.arange(count, device=features.device)
    weights, nearest = [], []
    # In parts, for the similarities of all to all can be larger than the device's memory.
    for rows in place.split(4096):
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        similarity, neighbour = similarity.topk(num_neighbour, dim=1)
        weights.append(((similarity.double() - 1) / temperature).exp())
        nearest.append(neighbour)
    weight, neighbour = torch.cat(weights), torch.cat(nearest)
    pairs = torch.stack([place.repeat_interleave(num_neighbour), neighbour.flatten()])
    tie = torch.sparse_coo_tensor(pairs, weight.flatten(), (count, count), check_invariants=True)
    tie = tie + tie.T
    if take is not None:
        size = take.bincount()
        first, member, size = size.cumsum(0) - size, take.argsort(stable=True), size[take]
        clip = place.repeat_interleave(size)
        number = torch.arange(len(clip), device=clip.device) - (size.cumsum(0) - size)[clip]
        same = torch.stack([clip, member[first[take[clip]] + number]])
        same = same[:, same[0] != same[1]]
        closeness = 2 * weight[:, 0].median().expand(same.shape[1])
        tie = tie + torch.sparse_coo_tensor(same, closeness, (count, count), check_invariants=True)
    return tie.coalesce()


def aim_by_spreading(processor: Recognition, config: SpreadConfig, features: Tensor) -> None:
    """Teach all training clips, those of the processor's loader, by labels spread over their features (n, D).

    Raises:
        ValueError: the data does not tell takes apart by `camera_key`.
    """
    feeder, device = processor.loaders["train"].feeder, features.device
    take = None if config.camera_key is None else torch.from_numpy(feeder.takes(config.camera_key)).to(device)
    targets = spread_labels(
        features,
        torch.from_numpy(feeder.label).to(device),
        torch.from_numpy(processor.is_labelled()).to(device),
        num_class=feeder.num_class,
        num_neighbour=config.num_neighbour,
        temperature=config.temperature,
        alpha=config.alpha,
        take=take,
    )
    processor.aim_at(targets)
