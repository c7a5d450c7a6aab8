"""What processors share that train networks of several losses: the method around the model, phases, lessons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from feeder.feeder import Part
from feeder.streams import MOVING
from net.encoder import Encoder
from net.future import beside_first
from net.method import (
    CROSS_ENTROPY,
    FUTURE,
    POSES,
    SAME_FRAMES,
    Loss,
    Method,
    Output,
    as_method,
    losses_of,
    method_class,
)
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton
from processor.config import ProcessorConfig, TrainViewConfig, ViewConfig
from processor.experiment import channel_problems, layout_problems, view_of
from processor.processor import Processor
from processor.schedule import Phase, PhaseConfig, counting_losses, phases_of, schedule_problems
from torchlight import build
from torchlight.build import Problem

# Normalisations whose origin is where the first body is in each frame: without it the others are somewhere else.
MOVING_ORIGIN = ("center_per_frame", "align_torso")


@dataclass
class TeachingConfig(ProcessorConfig):
    """Keys of processors that train networks of several losses, beside the shared ones."""

    # class path of the method around `model`, such as `net.long_term.LongTerm`; null: the model alone
    method: str | None = None
    # arguments of the method's constructor
    method_args: dict[str, Any] = field(default_factory=dict)
    # phases of the run, with the losses of each; empty: one phase with the processor's own loss
    schedule: list[PhaseConfig] = field(default_factory=list)
    # losses that are left out of all phases; a phase that has no other loss is skipped
    without: list[str] = field(default_factory=list)

    def network(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments of what is trained: the method, or the model where there is none."""
        return (self.model, self.model_args) if self.method is None else (self.method, self.method_args)


