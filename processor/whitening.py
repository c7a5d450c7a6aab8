"""What is done to features before they are compared or classified: standardised, or whitened by views.

n clips, R views of each, D channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from net.utils.backbone import Backbone
from processor.config import Range, ViewConfig
from processor.features import extract_features, refuse_collapse
from processor.processor import Processor
from torchlight.seed import derive_seed


@dataclass
class WhitenConfig:
    """Keys of what compares features; see `Whitening.by_views`."""

    # how clips are shown to learn what does not matter in them, labelled or not; null leaves this out. Where labels
    # spread for fine-tuning, clips are compared by the mean over these views
    whiten_view: ViewConfig | None = None
    whiten_repeat: int = 8
    # so many training clips at the most
    whiten_clip: int = 2048


WHITEN_RANGES: tuple[Range, ...] = (
    ("whiten_repeat", lambda value: value >= 2, "2 or more, so that views differ"),
    ("whiten_clip", lambda value: value >= 1, "1 or more"),
)


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


def draw_clips(processor: Processor, config: WhitenConfig, count: int) -> np.ndarray:
    """Places of the clips that whitening is learnt from, of `count` in all, in order: (at most whiten_clip,) int64."""
    rng = np.random.default_rng(derive_seed(processor.config.seed, "whitening"))
    return np.sort(rng.permutation(count)[: config.whiten_clip])


def learn_whitening(
    processor: Processor, config: WhitenConfig, whitening: Whitening, encoder: Backbone
) -> None:
    """`Whitening.by_views` of training clips, labelled or not, as the config says.

    Raises:
        ValueError: the encoder has collapsed, or views of a clip do not differ.
    """
    assert config.whiten_view is not None
    feeder = processor.feeder("train", label_fraction=1.0)
    loader = processor.loader(
        feeder.take(draw_clips(processor, config, len(feeder))),
        [config.whiten_view] * config.whiten_repeat,
        batch_size=processor.config.test_batch_size,
        shuffle=False,
    )
    features = extract_features(encoder, loader, processor.watch(loader), processor.autocast())
    refuse_collapse(features, processor.config.weights)
    whitening.by_views(features)
