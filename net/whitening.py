"""Standardisation and whitening of features, before they are compared or classified.

n clips, R views of a clip, D channels.
"""

import torch
from torch import Tensor, nn


class Whitening(nn.Module):
    """A fixed affine map of features: (x - mean) @ basis, (…, D) -> (…, D). Initially the identity."""

    mean: Tensor
    basis: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("basis", torch.eye(feature_dim))

    def standardise(self, features: Tensor, *, eps: float = 1e-4) -> None:
        """Set the map so that each channel of features (n, D) gets mean 0 and a standard deviation of about 1.

        eps: added to all variances, as a share of the largest, so that a nearly constant channel stays small.
        """
        variance = features.var(0, correction=0)
        self.mean.copy_(features.mean(0))
        self.basis.copy_(torch.diag((variance + eps * variance.max()).rsqrt()))

    def by_views(self, features: Tensor, *, eps: float = 1e-3) -> None:
        """Set the map so that the views of one clip vary equally in all directions; features (n, R, D).

        This shrinks directions that change between views of a clip, because they say nothing about the action. It is
        within-class covariance normalisation (Hatch et al., Interspeech 2006) with clips as classes, without labels.

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
                "all views of a clip have the same features, so they cannot be whitened; use random steps in "
                "whiten_view (RandomResizedCrop, Rotate, …), or set whiten_view=null"
            )
        basis = direction * (variance + eps * variance[-1]).rsqrt() @ direction.T
        centre = exact.mean((0, 1))
        # Scale to a mean square of 1, so that a learning rate suits any scale of the differences between views.
        size = ((exact.flatten(0, 1) - centre) @ basis).square().mean().sqrt()
        self.mean.copy_(centre)
        self.basis.copy_(basis / size)

    def forward(self, x: Tensor) -> Tensor:
        """From features (…, D) to (…, D)."""
        return (x - self.mean) @ self.basis
