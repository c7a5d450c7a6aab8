"""Nearest neighbours: how good an encoder is without training anything on top of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from feeder.feeder import Part
from feeder.loader import Loader
from feeder.prepared import NO_LABEL
from net.encoder import Encoder
from net.whitening import Whitening
from processor.config import ProcessorConfig, Range
from processor.encoder import load_encoder
from processor.features import extract_features, refuse_collapse
from processor.metrics import classification_metrics, knn_scores
from processor.processor import Evaluation, Processor
from processor.whitening import WHITEN_RANGES, WhitenConfig, learn_whitening

KNN_RANGES: tuple[Range, ...] = (("knn_k", lambda value: value >= 1, "1 or more"),)


@dataclass
class KnnConfig(ProcessorConfig, WhitenConfig):
    """Keys of `knn_evaluation` beside the shared ones."""

    # nearest neighbours that vote
    knn_k: int = 1
    # of no use here: nothing is trained
    num_epoch: int = 1


class KnnEvaluation(Processor):
    """Gives each test clip the class of the labelled clips nearest to it by the cosine of their features."""

    config_class: ClassVar[type[ProcessorConfig]] = KnnConfig
    model_class = Encoder
    needs_weights = True
    ranges: ClassVar[tuple[Range, ...]] = (*Processor.ranges, *KNN_RANGES, *WHITEN_RANGES)
    # the classes of the encoder's training do not matter
    input_keys: ClassVar[tuple[str, ...]] = ("stream ", "test_view.", "data.num_body ")
    config: KnnConfig
    model: Encoder

    def setup(self, phase: str = "train") -> None:
        """See `Experiment.setup`."""
        super().setup(phase)
        self.whitening = Whitening(self.model.feature_dim).to(self.device)
        if self.config.whiten_view is not None:
            learn_whitening(self, self.config, self.whitening, self.model)

    def parts(self, phase: str) -> list[Part]:
        """See `Experiment.parts`."""
        return ["test", "train"]

    def load_weights(self, path: str) -> None:
        """See `Experiment.load_weights`."""
        load_encoder(self.model, path, ignore=self.config.ignore_weights)

    def train(self, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
        """The same as `test`, for there is nothing to train, or to resume."""
        return self.test(overwrite=overwrite)

    def evaluate(self, loader: Loader) -> Evaluation:
        """See `Processor.evaluate`."""

        def change(features: Tensor) -> Tensor:
            refuse_collapse(features, self.config.weights)
            return self.whitening(features)

        train, k = self.loaders["train"], self.config.knn_k
        return by_neighbours(self, self.model, train, loader, k=k, change=change)

    def result(self) -> dict[str, Any]:
        """See `Processor.result`."""
        whitened = self.config.whiten_view is not None
        return {"protocol": "knn", "knn_k": self.config.knn_k, "whitened": whitened}


def by_neighbours(
    processor: Processor,
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
        change(extract_features(encoder, each, processor.watch(each), processor.autocast())).mean(1)
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
