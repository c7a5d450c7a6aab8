"""Parts that self-supervised methods share: a projector, a momentum encoder, a queue of keys.

N clips, D channels of a projection, K keys in a queue, W ranks.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from net.encoder import Encoder
from net.loss import at_least_float32, check_temperature, similarity
from net.method import Method
from net.utils.clip import Clip
from net.utils.moved import refuse
from torchlight import distributed


def projector(width: int, *, hidden: int, out: int, num_layer: int = 2, norm: bool = False) -> nn.Sequential:
    """An MLP of `num_layer` linear layers with ReLU between them: (N, width) -> (N, out).

    norm: put a batch norm before each ReLU.
    """
    widths = [width, *[hidden] * (num_layer - 1), out]
    layers: list[nn.Module] = []
    for index in range(num_layer):
        layers.append(nn.Linear(widths[index], widths[index + 1]))
        if index + 1 < num_layer:
            layers += [nn.BatchNorm1d(hidden), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def check_momentum(momentum: float) -> None:
    """Raise ValueError if a momentum is not in 0 to 1."""
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is {momentum}; give 0 to 1")


def update_momentum(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Set the parameters of a slow copy to momentum * slow + (1 - momentum) * fast (MoCo, He et al. 2020, eq. 2)."""
    if parameters := list(slow.parameters()):
        get_ema_multi_avg_fn(momentum)(parameters, list(fast.parameters()), 0)


def next_slots(pointer: Tensor, count: int, size: int) -> Tensor:
    """The next `count` slots (count,) of a ring buffer of `size`, from `pointer` (1,), which is moved past them."""
    slots = (pointer + torch.arange(count, device=pointer.device)) % size
    pointer.copy_((pointer + count) % size)
    return slots


class MomentumContrast(Method):
    """An encoder, a momentum copy of it, and a queue of the copy's projections (MoCo, He et al. 2020).

    Parameters and buffers have the names of SkeletonCLR's and AimCLR's published weights.

    base_encoder: its head is replaced by the projector.
    feature_dim: D of the projections, which are normalised to length 1.
    queue_size: K. Of a larger batch, only the last K clips stay in the queue.
    momentum: weight of the copy's own parameters in an update; see `update_momentum`.
    temperature: divides similarities.
    mlp: the projector is an MLP of two layers; if False, one linear layer.

    Raises ValueError for sizes below 1, or a momentum or temperature out of range.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        base_encoder: Encoder,
        *,
        feature_dim: int = 128,
        queue_size: int = 32768,
        momentum: float = 0.999,
        temperature: float = 0.07,
        mlp: bool = True,
    ) -> None:
        super().__init__()
        if feature_dim < 1 or queue_size < 1:
            raise ValueError(f"feature_dim is {feature_dim}, queue_size {queue_size}; give 1 or more")
        check_momentum(momentum)
        check_temperature(temperature)
        self.momentum, self.temperature = momentum, temperature
        width = base_encoder.feature_dim
        self.register_buffer("queue", F.normalize(torch.randn(feature_dim, queue_size), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
        base_encoder.replace_head(
            projector(width, hidden=width, out=feature_dim) if mlp else nn.Linear(width, feature_dim)
        )
        self.encoder_q = base_encoder
        self.encoder_k = copy.deepcopy(base_encoder).requires_grad_(False)

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """See `Method`."""
        return self.encoder_q

    @torch.no_grad()
    def key(self, view: Clip) -> Tensor:
        """Projections (N, D) of a view by the slow copy, after one momentum update of the copy."""
        update_momentum(self.encoder_k, self.encoder_q, self.momentum)
        return F.normalize(at_least_float32(self.encoder_k(*view)), dim=1)

    def logits(self, key: Tensor, *queries: Tensor) -> list[Tensor]:
        """Similarities of projections to their keys and to the queue, over temperature: (N, 1 + K) for each query.

        key: (N, D), of length 1. queries: each (N, D).
        """
        # A copy, because the backward pass runs after the queue has changed.
        queue = self.queue.clone()
        units = [F.normalize(at_least_float32(query), dim=1) for query in queries]
        return [
            torch.cat(((unit * key).sum(1, keepdim=True), similarity(unit, queue.T)), 1) / self.temperature
            for unit in units
        ]

    @torch.no_grad()
    def enqueue(self, key: Tensor) -> None:
        """Replace the oldest keys in the queue by the keys (N, D) of all ranks."""
        key = distributed.all_gather_equal(key)[-self.queue.shape[1] :]
        self.queue.index_copy_(1, next_slots(self.queue_ptr, len(key), self.queue.shape[1]), key.T)


def __getattr__(name: str) -> None:
    refuse(__name__, name)
