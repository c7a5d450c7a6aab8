"""AimCLR: contrast of normal and extreme views (Guo et al., AAAI 2022).

N clips, B bodies, D channels of a feature map, K keys in the queue.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from net.contrast import MomentumContrast
from net.encoder import Encoder
from net.loss import at_least_float32, cross_entropy_of_distributions, info_nce
from net.method import Loss, Output
from net.utils.clip import Batch, Clip


class AimCLR(MomentumContrast):
    """Momentum contrast with two more losses on an extreme view.

    The query is contrasted with the key. The extreme view is projected twice: as it is, and with its most salient
    features dropped. Both projections are trained towards the query's similarities to its key and the queue. From
    `mining_epoch` on, the keys in the queue that are nearest to any of the three projections are positives, too.

    base_encoder: see `MomentumContrast`.
    mining_epoch: the first epoch, counted from 0, in which neighbours are positives.
    mining_topk: number of neighbours of each of the three projections.
    drop_threshold: see `attention_drop`.
    Other arguments: see `MomentumContrast`.

    Raises ValueError for a mining_topk outside 1 to queue_size, and for what `MomentumContrast` refuses.
    """

    LOSSES = (
        Loss("info_nce", num_view=2, weight=1.0),
        Loss("extreme", num_view=3, weight=1.0),
        Loss("dropped", num_view=3, weight=1.0),
    )

    def __init__(
        self,
        base_encoder: Encoder,
        *,
        mining_epoch: int = 150,
        mining_topk: int = 1,
        drop_threshold: float = 0.7,
        feature_dim: int = 128,
        queue_size: int = 32768,
        momentum: float = 0.999,
        temperature: float = 0.07,
        mlp: bool = True,
    ) -> None:
        super().__init__(
            base_encoder,
            feature_dim=feature_dim,
            queue_size=queue_size,
            momentum=momentum,
            temperature=temperature,
            mlp=mlp,
        )
        if not 1 <= mining_topk <= queue_size:
            raise ValueError(f"mining_topk is {mining_topk}; give 1 to queue_size ({queue_size})")
        self.mining_epoch, self.mining_topk = mining_epoch, mining_topk
        self.drop_threshold = drop_threshold
        self.mines = False

    def start_epoch(self, epoch: int) -> None:
        """Mine neighbours from `mining_epoch` on."""
        self.mines = epoch >= self.mining_epoch

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`. The views are query, key and, where a loss needs it, an extreme view."""
        view, key_view, *extreme_view = batch.views
        query = self.encoder_q(*view)
        extreme = [each for clip in extreme_view for each in self._project_extreme(clip)]
        key = self.key(key_view)
        logits = self.logits(key, query, *extreme)
        losses = {}
        if "info_nce" in wanted:
            losses["info_nce"] = info_nce(logits[0], self.mine(logits) if self.mines else None)
        for name, of_view in zip(("extreme", "dropped"), logits[1:], strict=False):
            if name in wanted:
                losses[name] = cross_entropy_of_distributions(of_view, logits[0]) / 2
        self.enqueue(key)
        return Output(losses, embedding=query)

    def _project_extreme(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Projections (N, D) of an extreme view: as it is, and after `attention_drop`."""
        features = self.encoder_q.encode(clip)
        dropped = features.with_maps(attention_drop(features.maps(), self.drop_threshold))
        return self.encoder_q.apply_head(features.pool()), self.encoder_q.apply_head(dropped.pool())

    def mine(self, logits: list[Tensor]) -> Tensor:
        """Positives (N, 1 + K), 1 or 0: the clip's own key, and for each of `logits` its nearest keys in the queue.

        logits: each (N, 1 + K).
        """
        positive = torch.zeros_like(logits[0])
        positive[:, 0] = 1
        for each in logits:
            nearest = each[:, 1:].topk(self.mining_topk, dim=1).indices + 1
            positive.scatter_(1, nearest, 1)
        return positive


def attention_drop(maps: Tensor, threshold: float = 0.7, *, eps: float = 1e-4) -> Tensor:
    """Feature maps (B, D, T, V) with the most salient entries set to 0, and the rest scaled up as in dropout.

    An entry's attention is the sigmoid of SimAM's inverse energy (Yang et al., ICML 2021, eq. 5),
    (x - mean)^2 / (4 (variance + eps)) + 1/2, with mean and variance of its T x V map. A joint of a body is dropped if
    its attention, averaged over channels and frames, reaches `threshold`. After that, each entry is dropped whose own
    attention reaches it. As published, each of the two steps scales the whole batch by one factor.
    """
    exact = at_least_float32(maps)
    squared = (exact - exact.mean((2, 3), keepdim=True)).square()
    variance = squared.sum((2, 3), keepdim=True) / (maps.shape[2] * maps.shape[3] - 1)
    attention = torch.sigmoid(squared / (4 * (variance + eps)) + 0.5)
    for each in (attention.mean((1, 2), keepdim=True), attention):
        kept = each < threshold
        maps = maps * kept * (kept.numel() / kept.sum().clamp(min=1)).to(maps.dtype)
    return maps
