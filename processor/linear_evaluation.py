"""Linear evaluation: how well one linear layer tells actions apart by the features of a frozen encoder."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from net.encoder import Encoder
from net.method import Method, as_method
from processor.classification import Classification, ClassificationConfig
from processor.config import ProcessorConfig, Range
from processor.encoder import Probe, load_encoder
from processor.features import extract_features, refuse_collapse
from processor.spreading import SPREAD_RANGES, SemiSupervisedConfig, start_spreading
from processor.whitening import WHITEN_RANGES, WhitenConfig, learn_whitening


@dataclass
class LinearConfig(ClassificationConfig, SemiSupervisedConfig, WhitenConfig):
    """Keys of `linear_evaluation` beside those of `recognition`."""

    # views of a training clip whose features are made; more than one is of use where `train_view` draws at random
    train_repeat: int = 1


class LinearEvaluation(Classification):
    """Makes the features of all clips once, then trains the layer on them."""

    config_class: ClassVar[type[ProcessorConfig]] = LinearConfig
    model_class = Encoder
    needs_weights = True
    ranges: ClassVar[tuple[Range, ...]] = (
        *Classification.ranges,
        ("train_repeat", lambda value: value >= 1, "1 or more"),
        *SPREAD_RANGES,
        *WHITEN_RANGES,
    )
    config: LinearConfig
    model: Encoder

    def build_model(self) -> nn.Module:
        """The encoder with a probe for its head."""
        model = super().build_model()
        assert isinstance(model, Encoder)
        model.replace_head(Probe(model.feature_dim, self.config.data.num_class))
        return model

    def load_weights(self, path: str) -> None:
        """See `Experiment.load_weights`; training takes the encoder alone, a test the whole network."""
        if self.phase == "test":
            super().load_weights(path)
        else:
            load_encoder(self.model, path, ignore=self.config.ignore_weights)
            self.model.encoder_requires_grad_(False)

    def build_method(self) -> Method:
        """See `Experiment.build_method`; training changes the probe alone."""
        return as_method(self.model if self.phase == "test" else self.model.head)

    def setup(self, phase: str = "train") -> None:
        """See `Experiment.setup`; features are made here."""
        super().setup(phase)
        if phase == "test":
            return
        probe = self.model.head
        assert isinstance(probe, Probe)
        spreading = start_spreading(self, self.config.spread)
        if self.config.whiten_view is not None:
            learn_whitening(self, self.config, probe.whitening, self.model)
        for part, loader in self.loaders.items():
            repeat = self.config.train_repeat if part == "train" else 1
            shown = loader.with_views(loader.views * repeat, batch_size=self.config.test_batch_size)
            features = extract_features(self.model, shown, self.watch(shown), self.autocast())
            refuse_collapse(features, self.config.weights)
            self.loaders[part] = loader.with_features(features)
            if part == "train" and self.config.whiten_view is None:
                probe.whitening.standardise(features.flatten(0, 1))
            if part == "train" and spreading is not None:
                spreading.teach(probe.whitening(features.mean(1)))

    def result(self) -> dict[str, Any]:
        """See `Processor.result`."""
        whitened = self.config.whiten_view is not None
        about = {"protocol": "linear", "weights": self.config.weights, "whitened": whitened}
        return about if self.phase == "test" else {**about, "spread": self.targets is not None}
