"""Fine-tuning: train a pre-trained encoder and a new head on few labels."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from feeder.feeder import Part
from net.encoder import Encoder
from net.whitening import Whitening
from processor import classification, notes
from processor.classification import SMOOTHING_RANGES, SmoothingKeys
from processor.config import RANGES, OptimConfig, ProcessorConfig, Range, TrainViewKeys, ViewConfig
from processor.encoder_weights import has_head_for, load_encoder, load_head
from processor.experiment import Experiment
from processor.features import extract_features, refuse_collapse
from processor.label_propagation import SPREAD_RANGES, SemiSupervisedConfig, start_spreading
from processor.optim import Group
from processor.processor import Processor
from processor.task import Task
from processor.whitening import WHITEN_RANGES, WhitenConfig, draw_clips
from torchlight.build import Problem


@dataclass
class FinetuneConfig(SmoothingKeys, SemiSupervisedConfig, WhitenConfig, TrainViewKeys, ProcessorConfig):
    """Keys of `finetune_evaluation`."""

    # learning rate of a pre-trained encoder; null, or without `weights`: `optim.lr`, as for the head
    encoder_lr: float | None = None
    # for `--phase test`: file of a head that was published without its encoder; `weights` then names the encoder
    head_weights: str | None = None
    # train only the head; the encoder is frozen, in eval mode
    freeze: bool = False


class FinetuneEvaluation(Task):
    """Trains the encoder of `weights` under a new head; without weights, both from scratch."""

    config_class: ClassVar[type[ProcessorConfig]] = FinetuneConfig
    model_class = Encoder
    ranges: ClassVar[tuple[Range, ...]] = (
        *RANGES,
        *SMOOTHING_RANGES,
        *SPREAD_RANGES,
        *WHITEN_RANGES,
        ("encoder_lr", lambda value: value is None or value >= 0, "0 or more, or null for optim.lr"),
    )
    config: FinetuneConfig

    def problems(self) -> list[Problem]:
        """See `Task`."""
        config, problems = self.config, []
        for key, value in (("freeze", config.freeze), ("head_weights", config.head_weights)):
            if value and config.weights is None:
                shown = "true" if value is True else value
                text = f"is {shown}, but weights is null: name an encoder's with --weights FILE"
                problems.append(Problem(key, text))
        return problems

    def views(self, part: Part) -> list[ViewConfig]:
        """See `Task`."""
        return [self.config.train_view] if part == "train" else super().views(part)

    def adapt_model(self, model: nn.Module) -> nn.Module:
        """See `Task`."""
        return classification.with_head(model, self.config.data.num_class)

    def load_weights(self, run: Experiment, path: str) -> None:
        """See `Task`; training loads only the encoder, a test loads the whole network.

        From a linear evaluation of the same classes, training loads the head too. A new random head would distort
        the pre-trained features at first (Kumar et al., ICLR 2022).
        """
        config, test, model = self.config, run.phase == "test", run.encoder
        if config.head_weights is not None and not test:
            raise ValueError(
                f"head_weights is {config.head_weights}, which is for --phase test only; training starts from a new "
                "head, or from the head of a linear evaluation: name its best.pt with --weights"
            )
        if config.head_weights is not None:
            load_encoder(model, path, ignore=config.ignore_weights)
            load_head(model, config.head_weights)
        elif test or has_head_for(config, model):
            super().load_weights(run, path)
        else:
            load_encoder(model, path, ignore=config.ignore_weights)
        model.encoder_requires_grad_(not config.freeze)

    def prepare(self, run: Processor) -> None:
        """See `Task`: propagate labels to unlabelled clips, by features of the encoder that training starts from."""
        config, model = self.config, run.encoder
        if config.weights is None:
            return
        spreading = start_spreading(run, config.spread)
        if spreading is None:
            return
        whiten = config.whiten_view
        seen = self.views("test") if whiten is None else [whiten] * config.whiten_repeat
        shown = run.shown(run.loaders["train"], seen)
        features = extract_features(model, shown, run.watch(shown), run.autocast())
        refuse_collapse(features, config.weights)
        whitening = Whitening(model.feature_dim).to(run.device)
        if whiten is None:
            whitening.standardise(features.flatten(0, 1))
        else:
            whitening.by_views(features[draw_clips(run, config, len(features))])
        spreading.spread(whitening(features.mean(1)))

    def parameter_groups(self, run: Processor, settings: OptimConfig) -> list[Group]:
        """See `Task`: one group for the encoder, one for the head."""
        head_lr, encoder_lr, model = settings.lr, self.config.encoder_lr, run.encoder
        if self.config.weights is None or encoder_lr is None:
            encoder_lr = head_lr
        return [
            Group(model.encoder_parameters(), encoder_lr, "encoder_lr"),
            Group(model.head_parameters(), head_lr),
        ]

    def train_mode(self, run: Processor) -> None:
        """See `Task`; a frozen encoder stays in eval mode."""
        run.network.train(not self.config.freeze)
        run.encoder.head.train()

    def warnings(self, run: Processor) -> list[str]:
        """See `Task`."""
        return notes.missing_losses(
            run, "start from --weights of a recognition run with these losses, or choose another model"
        )

    def result(self, run: Processor) -> dict[str, Any]:
        """See `Task`."""
        if run.phase == "test":
            return {} if self.config.head_weights is None else {"head_weights": self.config.head_weights}
        protocol = "scratch" if self.config.weights is None else "finetune"
        about = {"protocol": protocol, "weights": self.config.weights, "freeze": self.config.freeze}
        return {**about, "spread": run.targets is not None}
