"""What processors share that train networks of several losses: the method around the model, phases, lessons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from feeder.feeder import Part
from feeder.loader import Batch
from net.contrast import SelfSupervised
from net.multi_task import CROSS_ENTROPY, Learner, Lesson, MultiTask, Taught
from net.utils.backbone import Backbone
from processor.config import ProcessorConfig, ViewConfig
from processor.encoder import load_translated
from processor.processor import Processor
from processor.schedule import Phase, PhaseConfig, counting_losses, phases_of, schedule_problems
from torchlight import build
from torchlight.build import Problem


@dataclass
class TeachingConfig(ProcessorConfig):
    """Keys of processors that train networks of several losses, beside the shared ones."""

    # what is built around the model, such as net.long_term.LongTerm; null: the model alone
    method: str | None = None
    method_args: dict[str, Any] = field(default_factory=dict)
    # which losses count when; empty: one phase with the processor's own
    schedule: list[PhaseConfig] = field(default_factory=list)
    # losses that count in no phase, to see what they are worth; a phase of these alone is skipped
    without: list[str] = field(default_factory=list)

    def counting(self) -> set[str]:
        """Names of the losses that count in some phase of the schedule."""
        return counting_losses(self.schedule, without=self.without)


class Teaching(Processor):
    """Trains a `net.multi_task.MultiTask` by the losses of its schedule; other networks by their own loss."""

    config_class: ClassVar[type[ProcessorConfig]] = TeachingConfig
    # losses without a schedule
    default_losses: ClassVar[Mapping[str, float]] = {CROSS_ENTROPY: 1.0}
    # what a `method` must be
    method_class: ClassVar[type | tuple[type, ...]] = MultiTask
    config: TeachingConfig

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """See `Processor.check`."""
        assert isinstance(config, TeachingConfig)
        problems = super().check(config, packages)
        if config.method is not None:
            problems += build.check_class(
                "method",
                config.method,
                config.method_args,
                packages,
                base=cls.method_class,
                provided=["base_encoder"],
            )
            problems += build.check_class("model", config.model, config.model_args, packages, base=Backbone)
        if any(problem.key in ("model", "method") for problem in problems):
            return problems
        network, model = (
            build.import_class(path, packages) for path in (config.method or config.model, config.model)
        )
        losses = losses_of(network, model)
        problems += schedule_problems(config.schedule, config.num_epoch, losses, without=config.without)
        return problems + _key_problems(network, config.counting(), cls.train_views(config))

    @classmethod
    def train_views(cls, config: ProcessorConfig) -> dict[str, ViewConfig | None]:
        """The views that a training batch can have, by dotted key: what a network sees, then what it compares."""
        raise NotImplementedError

    @classmethod
    def hidden_frames(cls, config: ProcessorConfig, packages: Sequence[str]) -> dict[str, int] | None:
        """See `Processor.hidden_frames`: those that the network predicts, of training views."""
        assert isinstance(config, TeachingConfig)
        path, args = (
            (config.model, config.model_args)
            if config.method is None
            else (config.method, config.method_args)
        )
        try:
            network = build.import_class(path, packages)
        except build.ClassPathError:
            return None
        count = build.argument(network, args, "num_predict", 0) if issubclass(network, MultiTask) else 0
        return dict.fromkeys(cls.train_views(config), count)

    def network_class(self) -> type:
        """The class of what is trained: the method, or the model where there is none."""
        return build.import_class(self.config.method or self.config.model, self.packages)

    def compares(self) -> bool:
        """Whether some loss that counts compares two views of a clip."""
        return bool(self.config.counting() & set(getattr(self.network_class(), "NEED_KEY", ())))

    def phases(self) -> list[Phase]:
        """See `Processor.phases`."""
        config = self.config
        return phases_of(config.schedule, config, self.default_losses, without=config.without)

    def build_model(self) -> nn.Module:
        """The model, and the method around it."""
        model = super().build_model()
        if self.config.method is None:
            return model
        return build.build(
            self.config.method, self.config.method_args, packages=self.packages, base_encoder=model
        )

    def load_weights(self, path: str) -> None:
        """See `Processor.load_weights`; names of other programs are known, and those of an encoder alone."""
        load_translated(self.model, path, ignore=self.config.ignore_weights)

    def trained_network(self) -> nn.Module:
        """See `Processor.trained_network`."""
        return Learner(self.model) if isinstance(self.model, MultiTask) else self.model

    def varies_batch(self) -> bool:
        """See `Processor.varies_batch`."""
        model = (
            self.model.get_encoder() if isinstance(self.model, (MultiTask, SelfSupervised)) else self.model
        )
        return isinstance(model, Backbone) and model.varies_batch

    def result(self) -> dict[str, Any]:
        """See `Processor.result`."""
        return {} if self.config.method is None else {"method": self.config.method}

    def num_future(self) -> int:
        """Frames at the end of each training view that are not seen: to be predicted, or left out where nothing is."""
        if not isinstance(self.model, MultiTask):
            return 0
        needed = counting_losses(self.schedule) & set(self.model.NEED_FUTURE)
        return self.model.num_predict if needed else self.loaders["train"].views[0].num_ahead

    def teach(self, batch: Batch, label: Tensor | None) -> tuple[Taught, dict[str, Tensor]]:
        """What the network makes of a batch, and its losses times their weights; not the cross-entropy."""
        weights = self.phase_of(self.epoch).losses
        taught: Taught = self.network(lesson_of(batch.views, self.num_future(), label), tuple(weights))
        return taught, {name: weights[name] * loss for name, loss in taught.losses.items()}


@dataclass
class PairConfig(TeachingConfig):
    """Keys of processors that show a training clip once, or twice to methods that compare, beside `TeachingConfig`."""

    train_view: ViewConfig = field(default_factory=ViewConfig)
    # a second view, for methods that compare two; with `same_frames` it shows those of train_view
    key_view: ViewConfig | None = None


class PairTeaching(Teaching):
    """Teaching by a view of each clip, and a second one where the config has it."""

    config: PairConfig

    @classmethod
    def train_views(cls, config: ProcessorConfig) -> dict[str, ViewConfig | None]:
        """See `Teaching.train_views`."""
        assert isinstance(config, PairConfig)
        return {"train_view": config.train_view, "key_view": config.key_view}

    def views(self, part: Part) -> list[ViewConfig]:
        """See `Processor.views`."""
        if part != "train":
            return super().views(part)
        key = self.config.key_view if self.compares() else None
        return [self.config.train_view] if key is None else [self.config.train_view, key]


def losses_of(network: type, model: type) -> list[str]:
    """Names of the losses that a schedule can give a network, whose backbone is a `model`."""
    own = [*getattr(network, "LOSSES", ()), *getattr(model, "OWN_LOSSES", ())]
    return [CROSS_ENTROPY, *dict.fromkeys(own)]


def _key_problems(network: type, wanted: set[str], views: Mapping[str, ViewConfig | None]) -> list[Problem]:
    """What is wrong with the second view, if losses that are `wanted` compare it with the first."""
    comparing = [name for name in getattr(network, "NEED_KEY", ()) if name in wanted]
    if not comparing:
        return []
    (_, first), *others = views.items()
    key, second = others[0] if others else ("views", None)
    if second is None:
        text = f"is null; losses {', '.join(comparing)} compare two views of a clip: give a second one"
        return [Problem(key, text)]
    problems = []
    aligned = [name for name in network.NEED_SAME_FRAMES if name in wanted]  # type: ignore[attr-defined]
    if aligned and not second.same_frames:
        text = f"is false; {', '.join(aligned)} compares the same frames in two views: set it to true"
        problems.append(Problem(f"{key}.same_frames", text))
    if second.same_frames and first is not None and second.sampling != first.sampling:
        text = f"is another than {next(iter(views))}'s; the two show the same frames: make them equal"
        problems.append(Problem(f"{key}.sampling", text))
    return problems


def lesson_of(views: list[Tensor], num_future: int, label: Tensor | None) -> Lesson:
    """A lesson of views (N, C, T + P, V, M), of which the last P = `num_future` frames are the future."""
    if not num_future:
        return Lesson(views, None, label)
    seen = [view[:, :, :-num_future] for view in views]
    return Lesson(seen, views[0][:, :, -num_future:], label)
