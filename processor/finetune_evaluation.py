"""Fine-tuning: a pre-trained encoder and a new head learn from few labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from net.encoder import Encoder
from net.whitening import Whitening
from processor.classification import Classification, ClassificationConfig
from processor.config import OptimConfig, ProcessorConfig, Range
from processor.encoder import has_head_for, load_encoder, load_head
from processor.features import extract_features, refuse_collapse
from processor.optim import Group
from processor.spreading import SPREAD_RANGES, SemiSupervisedConfig, start_spreading
from processor.whitening import WHITEN_RANGES, WhitenConfig, draw_clips
from torchlight.build import Problem


@dataclass
class FinetuneConfig(ClassificationConfig, SemiSupervisedConfig, WhitenConfig):
    """Keys of `finetune_evaluation` beside those of `recognition`."""

    # learning rate of a pre-trained encoder; null, or without `weights`: that of the head, `optim.lr`
    encoder_lr: float | None = None
    # for `--phase test`: file of a head that was published without its encoder, which `weights` then gives
    head_weights: str | None = None
    # train the head alone; the encoder stays as it is, in eval mode
    freeze: bool = False


class FinetuneEvaluation(Classification):
    """Trains the encoder of `weights` under a new head; without weights, both from scratch."""

    config_class: ClassVar[type[ProcessorConfig]] = FinetuneConfig
    model_class = Encoder
    ranges: ClassVar[tuple[Range, ...]] = (
        *Classification.ranges,
        *SPREAD_RANGES,
        *WHITEN_RANGES,
        ("encoder_lr", lambda value: value is None or value >= 0, "0 or more, or null for optim.lr"),
    )
    config: FinetuneConfig
    model: Encoder

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """See `Experiment.check`."""
        assert isinstance(config, FinetuneConfig)
        problems = super().check(config, packages)
        for key, value in (("freeze", config.freeze), ("head_weights", config.head_weights)):
            if value and config.weights is None:
                shown = "true" if value is True else value
                text = f"is {shown}, but there are no weights of an encoder: name them with --weights FILE"
                problems.append(Problem(key, text))
        return problems

    def load_weights(self, path: str) -> None:
        """See `Experiment.load_weights`; training takes the encoder alone, a test the whole network.

        From a linear evaluation of the same classes training takes the head, too: what the encoder has learnt is
        then not lost while a new head is still at random (Kumar et al., ICLR 2022).
        """
        config, test = self.config, self.phase == "test"
        if config.head_weights is not None and not test:
            raise ValueError(
                f"head_weights is {config.head_weights}, which goes with --phase test; training begins with a new "
                "head, or with that of a linear evaluation whose best.pt --weights names"
            )
        if config.head_weights is not None:
            load_encoder(self.model, path, ignore=config.ignore_weights)
            load_head(self.model, config.head_weights)
        elif test or has_head_for(config, self.model):
            super().load_weights(path)
        else:
            load_encoder(self.model, path, ignore=config.ignore_weights)
        self.model.encoder_requires_grad_(not config.freeze)

    def setup(self, phase: str = "train") -> None:
        """See `Experiment.setup`; here labels spread to unlabelled clips, by the encoder that training starts from."""
        super().setup(phase)
        config = self.config
        if phase == "test" or config.weights is None:
            return
        spreading = start_spreading(self, config.spread)
        if spreading is None:
            return
        whiten = config.whiten_view
        seen = self.views("test") if whiten is None else [whiten] * config.whiten_repeat
        shown = self.shown(self.loaders["train"], seen)
        features = extract_features(self.model, shown, self.watch(shown), self.autocast())
        refuse_collapse(features, config.weights)
        whitening = Whitening(self.model.feature_dim).to(self.device)
        if whiten is None:
            whitening.standardise(features.flatten(0, 1))
        else:
            whitening.by_views(features[draw_clips(self, config, len(features))])
        spreading.teach(whitening(features.mean(1)))

    def parameter_groups(self, settings: OptimConfig) -> list[Group]:
        """See `Processor.parameter_groups`: encoder and head apart."""
        head_lr, encoder_lr = settings.lr, self.config.encoder_lr
        if self.config.weights is None or encoder_lr is None:
            encoder_lr = head_lr
        return [
            Group(self.model.encoder_parameters(), encoder_lr, "encoder_lr"),
            Group(self.model.head_parameters(), head_lr),
        ]

    def cautions(self) -> list[str]:
        """See `Processor.cautions`."""
        remedy = "begin with --weights of a recognition run that counts them, or choose another model"
        return super().cautions() + self.untaught(remedy)

    def train_mode(self) -> None:
        """See `Processor.train_mode`."""
        self.network.train(not self.config.freeze)
        self.model.head.train()

    def result(self) -> dict[str, Any]:
        """See `Processor.result`."""
        if self.phase == "test":
            return {} if self.config.head_weights is None else {"head_weights": self.config.head_weights}
        protocol = "scratch" if self.config.weights is None else "finetune"
        about = {"protocol": protocol, "weights": self.config.weights, "freeze": self.config.freeze}
        return {**about, "spread": self.targets is not None}
