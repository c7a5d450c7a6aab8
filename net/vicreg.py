"""VICReg: two views alike, without negatives (Bardes, Ponce and LeCun, ICLR 2022)."""

from collections.abc import Collection

import torch
import torch.nn.functional as F

from net.contrast import projector
from net.encoder import Encoder
from net.loss import at_least_float32, covariance_loss, variance_loss
from net.method import Loss, Method, Output
from net.utils.clip import Batch
from torchlight import distributed


class VICReg(Method):
    """Three losses on the projections of two views: equal projections, varying channels, uncorrelated channels.

    base_encoder: its head is replaced by the expander, an MLP of three layers with batch norms.
    feature_dim: channels of all layers of the expander.
    invariance, variance, covariance: weights of the three losses.

    Raises ValueError for a feature_dim below 1 or a negative weight.
    """

    LOSSES = tuple(Loss(name, num_view=2, weight=1.0) for name in ("invariance", "variance", "covariance"))

    def __init__(
        self,
        base_encoder: Encoder,
        *,
        feature_dim: int = 1024,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__()
        if feature_dim < 1:
            raise ValueError(f"feature_dim is {feature_dim}; give 1 or more")
        if min(invariance, variance, covariance) < 0:
            raise ValueError(f"weights are {invariance}, {variance}, {covariance}; give 0 or more")
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        base_encoder.replace_head(
            projector(base_encoder.feature_dim, hidden=feature_dim, out=feature_dim, num_layer=3, norm=True)
        )
        self.encoder = base_encoder

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`. The batch has two views, and at least 2 clips over all ranks."""
        first, second = (self.encoder(*view) for view in batch.views)
        with torch.autocast(first.device.type, enabled=False):
            first, second = at_least_float32(first), at_least_float32(second)
            alike = F.mse_loss(first, second)
            # Variances and covariances are over the clips of all ranks.
            batches = [distributed.all_gather_equal(each) for each in (first, second)]
            losses = {
                "invariance": self.invariance * alike,
                "variance": self.variance * torch.stack([variance_loss(each) for each in batches]).mean(),
                "covariance": self.covariance
                * torch.stack([covariance_loss(each) for each in batches]).sum(),
            }
        return Output({name: loss for name, loss in losses.items() if name in wanted}, embedding=first)
