"""Linear evaluation: accuracy of one linear layer on the features of a frozen encoder."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from feeder.feeder import Part
from net.encoder import Encoder
from net.method import Method, as_method
from processor.classification import SMOOTHING_RANGES, SmoothingKeys
from processor.config import RANGES, ProcessorConfig, Range, TrainViewKeys, ViewConfig
from processor.encoder_weights import Probe, load_encoder
from processor.experiment import Experiment
from processor.features import extract_features, refuse_collapse
from processor.label_propagation import SPREAD_RANGES, SemiSupervisedConfig, start_spreading
from processor.processor import Processor
from processor.task import Task
from processor.whitening import WHITEN_RANGES, WhitenConfig, fit_whitening


@dataclass
class LinearConfig(SmoothingKeys, SemiSupervisedConfig, WhitenConfig, TrainViewKeys, ProcessorConfig):
    """Keys of `linear_evaluation`."""

    # views of a training clip whose features are used; more than one makes sense if `train_view` draws at random
    train_repeat: int = 1


class LinearEvaluation(Task):
    """Extracts the features of all clips once, then trains the layer on them."""

    config_class: ClassVar[type[ProcessorConfig]] = LinearConfig
    model_class = Encoder
    needs_weights = True
    ranges: ClassVar[tuple[Range, ...]] = (
        *RANGES,
        *SMOOTHING_RANGES,
        ("train_repeat", lambda value: value >= 1, "1 or more"),
        *SPREAD_RANGES,
        *WHITEN_RANGES,
    )
    config: LinearConfig

    def views(self, part: Part) -> list[ViewConfig]:
        """See `Task`."""
        return [self.config.train_view] if part == "train" else super().views(part)

    def adapt_model(self, model: nn.Module) -> nn.Module:
        """See `Task`; the encoder's head becomes a probe."""
        assert isinstance(model, Encoder)
        model.replace_head(Probe(model.feature_dim, self.config.data.num_class))
        return model

    def build_method(self, model: nn.Module, phase: str) -> Method:
        """See `Task`; training changes only the probe."""
        assert isinstance(model, Encoder)
        return as_method(model if phase == "test" else model.head)

    def load_weights(self, run: Experiment, path: str) -> None:
        """See `Task`; training loads only the encoder, a test loads the whole network."""
        if run.phase == "test":
            super().load_weights(run, path)
        else:
            load_encoder(run.encoder, path, ignore=self.config.ignore_weights)
            run.encoder.encoder_requires_grad_(False)

    def prepare(self, run: Processor) -> None:
        """See `Task`: extract features of all clips, and propagate labels by those of the training clips."""
        encoder = run.encoder
        assert isinstance(encoder.head, Probe)
        whitening = encoder.head.whitening
        spreading = start_spreading(run, self.config.spread)
        if self.config.whiten_view is not None:
            fit_whitening(run, self.config, whitening, encoder)
        for part, loader in run.loaders.items():
            repeat = self.config.train_repeat if part == "train" else 1
            shown = loader.with_views(loader.views * repeat, batch_size=self.config.test_batch_size)
            features = extract_features(encoder, shown, run.watch(shown), run.autocast())
            refuse_collapse(features, self.config.weights)
            run.loaders[part] = loader.with_features(features)
            if part == "train" and self.config.whiten_view is None:
                whitening.standardise(features.flatten(0, 1))
            if part == "train" and spreading is not None:
                spreading.spread(whitening(features.mean(1)))

    def result(self, run: Processor) -> dict[str, Any]:
        """See `Task`."""
        whitened = self.config.whiten_view is not None
        about = {"protocol": "linear", "weights": self.config.weights, "whitened": whitened}
        return about if run.phase == "test" else {**about, "spread": run.targets is not None}