class Teaching(Processor):
    """Trains a network by the losses of its schedule."""

    config_class: ClassVar[type[ProcessorConfig]] = TeachingConfig
    # losses without a schedule, and the one that must count
    default_losses: ClassVar[Mapping[str, float]] = {CROSS_ENTROPY.name: 1.0}
    needed: ClassVar[str | None] = CROSS_ENTROPY.name
    config: TeachingConfig

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """See `Experiment.check`."""
        assert isinstance(config, TeachingConfig)
        problems = super().check(config, packages)
        if config.method is not None:
            problems += build.check_class(
                "method", config.method, config.method_args, packages, base=Method, provided=["base_encoder"]
            )
            wanted = (
                Encoder if problems else method_class(build.import_class(config.method, packages)).ENCODER
            )
            problems += build.check_class("model", config.model, config.model_args, packages, base=wanted)
        if any(problem.key in ("model", "method") for problem in problems):
            return list(dict.fromkeys(problems))
        if config.method is not None:
            problems += layout_problems("method", config.method, config.method_args, config, packages)
            problems += channel_problems("method", config.method, config.method_args, config, packages)
        losses = [loss.name for loss in losses_in(config, packages)]
        problems += schedule_problems(config.schedule, config.num_epoch, losses, without=config.without)
        counting = cls.counting(config, packages)
        if config.without and not counting:
            problems.append(Problem("without", "leaves no loss that counts; leave out fewer"))
        if cls.needed is not None and cls.needed not in losses:
            path, _ = config.network()
            text = (
                f"{path} has no loss {cls.needed}; choose a method that has, such as net.long_term.LongTerm"
            )
            problems.append(Problem("method", text))
        elif cls.needed is not None and cls.needed not in counting:
            text = f"has no phase that learns by {cls.needed!r}; give it a weight"
            problems.append(Problem("schedule", text))
        problems += cls._problems_of_losses(config, packages)
        return list(dict.fromkeys(problems))

    @classmethod
    def _problems_of_losses(cls, config: TeachingConfig, packages: Sequence[str]) -> list[Problem]:
        """What the losses that count need of views and stream, and do not find."""
        counting, views = cls.counting_losses(config, packages), cls.train_views(config)
        problems = _key_problems([loss.name for loss in counting if SAME_FRAMES in loss.needs], views)
        posing = [loss.name for loss in counting if POSES in loss.needs]
        if posing and config.stream in MOVING:
            problems.append(cls.moving_stream(config, posing))
        hidden = cls.hidden_frames(config, packages)
        if hidden is not None and any(FUTURE in loss.needs for loss in counting):
            made = list(views)[: cls.num_view(config, packages)]
            problems += [
                each for key in made for each in hidden_problems(key, views[key], config, hidden[key])
            ]
        return problems

    @classmethod
    def train_views(cls, config: ProcessorConfig) -> dict[str, ViewConfig | None]:
        """The views that a training batch can have, by dotted key: what a network sees, then what it compares."""
        raise NotImplementedError

    @classmethod
    def counting(cls, config: TeachingConfig, packages: Sequence[str]) -> set[str]:
        """Names of the losses that count in some phase."""
        if config.schedule:
            return counting_losses(config.schedule, without=config.without)
        return set(cls.losses_by_default(config, packages)) - set(config.without)

    @classmethod
    def losses_by_default(cls, config: TeachingConfig, packages: Sequence[str]) -> Mapping[str, float]:
        """Weights of the losses of a run without a schedule."""
        return cls.default_losses

    @classmethod
    def counting_losses(cls, config: TeachingConfig, packages: Sequence[str]) -> list[Loss]:
        """The losses that count in some phase."""
        counting = cls.counting(config, packages)
        return [loss for loss in losses_in(config, packages) if loss.name in counting]

    @classmethod
    def num_view(cls, config: TeachingConfig, packages: Sequence[str]) -> int:
        """How many views of a clip the losses that count take."""
        return max((loss.num_view for loss in cls.counting_losses(config, packages)), default=1)

    @classmethod
    def moving_stream(cls, config: TeachingConfig, names: Sequence[str]) -> Problem:
        """What is wrong with a stream of movements, if losses of these `names` go on from the last pose."""
        text = f"is {config.stream!r}, in which there is no pose for {' and '.join(names)} to go on from; choose "
        return Problem("stream", text + f"another, or set without='[{', '.join(names)}]'")

    @classmethod
    def hidden_frames(cls, config: ProcessorConfig, packages: Sequence[str]) -> dict[str, int] | None:
        """See `Experiment.hidden_frames`: those that the network predicts, of training views."""
        assert isinstance(config, TeachingConfig)
        path, args = config.network()
        try:
            network = build.import_class(path, packages)
        except build.ClassPathError:
            return None
        count = build.argument(network, args, "num_predict", method_class(network).num_predict)
        if not isinstance(count, int):  # said elsewhere
            return None
        return dict.fromkeys(cls.train_views(config), count)

    def phases(self) -> list[Phase]:
        """See `Experiment.phases`."""
        config = self.config
        losses = self.losses_by_default(config, self.packages)
        return phases_of(config.schedule, config, losses, without=config.without)

    def build_model(self) -> nn.Module:
        """The model, and the method around it."""
        model = super().build_model()
        if self.config.method is None:
            return model
        return self.build_from("method", base_encoder=model)

    def load_weights(self, path: str) -> None:
        """See `Experiment.load_weights`; labels that a method has kept may be of other classes, and are dropped."""
        super().load_weights(path)
        as_method(self.model).forget_labels()

    def cautions(self) -> list[str]:
        """See `Processor.cautions`."""
        found, config = super().cautions(), self.config
        if config.method is None and config.method_args:
            found.append(
                f"method is null, so method_args ({', '.join(config.method_args)}) are given to nothing; "
                f"{config.model} takes model_args"
            )
        found += self.untaught(
            "give them weights in a phase whose optim is their own (adamw, lr 5e-4; another rate soon makes nll "
            "infinite), as config/_base_/*as_gcn*.yaml does"
            if self.method.ENCODER_LOSSES or config.method is None
            else f"choose another model, or a method that counts them, as {config.method} does not"
        )
        labels = {loss.name for loss in losses_in(config, self.packages) if loss.label}
        unlabelled = [
            phase.name for phase in self.schedule if phase.losses and not labels & set(phase.losses)
        ]
        if unlabelled and config.data.label_fraction < 1:
            found.append(
                f"phases {', '.join(unlabelled)} need no labels, and see the labelled clips alone; to learn from all "
                "clips first, pre-train, and take these weights to finetune_evaluation"
            )
        return found

    def result(self) -> dict[str, Any]:
        """See `Processor.result`."""
        return {} if self.config.method is None else {"method": self.config.method}

    def num_future(self, part: Part) -> int | None:
        """See `Experiment.num_future`; of training views as many as the network predicts, where that counts."""
        if part != "train":
            return None
        counting = counting_losses(self.schedule)
        needed = [
            loss
            for loss in losses_in(self.config, self.packages)
            if loss.name in counting and FUTURE in loss.needs
        ]
        return as_method(self.model).num_predict if needed else None

    def learn(self, batch: Batch) -> tuple[Output, dict[str, Tensor]]:
        """What the network makes of a batch, and its losses times their weights; not the cross-entropy."""
        weights = self.phase_of(self.epoch).losses
        output: Output = self.network(self.judgeable_batch(batch), tuple(weights))
        return output, {name: weights[name] * loss for name, loss in output.losses.items()}

    def judgeable_batch(self, batch: Batch) -> Batch:
        """A batch whose future has those bodies alone that lie where those in the last frame seen do."""
        if batch.future is None:
            return batch
        normalise, last = self.views("train")[0].normalise, batch.views[0].present[:, 0, -1]
        return replace(batch, future=judgeable(normalise, batch.future, last))


