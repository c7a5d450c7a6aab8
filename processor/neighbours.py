"""Classification of clips by their nearest labelled neighbours."""

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
    """Classify a part's clips by their k nearest labelled training clips; all are seen in the part's views.

    change: applied to features (n, R, D) before the mean over the views.
    """
    same_views = train.with_views(loader.views, batch_size=loader.batch_size)
    bank, query = (
        change(extract_features(encoder, each, run.watch(each), run.autocast())).mean(1)
        for each in (same_views, loader)
    )
    label = loader.feeder.label
    bank_label = torch.from_numpy(train.feeder.label).to(bank.device)
    labelled = bank_label != NO_LABEL
    scores = knn_scores(bank[labelled], bank_label[labelled], query, k=k, num_class=loader.feeder.num_class)
    found = scores.cpu().numpy()
    return Evaluation(
        classification_metrics(found, label), {"name": loader.feeder.name, "label": label, "scores": found}
    )
