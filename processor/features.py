"""Features of clips by a frozen encoder.

n clips, R views of each, D channels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from feeder.loader import Batch, Loader
from net.utils.backbone import Backbone
from torchlight import distributed


@torch.no_grad()
def embed_views(
    encoder: Backbone, batches: Iterable[Batch], autocast: torch.autocast
) -> tuple[Tensor, Tensor]:
    """Features of the clips of some batches, gathered over the ranks.

    Args:
        encoder: put into eval mode.
        batches: one or more on each rank, of R views.
        autocast: the precision of the network.

    Returns:
        Places of the clips in their feeder, (n,) int64, and features (n, R, D) float32.
    """
    encoder.eval()
    index, features = [], []
    for batch in batches:
        with autocast:
            of_views = [encoder.embed(view) for view in batch.views]
        index.append(batch.index)
        features.append(torch.stack(of_views, 1).float())
    return distributed.all_gather_ragged(torch.cat(index)), distributed.all_gather_ragged(torch.cat(features))


def extract_features(
    encoder: Backbone, loader: Loader, batches: Iterable[Batch], autocast: torch.autocast
) -> Tensor:
    """Features (n, R, D), float32, of all n clips of a loader that does not shuffle, in the order of its feeder.

    `batches` are the loader's; clips that they leave out have features 0.
    """
    index, features = embed_views(encoder, batches, autocast)
    placed = features.new_zeros(len(loader.feeder), *features.shape[1:])
    return placed.index_copy_(0, index, features)
