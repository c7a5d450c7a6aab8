"""What is done to features before they are compared or classified: standardised, or whitened by views.

n clips, R views of each, D channels.
"""

import torch
from torch import Tensor, nn


class Whitening(nn.Module):
    """A fixed linear map of features, (…, D) -> (…, D): (x - mean) @ basis. It begins as the identity."""

    mean: Tensor
    basis: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("basis", torch.eye(feature_dim))

    def standardise(self, features: Tensor, *, eps: float = 1e-4) -> None:
        """Mean 0 and about deviation 1 of each channel of features (n, D).

        eps: added to all variances, as a share of the largest, so that a channel that hardly changes stays small.
        """
        variance = features.var(0, correction=0)
        self.mean.copy_(features.mean(0))
        self.basis.copy_(torch.diag((variance + eps * variance.max()).rsqrt()))

    def by_views(self, features: Tensor, *, eps: float = 1e-3) -> None:
        """Make all directions alike in how far views of one clip lie apart in them; features (n, R, D).

        What changes from view to view of a clip says nothing of the action, and is shrunk. This is within-class
        covariance normalisation (Hatch et al., Interspeech 2006) with clips for classes, so it needs no label.

        Args:
            features: of n clips, R of 2 or more views each.
            eps: added to all variances, as a share of the largest.

        Raises:
            ValueError: the views of a clip do not differ.
        """
        exact = features.double()
        within = (exact - exact.mean(1, keepdim=True)).flatten(0, 1)
        variance, direction = torch.linalg.eigh(within.T @ within / len(within))
        if not variance[-1] > 0:
            raise ValueError(
                "the features of one clip's views do not differ, so they tell nothing of what to shrink; let "
                "whiten_view draw at random (RandomResizedCrop, Rotate, …), or set whiten_view=null"
            )
        basis = direction * (variance + eps * variance[-1]).rsqrt() @ direction.T
        centre = exact.mean((0, 1))
        # The size of a step of a linear layer does not depend on that of the views' differences.
        size = ((exact.flatten(0, 1) - centre) @ basis).square().mean().sqrt()
        self.mean.copy_(centre)
        self.basis.copy_(basis / size)

    def forward(self, x: Tensor) -> Tensor:
        """From features (…, D) to (…, D)."""
        return (x - self.mean) @ self.basis
