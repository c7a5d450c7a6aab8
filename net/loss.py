"""Losses of self-supervised methods: pure functions, computed in float32 or float64.

N clips, D channels of an embedding, K embeddings in a queue.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """X in float32 if it has half precision; float32 and float64 stay. Any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_temperature(temperature: float) -> None:
    """Raise ValueError if a temperature, which divides similarities or logits, is not above 0."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; give more than 0")


def similarity(left: Tensor, right: Tensor) -> Tensor:
    """Dot products of embeddings (..., n, D) and (..., m, D): (..., n, m).

    Autocast is off, because it would round the products to three digits before a temperature divides them.
    """
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(-2, -1)


def info_nce(logits: Tensor, positive: Tensor | None = None) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4): the mean over clips of -log p(positive), ().

    If a clip has several positives, the mean over them, as in AimCLR's neighbour mining.

    Args:
        logits: (N, 1 + K) similarities over temperature, the key of the same clip first.
        positive: (N, 1 + K), 1 for a positive, else 0; None if only the first entry of each row is one.
    """
    log_p = F.log_softmax(at_least_float32(logits), dim=1)
    if positive is None:
        return -log_p[:, 0].mean()
    return -((log_p * positive).sum(1) / positive.sum(1)).mean()


def supervised_contrast(logits: Tensor, positive: Tensor) -> Tensor:
    """SupCon (Khosla et al. 2020, eq. 2, "out"): the mean over rows of the mean over positives of -log p, ().

    Args:
        logits: (N, K) similarities over temperature.
        positive: (N, K) bool. Rows without a positive are left out.
    """
    log_p = F.log_softmax(at_least_float32(logits), dim=1)
    count = positive.sum(1)
    of_row = -(log_p * positive).sum(1) / count.clamp(min=1)
    return of_row.sum() / (count > 0).sum().clamp(min=1)


def cross_entropy_of_distributions(logits: Tensor, target: Tensor) -> Tensor:
    """AimCLR's distributional divergence (eq. 5): the mean over rows of -sum of p(target) log p(logits), ().

    Args:
        logits: (N, 1 + K).
        target: (N, 1 + K), logits of the target distribution, without gradient.
    """
    return F.cross_entropy(at_least_float32(logits), at_least_float32(target.detach()).softmax(1))


def variance_loss(embedding: Tensor, *, goal: float = 1.0, eps: float = 1e-4) -> Tensor:
    """VICReg's variance loss (eq. 1) of embeddings (N, D): the mean over channels of max(0, goal - std), ().

    std is sqrt(variance + eps) of a channel.
    """
    std = (at_least_float32(embedding).var(0) + eps).sqrt()
    return F.relu(goal - std).mean()


def covariance_loss(embedding: Tensor) -> Tensor:
    """VICReg's covariance loss (eq. 4) of embeddings (N, D), ().

    It is the sum of the squared covariances between different channels, divided by D.
    """
    num_clip, num_channel = embedding.shape
    embedding = at_least_float32(embedding)
    centred = embedding - embedding.mean(0)
    covariance = centred.T @ centred / (num_clip - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / num_channel


def spread(embedding: Tensor) -> Tensor:
    """How evenly embeddings (N, D) cover the sphere: 1 for random directions, 0 if all are one point, ().

    It is the standard deviation of each channel of the embeddings normalised to length 1, averaged over channels,
    times sqrt(D) (SimSiam, Chen and He 2021, section 4.1).
    """
    unit = F.normalize(at_least_float32(embedding.detach()), dim=1)
    return unit.std(0, correction=0).mean() * embedding.shape[1] ** 0.5
