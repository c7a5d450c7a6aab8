"""Accuracy of class scores: top-k, confusion, per-class table."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

# Entry of the `action` column for all actions together.
OVERALL = "(all actions)"


def top_k_accuracy(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Share of clips whose true class is among the k highest scores.

    Shape:
        scores (N, num_class), label (N,).

    Classes that tie with the true class count as ranked above it, so constant scores have accuracy 0.
    A clip with NaN as the score of its true class counts as wrong.
    """
    own = np.take_along_axis(scores, label[:, None], axis=1)
    not_below = ~(scores < own)
    return float(((not_below.sum(axis=1) <= k) & ~np.isnan(own[:, 0])).mean())


def predicted_class(scores: Tensor, label: Tensor) -> Tensor:
    """The class of the highest score, (N,) int64; if the true class ties with others, the first of the others.

    A tie thus counts as wrong, as in `top_k_accuracy`, whatever the order of the classes.

    Shape:
        scores (N, num_class), label (N,) int64.

    A class with score NaN ranks above the true class.
    """
    num_class, own = scores.shape[1], label[:, None]
    if num_class == 1:
        return label
    others = torch.arange(num_class - 1, device=label.device).expand(len(label), -1)
    others = others + (others >= own)
    highest, place = scores.gather(1, others).max(1, keepdim=True)
    # Not `highest >= own`: that is false for NaN.
    return torch.where(highest < scores.gather(1, own), own, others.gather(1, place))[:, 0]


def knn_scores(
    bank: Tensor, label: Tensor, query: Tensor, *, k: int, num_class: int, temperature: float = 0.07
) -> Tensor:
    """Class scores of query clips from their k nearest bank clips by cosine (Wu et al. 2018, section 3.4).

    Each neighbour votes for its class with exp(similarity / temperature), so with k = 1 its class wins.

    Shape:
        bank (B, D), label (B,) int64, query (N, D), all on one device -> (N, num_class) float32.

    All B clips vote if k is larger than B.
    """
    bank = F.normalize(bank.float(), dim=1)
    scores = [torch.empty(0, num_class, device=query.device)]
    # In parts: all similarities at once may not fit into the device's memory.
    for part in F.normalize(query.float(), dim=1).split(4096):
        similarity, nearest = (part @ bank.T).topk(min(k, len(bank)), dim=1)
        votes = ((similarity - 1) / temperature).exp()
        scores.append(votes.new_zeros(len(part), num_class).scatter_add_(1, label[nearest], votes))
    return torch.cat(scores)


def confusion(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Counts (num_class, num_class): rows are true classes, columns are predicted ones, see `predicted_class`."""
    num_class = scores.shape[1]
    predicted = predicted_class(torch.from_numpy(scores), torch.from_numpy(label)).numpy()
    # Not scikit-learn's function: its import takes a second in every process.
    pairs = np.bincount(label * num_class + predicted, minlength=num_class**2)
    return pairs.reshape(num_class, num_class)


def anticipation_table(
    after: Mapping[float, Mapping[str, np.ndarray]], class_names: Sequence[str]
) -> pd.DataFrame:
    """Share of the clips recognised after each observed share: a row for each action that has clips, and overall.

    after: for each observed share the arrays `scores` (n, num_class) and `label` (n,).

    Returns:
        Columns `action`, `clips`, `observed`, `top1`. The rows of all actions come first.
    """
    rows = []
    for share, arrays in after.items():
        matrix = confusion(arrays["scores"], arrays["label"])
        count, hit = matrix.sum(axis=1), matrix.diagonal()
        rows.append((-1, OVERALL, int(count.sum()), share, hit.sum() / count.sum()))
        rows += [
            (each, class_names[each], int(count[each]), share, hit[each] / count[each])
            for each in np.flatnonzero(count)
        ]
    rows.sort(key=lambda row: row[0])
    return pd.DataFrame([row[1:] for row in rows], columns=["action", "clips", "observed", "top1"])


def per_class_table(matrix: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """One row a class: clips, recall, precision, and the class that it is most often mistaken for.

    Of equally frequent mistakes the first class is named. Recall of a class without clips and precision of a class
    that is never predicted are NaN.
    """
    count, predicted, hit = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    wrong = matrix - np.diag(hit)
    names = np.asarray(class_names, dtype=object)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "class": names,
                "clips": count,
                "recall": hit / count,
                "precision": hit / predicted,
                "most_often_mistaken_for": np.where(wrong.max(axis=1) > 0, names[wrong.argmax(axis=1)], ""),
                "times": wrong.max(axis=1),
            }
        )


def mean_class_accuracy(scores: np.ndarray, label: np.ndarray) -> float:
    """Recall, averaged over the classes that have clips; also called balanced accuracy."""
    matrix = confusion(scores, label)
    count = matrix.sum(axis=1)
    return float((matrix.diagonal()[count > 0] / count[count > 0]).mean())


# Metrics in [0, 1] of class scores (N, num_class) and labels (N,); larger is better.
CLASSIFICATION_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": partial(top_k_accuracy, k=1),
    "top5": partial(top_k_accuracy, k=5),
    "mean_class": mean_class_accuracy,
}


def classification_metrics(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """All of `CLASSIFICATION_METRICS`, of class scores (N, num_class) and labels (N,)."""
    return {name: metric(scores, label) for name, metric in CLASSIFICATION_METRICS.items()}
