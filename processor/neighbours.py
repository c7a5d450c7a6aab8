"""Nearest neighbours: classes of clips as their nearest labelled ones have them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from feeder.loader import Loader
from feeder.prepared import NO_LABEL
from net.encoder import Encoder
from processor.config import Range
from processor.evaluation import Evaluation
from processor.features import extract_features
from processor.metrics import classification_metrics, knn_scores

if TYPE_CHECKING:
    from processor.experiment import Experiment

KNN_RANGES: tuple[Range, ...] = (("knn_k", lambda value: value >= 1, "1 or more"),)


def by_neighbours(
    run: "Experiment",
    encoder: Encoder,
    train: Loader,
    loader: Loader,
    *,
    k: int,
    change: Callable[[Tensor], Tensor],
) -> Evaluation:
    """Classes of a part's clips as their k nearest labelled training clips have them; all seen in the part's views.

    change: what is done to features (n, R, D) before the mean over the views is taken.
    """
    bank = train.with_views(loader.views, batch_size=loader.batch_size)
    known, asked = (
        change(extract_features(encoder, each, run.watch(each), run.autocast())).mean(1)
        for each in (bank, loader)
    )
    label = loader.feeder.label
    known_label = torch.from_numpy(train.feeder.label).to(known.device)
    labelled = known_label != NO_LABEL
    scores = knn_scores(known[labelled], known_label[labelled], asked, k=k, num_class=loader.feeder.num_class)
    found = scores.cpu().numpy()
    return Evaluation(
        classification_metrics(found, label), {"name": loader.feeder.name, "label": label, "scores": found}
    )
