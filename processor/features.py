"""Features of clips from a frozen encoder.

n clips, R views of each, D channels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from feeder.loader import Loader
from net.encoder import Encoder
from net.utils.clip import Batch
from torchlight import distributed


@torch.no_grad()
def extract_features(
    encoder: Encoder, loader: Loader, batches: Iterable[Batch], autocast: torch.autocast
) -> Tensor:
    """Features of all clips of a loader, gathered over the ranks, in the order of its feeder.

    Args:
        encoder: is put into eval mode.
        loader: does not shuffle, so that each clip comes once.
        batches: the loader's batches.
        autocast: the precision of the network.

    Returns:
        (n, R, D) float32 on the loader's device; clips that are not in `batches` have features 0.
    """
    encoder.eval()
    index = [torch.empty(0, dtype=torch.int64, device=loader.device)]
    features = [torch.empty(0, len(loader.views), encoder.feature_dim, device=loader.device)]
    for batch in batches:
        with autocast:
            of_views = [encoder.encode(clip).pool() for clip in batch.views]
        index.append(batch.index)
        features.append(torch.stack(of_views, 1).float())
    order = distributed.all_gather_ragged(torch.cat(index))
    gathered = distributed.all_gather_ragged(torch.cat(features))
    placed = gathered.new_zeros(len(loader.feeder), *gathered.shape[1:])
    return placed.index_copy_(0, order, gathered)


def refuse_collapse(features: Tensor, weights: str | None) -> None:
    """Raise ValueError if features (n, R, D) are all the same, or if one is NaN or infinite."""
    if not features.isfinite().all() or (features == features[:1, :1]).all():
        raise ValueError(
            f"the encoder of {weights} has collapsed: the features of all {len(features)} clips are the same, or some "
            "are NaN or infinite; look at train_spread in the metrics.csv of its run, and change its training"
        )
