"""What processors share that train networks of several losses: the method around the model, phases, lessons."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from feeder.feeder import Part
from feeder.loader import Batch
from feeder.streams import MOVING
from net.contrast import SelfSupervised
from net.future import beside_first
from net.multi_task import CROSS_ENTROPY, Learner, Lesson, MultiTask, Taught, tasks_of
from net.temporal_signals import MemoryQueue
from net.utils.backbone import Backbone
from net.utils.layouts import get_skeleton
from processor.config import ProcessorConfig, TrainViewConfig, ViewConfig
from processor.experiment import channel_problems, layout_problems, presence_problems, view_of
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
    """Trains a `net.multi_task.MultiTask` by the losses of its schedule; other networks by their own loss."""

    config_class: ClassVar[type[ProcessorConfig]] = TeachingConfig
    # losses without a schedule
    default_losses: ClassVar[Mapping[str, float]] = {CROSS_ENTROPY: 1.0}
    # what a `method` must be
    method_class: ClassVar[type | tuple[type, ...]] = MultiTask
    config: TeachingConfig

    @classmethod
    def check(cls, config: ProcessorConfig, packages: Sequence[str]) -> list[Problem]:
        """See `Experiment.check`."""
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
            return list(dict.fromkeys(problems))
        if config.method is not None:
            problems += layout_problems("method", config.method, config.method_args, config, packages)
            problems += presence_problems("method", config.method, packages)
            problems += channel_problems("method", config.method, config.method_args, config, packages)
        network, model = (build.import_class(path, packages) for path in (config.network()[0], config.model))
        losses = losses_of(network, model)
        problems += schedule_problems(config.schedule, config.num_epoch, losses, without=config.without)
        counting = cls.counting(config)
        if config.without and not counting:
            problems.append(Problem("without", "leaves no loss that counts; leave out fewer"))
        problems += cls._problems_of_losses(config, network, counting, packages)
        return list(dict.fromkeys(problems))

    @classmethod
    def _problems_of_losses(
        cls, config: TeachingConfig, network: type, counting: Collection[str], packages: Sequence[str]
    ) -> list[Problem]:
        """What the losses that count need of views and stream, and do not find."""
        compared, views = comparing(network, counting), cls.train_views(config)
        problems = _key_problems(compared, views)
        posing = [name for name in tasks_of(network).NEED_POSES if name in counting]
        if posing and config.stream in MOVING:
            problems.append(cls.moving_stream(config, posing))
        hidden = cls.hidden_frames(config, packages)
        if hidden is not None and set(counting) & set(tasks_of(network).NEED_FUTURE):
            made = list(views)[: 2 if compared else 1]
            problems += [
                each for key in made for each in hidden_problems(key, views[key], config, hidden[key])
            ]
        return problems

    @classmethod
    def train_views(cls, config: ProcessorConfig) -> dict[str, ViewConfig | None]:
        """The views that a training batch can have, by dotted key: what a network sees, then what it compares."""
        raise NotImplementedError

    @classmethod
    def counting(cls, config: TeachingConfig) -> set[str]:
        """Names of the losses that count in some phase."""
        if config.schedule:
            return counting_losses(config.schedule, without=config.without)
        return set(cls.default_losses) - set(config.without)

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
        count = 0
        if issubclass(network, MultiTask):
            count = build.argument(network, args, "num_predict", network.num_predict)
        if not isinstance(count, int):  # said elsewhere
            return None
        return dict.fromkeys(cls.train_views(config), count)

    def compares(self) -> bool:
        """Whether some loss that counts compares two views of a clip."""
        network = build.import_class(self.config.network()[0], self.packages)
        return bool(comparing(network, self.counting(self.config)))

    def phases(self) -> list[Phase]:
        """See `Experiment.phases`."""
        config = self.config
        return phases_of(config.schedule, config, self.default_losses, without=config.without)

    def build_model(self) -> nn.Module:
        """The model, and the method around it."""
        model = super().build_model()
        if self.config.method is None:
            return model
        return self.build_from("method", base_encoder=model)

    def load_weights(self, path: str) -> None:
        """See `Experiment.load_weights`; labels in their queues may be of other classes, and are dropped."""
        super().load_weights(path)
        for part in self.model.modules():
            if isinstance(part, MemoryQueue):
                part.forget_labels()

    def trained_network(self) -> nn.Module:
        """See `Experiment.trained_network`."""
        return Learner(self.model) if isinstance(self.model, MultiTask) else super().trained_network()

    def _backbone(self) -> nn.Module:
        """The network inside the method, or the network."""
        return self.model.get_encoder() if isinstance(self.model, (MultiTask, SelfSupervised)) else self.model

    def varies_batch(self) -> bool:
        """See `Experiment.varies_batch`."""
        # A method of several losses runs parts on the bodies that are there, whatever its backbone does.
        backbone = self._backbone()
        return isinstance(self.model, MultiTask) or (isinstance(backbone, Backbone) and backbone.varies_batch)

    def cautions(self) -> list[str]:
        """See `Processor.cautions`."""
        found, config = super().cautions(), self.config
        if config.method is None and config.method_args:
            found.append(
                f"method is null, so method_args ({', '.join(config.method_args)}) are given to nothing; "
                f"{config.model} takes model_args"
            )
        remedy = (
            "give them weights in a phase whose optim is their own (adamw, lr 5e-4; another rate soon makes nll "
            "infinite), as config/_base_/*as_gcn*.yaml does"
        )
        if isinstance(self.model, SelfSupervised):
            remedy = f"choose another model, or a method that counts them, as {config.method} does not"
        found += self.untaught(self._backbone(), remedy)
        labels = {CROSS_ENTROPY, *tasks_of(type(self.model)).USE_LABEL}
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
        if part != "train" or not isinstance(self.model, MultiTask):
            return None
        needed = counting_losses(self.schedule) & set(self.model.NEED_FUTURE)
        return self.model.num_predict if needed else None

    def teach(self, batch: Batch, label: Tensor | None) -> tuple[Taught, dict[str, Tensor]]:
        """What the network makes of a batch, and its losses times their weights; not the cross-entropy."""
        weights = self.phase_of(self.epoch).losses
        taught: Taught = self.network(self.lesson(batch, label), tuple(weights))
        return taught, {name: weights[name] * loss for name, loss in taught.losses.items()}

    def lesson(self, batch: Batch, label: Tensor | None) -> Lesson:
        """What a batch teaches; of the future, bodies alone that lie where those in the last frame seen do."""
        lesson = lesson_of(batch, label)
        if batch.future is None or batch.future_present is None:
            return lesson
        normalise, last = self.views("train")[0].normalise, batch.present[0][:, 0, -1]
        future, present = judgeable(normalise, batch.future, batch.future_present, last)
        return lesson._replace(future=future, future_present=present)


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
        key = self.config.key_view if self.compares() else None
        return [self.config.train_view] if key is None else [self.config.train_view, key]


def losses_of(network: type, model: type) -> list[str]:
    """Names of the losses that a schedule can give a network, whose backbone is a `model`."""
    own = [*tasks_of(network).LOSSES, *(model.OWN_LOSSES if issubclass(model, Backbone) else ())]
    return [CROSS_ENTROPY, *dict.fromkeys(own)]


def comparing(network: type, counting: Collection[str]) -> list[str]:
    """Which of the losses that count compare two views of a clip."""
    return [name for name in tasks_of(network).NEED_KEY if name in counting]


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


def lesson_of(batch: Batch, label: Tensor | None) -> Lesson:
    """A lesson of all that is in a batch, and of labels (N,) where they are to be used."""
    return Lesson(batch.views, batch.future, label, batch.present, batch.future_present)


def judgeable(normalise: str, clips: Tensor, present: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Clips (N, C, T, V, M) and who is there in them, (N, M, T), without bodies whose origin is not the last frame's.

    normalise: of the view.
    last: (N,) bool, whether the first body is there in the last frame seen; see `net.future.beside_first`.
    """
    return beside_first(clips, present, last) if normalise in MOVING_ORIGIN else (clips, present)