@dataclass
class PairConfig(TeachingConfig, TrainViewConfig):
    """Keys of processors that show a training clip once, or twice to methods that compare, beside `TeachingConfig`."""

    # second view of a training clip, for losses that compare two; it needs `same_frames: true`
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
        """See `Experiment.views`."""
        if part != "train":
            return super().views(part)
        key = self.config.key_view if self.num_view(self.config, self.packages) > 1 else None
        return [self.config.train_view] if key is None else [self.config.train_view, key]


def losses_in(config: TeachingConfig, packages: Sequence[str]) -> tuple[Loss, ...]:
    """The losses that a schedule can give the network of a config."""
    path, _ = config.network()
    return losses_of(*(build.import_class(each, packages) for each in (path, config.model)))


def _key_problems(names: Sequence[str], views: Mapping[str, ViewConfig | None]) -> list[Problem]:
    """What is wrong with the second view, if losses of these `names` compare it with the first."""
    if not names:
        return []
    (_, first), *others = views.items()
    key, second = others[0] if others else ("views", None)
    if second is None:
        text = f"is null; losses {', '.join(names)} compare two views of a clip: give a second one"
        return [Problem(key, text)]
    problems = []
    if not second.same_frames:
        text = f"is false; {', '.join(names)} need the same frames in both views: set it to true"
        problems.append(Problem(f"{key}.same_frames", text))
    if second.same_frames and first is not None and second.sampling != first.sampling:
        text = f"is another than {next(iter(views))}'s; the two show the same frames: make them equal"
        problems.append(Problem(f"{key}.sampling", text))
    return problems


def hidden_problems(
    key: str, described: ViewConfig | None, config: ProcessorConfig, hidden: int
) -> list[Problem]:
    """What is wrong with a view whose last `hidden` frames are to be predicted; nothing if it cannot be made."""
    if described is None:
        return []
    try:
        view = view_of(described, config, get_skeleton(config.data.layout))
    except (ValueError, OSError):  # said elsewhere
        return []
    if view.num_frame <= hidden:
        text = (
            f"takes {view.num_frame} frames, of which the last {hidden} are to be predicted: none is seen; "
        )
        return [Problem(f"{key}.sampling", text + "take more")]
    return [Problem(f"{key}.{where}", text) for where, text in view.looking_past(view.num_frame - hidden)]


def judgeable(normalise: str, clip: Clip, last: Tensor) -> Clip:
    """Clips without bodies whose origin is not the last frame's.

    normalise: of the view.
    last: (N,) bool, whether the first body is there in the last frame seen; see `net.future.beside_first`.
    """
    return beside_first(clip, last) if normalise in MOVING_ORIGIN else clip
