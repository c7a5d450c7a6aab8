"""Accuracy of class scores: top-k, confusion, per-class table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor


def top_k_accuracy(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Share of clips whose own class is among the k highest scores.

    Shape:
        scores (N, num_class), label (N,).

    A class that ties with the clip's own counts as ranked above it, so constant scores earn nothing.
    A score that is not a number (NaN) counts as wrong.
    """
    own = np.take_along_axis(scores, label[:, None], axis=1)
    not_below = ~(scores < own)
    return float(((not_below.sum(axis=1) <= k) & ~np.isnan(own[:, 0])).mean())


def predicted_class(scores: Tensor, label: Tensor) -> Tensor:
    """The class of the highest score, (N,) int64; if the clip's own class ties with others, the first of these.

    So a tie counts as wrong, as in `top_k_accuracy`, and which class comes first does not matter.

    Shape:
        scores (N, num_class), label (N,) int64.

    A score that is not a number (NaN) ranks above the clip's own class.
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
    known: Tensor, label: Tensor, asked: Tensor, *, k: int, num_class: int, temperature: float = 0.07
) -> Tensor:
    """Class scores of clips from their k nearest known ones by cosine (Wu et al. 2018, section 3.4).

    Each neighbour votes for its class with exp(similarity / temperature), so with k = 1 its class wins.

    Shape:
        known (B, D), label (B,) int64, asked (N, D), all on one device -> (N, num_class) float32.

    k is lowered to B where there are no more known clips.
    """
    known = F.normalize(known.float(), dim=1)
    scores = [torch.empty(0, num_class, device=asked.device)]
    # In parts, for the similarities of all to all can be larger than the device's memory.
    for part in F.normalize(asked.float(), dim=1).split(4096):
        similarity, nearest = (part @ known.T).topk(min(k, len(known)), dim=1)
        votes = ((similarity - 1) / temperature).exp()
        scores.append(votes.new_zeros(len(part), num_class).scatter_add_(1, label[nearest], votes))
    return torch.cat(scores)


def confusion(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Counts (num_class, num_class): rows are true classes, columns those of `predicted_class`."""
    num_class = scores.shape[1]
    predicted = predicted_class(torch.from_numpy(scores), torch.from_numpy(label)).numpy()
    # scikit-learn's takes a second to import, in every process.
    pairs = np.bincount(label * num_class + predicted, minlength=num_class**2)
    return pairs.reshape(num_class, num_class)


def per_class_table(matrix: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """One row a class: clips, recall, precision, and the class (of equals the first) it is most mistaken for.

    Recall of a class without clips and precision of a class never predicted are empty (NaN).
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


def classification_metrics(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Top-1, top-5 and mean class accuracy, each in [0, 1].

    Shape:
        scores (N, num_class), label (N,).

    Mean class accuracy averages recall over the classes that have clips.
    """
    matrix = confusion(scores, label)
    count = matrix.sum(axis=1)
    recall = matrix.diagonal()[count > 0] / count[count > 0]
    return {
        "top1": top_k_accuracy(scores, label, 1),
        "top5": top_k_accuracy(scores, label, 5),
        "mean_class": float(recall.mean()),
    }
