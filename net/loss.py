"""Losses of self-supervised methods: pure functions, in float32 at the least.

N clips, D channels of an embedding, K embeddings in a queue.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision made float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def similarity(left: Tensor, right: Tensor) -> Tensor:
    """Products of embeddings (..., n, D) and (..., m, D): (..., n, m).

    Under autocast they would be rounded to three digits before they are divided by a temperature.
    """
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(-2, -1)


def info_nce(logits: Tensor, positive: Tensor | None = None) -> Tensor:
    """Mean over clips of -log p(positives): InfoNCE (van den Oord et al. 2018, eq. 4), () from logits.

    With several positives of a clip, the mean over them, as AimCLR takes it when it mines neighbours.

    Args:
        logits: (N, 1 + K) similarities over temperature, the key of the same clip first.
        positive: (N, 1 + K), 1 where an entry is a positive, else 0; None for the first alone.
    """
    log_p = F.log_softmax(at_least_float32(logits), dim=1)
    if positive is None:
        return -log_p[:, 0].mean()
    return -((log_p * positive).sum(1) / positive.sum(1)).mean()


def supervised_contrast(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows of the mean over positives of -log p: SupCon (Khosla et al. 2020, eq. 2, "out"), ().

    Args:
        logits: (N, K) similarities over temperature.
        positive: (N, K) bool; rows without any positive do not count.
    """
    log_p = F.log_softmax(at_least_float32(logits), dim=1)
    count = positive.sum(1)
    of_row = -(log_p * positive).sum(1) / count.clamp(min=1)
    return of_row.sum() / (count > 0).sum().clamp(min=1)


def cross_entropy_of_distributions(logits: Tensor, target: Tensor) -> Tensor:
    """-sum of p(target) log p(logits), mean over rows: AimCLR's distributional divergence (eq. 5), ().

    Args:
        logits: (N, 1 + K).
        target: (N, 1 + K) logits of the distribution to come near to; no gradient goes into them.
    """
    return F.cross_entropy(at_least_float32(logits), at_least_float32(target.detach()).softmax(1))


def variance_loss(embedding: Tensor, *, goal: float = 1.0, eps: float = 1e-4) -> Tensor:
    """How far the deviation of each channel of (N, D) falls short of `goal`, mean: VICReg's eq. 1, ()."""
    deviation = (at_least_float32(embedding).var(0) + eps).sqrt()
    return F.relu(goal - deviation).mean()


def covariance_loss(embedding: Tensor) -> Tensor:
    """Sum of the squared covariances between different channels of (N, D), over D: VICReg's eq. 4, ()."""
    num_clip, num_channel = embedding.shape
    embedding = at_least_float32(embedding)
    centred = embedding - embedding.mean(0)
    covariance = centred.T @ centred / (num_clip - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / num_channel


def spread(embedding: Tensor) -> Tensor:
    """How evenly embeddings (N, D) cover the sphere: 1 for directions at random, 0 if all are one point, ().

    The deviation of each channel of the normalised embeddings, mean over channels, times sqrt(D)
    (SimSiam, Chen and He 2021, section 4.1).
    """
    unit = F.normalize(at_least_float32(embedding.detach()), dim=1)
    return unit.std(0, correction=0).mean() * embedding.shape[1] ** 0.5
