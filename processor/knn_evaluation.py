"""Nearest-neighbour evaluation: accuracy of an encoder's features without any further training."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from feeder.arrays import ArrayFolder
from feeder.feeder import Part
from feeder.loader import Loader
from feeder.prepared import Prepared
from net.encoder import Encoder
from net.whitening import Whitening
from processor.config import RANGES, ProcessorConfig, Range
from processor.encoder_weights import load_encoder
from processor.evaluation import Evaluation
from processor.experiment import Experiment
from processor.features import refuse_collapse
from processor.neighbours import KNN_RANGES, by_neighbours
from processor.processor import Processor
from processor.task import Task
from processor.whitening import WHITEN_RANGES, WhitenConfig, fit_whitening


@dataclass
class KnnConfig(WhitenConfig, ProcessorConfig):
    """Keys of `knn_evaluation`."""

    # number of nearest neighbours that vote
    knn_k: int = 1
    # ignored: nothing is trained
    num_epoch: int = 1


class KnnEvaluation(Task):
    """Classifies each test clip by the labelled clips whose features are nearest to its own, by cosine similarity."""

    config_class: ClassVar[type[ProcessorConfig]] = KnnConfig
    model_class = Encoder
    needs_weights = True
    trains = False
    ranges: ClassVar[tuple[Range, ...]] = (*RANGES, *KNN_RANGES, *WHITEN_RANGES)
    # not `data.label_map`: the encoder may be trained on other classes
    input_keys: ClassVar[tuple[str, ...]] = ("stream ", "test_view.normalise ", "data.num_body ")
    config: KnnConfig
    # of features; fitted in `prepare`
    whitening: Whitening | None = None

    def parts(self, source: Prepared | ArrayFolder, phase: str) -> list[Part]:
        """See `Task`."""
        return ["test", "train"]

    def load_weights(self, run: Experiment, path: str) -> None:
        """See `Task`."""
        load_encoder(run.encoder, path, ignore=self.config.ignore_weights)

    def prepare(self, run: Processor) -> None:
        """See `Task`; fits the whitening."""
        self.whitening = whitening_of(run, self.config)

    def evaluate(self, run: Processor, loader: Loader) -> Evaluation:
        """See `Task`."""
        whitening = self.whitening
        assert whitening is not None

        def change(features: Tensor) -> Tensor:
            refuse_collapse(features, self.config.weights)
            return whitening(features)

        train, k = run.loaders["train"], self.config.knn_k
        return by_neighbours(run, run.encoder, train, loader, k=k, change=change)

    def result(self, run: Processor) -> dict[str, Any]:
        """See `Task`."""
        whitened = self.config.whiten_view is not None
        return {"protocol": "knn", "knn_k": self.config.knn_k, "whitened": whitened}


def whitening_of(run: Experiment, config: KnnConfig) -> Whitening:
    """The whitening of features, fitted to training clips; the identity without `whiten_view`."""
    whitening = Whitening(run.encoder.feature_dim).to(run.device)
    if config.whiten_view is not None:
        fit_whitening(run, config, whitening, run.encoder)
    return whitening
