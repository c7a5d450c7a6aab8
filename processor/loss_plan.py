"""The active losses of a run, and what they need: methods, phases, second views, future frames.

A loss is active in a phase that gives it a weight above 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from feeder.streams import MOVING
from net.encoder import Encoder
from net.method import FUTURE, POSES, SAME_FRAMES, Loss, Method, Output, losses_of, method_class
from net.utils.clip import Batch
from net.utils.layouts import get_skeleton
from processor import notes
from processor.checks import channel_problems, layout_problems
from processor.config import ProcessorConfig, ViewConfig
from processor.schedule import Phase, PhaseConfig, active_losses, phases_of, schedule_problems
from processor.views import view_of
from torchlight import build
from torchlight.build import Problem

if TYPE_CHECKING:
    from processor.processor import Processor
    from processor.task import Task


@dataclass
class MethodKeys:
    """Keys of tasks that train with the losses of a method."""

    # class path of the method around `model`, such as `net.long_term.LongTerm`; null: no method, only the model
    method: str | None = None
    # arguments of the method's constructor
    method_args: dict[str, Any] = field(default_factory=dict)
    # phases of the run, with the losses of each; empty: one phase with the processor's default loss
    schedule: list[PhaseConfig] = field(default_factory=list)
    # losses that are left out of all phases; a phase that has no other loss is skipped
    without: list[str] = field(default_factory=list)


@dataclass
class KeyViewKeys:
    """The key of an optional second view of a training clip."""

    # second view of a training clip, for losses that compare two views; it needs `same_frames: true`
    key_view: ViewConfig | None = None


class LossPlan:
    """The losses that are active in the phases of a run.

    Args:
        config: a config with `MethodKeys`.
        packages: where classes of the config are looked up.
        default: weights of the losses in a run without a schedule; None for the method's defaults.
        needed: a loss that must be active; None if any loss will do.
        views: the possible views of a training batch, by dotted key: first what is seen, then what it is compared with.
    """

    def __init__(
        self,
        config: Any,
        packages: Sequence[str],
        *,
        default: Mapping[str, float] | None,
        needed: str | None,
        views: Mapping[str, ViewConfig | None],
    ) -> None:
        self.config, self.packages, self.needed, self.views = config, packages, needed, views
        self._default = default

    @property
    def network(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments of what is trained: the method, or without one the model."""
        config = self.config
        return (
            (config.model, config.model_args)
            if config.method is None
            else (config.method, config.method_args)
        )

    @cached_property
    def losses(self) -> tuple[Loss, ...]:
        """The losses that a schedule can name. Raises ClassPathError: the config names an unknown class."""
        paths = (self.network[0], self.config.model)
        return losses_of(*(build.import_class(path, self.packages) for path in paths))

    @property
    def default(self) -> Mapping[str, float]:
        """Weights of the losses in a run without a schedule."""
        own = {loss.name: loss.weight for loss in self.losses if loss.weight > 0}
        return own if self._default is None else self._default

    @cached_property
    def active(self) -> list[Loss]:
        """The losses that are active in some phase."""
        names = active_losses(self.phases())
        return [loss for loss in self.losses if loss.name in names]

    @property
    def num_view(self) -> int:
        """Number of views of a clip that the active losses take."""
        return max((loss.num_view for loss in self.active), default=1)

    @property
    def num_predict(self) -> int | None:
        """Number of frames that the network predicts at once; None if unknown."""
        path, args = self.network
        try:
            network = build.import_class(path, self.packages)
        except build.ClassPathError:
            return None
        if not any(FUTURE in loss.needs for loss in method_class(network).LOSSES):
            return 0
        count = build.argument(network, args, "num_predict", method_class(network).num_predict)
        return count if isinstance(count, int) else None  # `check_class` reports other types

    @property
    def num_observe(self) -> int | None:
        """Number of frames that the network sees; None if it takes any, or that is unknown."""
        path, args = self.network
        try:
            count = build.argument(build.import_class(path, self.packages), args, "num_observe", None)
        except build.ClassPathError:
            return None
        return count if isinstance(count, int) else None  # `check_class` reports other types

    def hidden_frames(self) -> dict[str, int] | None:
        """See `Task.hidden_frames`: of each training view, the frames that the network predicts."""
        count = self.num_predict
        return None if count is None else dict.fromkeys(self.views, count)

    def shown_views(self) -> list[ViewConfig]:
        """The views of the config that the active losses take."""
        return [view for view in list(self.views.values())[: self.num_view] if view is not None]

    def num_future(self) -> int | None:
        """Number of frames to predict at the end of training views; None if no active loss needs them."""
        return self.num_predict if any(FUTURE in loss.needs for loss in self.active) else None

    def phases(self) -> list[Phase]:
        """See `Task.phases`."""
        config = self.config
        return phases_of(
            config.schedule, config, {} if config.schedule else self.default, without=config.without
        )

    def build(self, task: "Task", model: nn.Module) -> nn.Module:
        """The method around a model; without a method the model itself."""
        return model if self.config.method is None else task.build_from("method", base_encoder=model)

    def learn(self, run: "Processor", batch: Batch) -> tuple[Output, dict[str, Tensor]]:
        """The network's output for a batch, and its losses times their weights, without the cross-entropy."""
        weights = run.phase_of(run.epoch).losses
        output: Output = run.network(batch, tuple(weights))
        return output, {name: weights[name] * loss for name, loss in output.losses.items()}

    # -- before data is touched ------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """Problems of the method, the schedule, and the needs of the active losses."""
        config, packages = self.config, self.packages
        problems = []
        if config.method is not None:
            problems += build.check_class(
                "method", config.method, config.method_args, packages, base=Method, provided=["base_encoder"]
            )
            wanted = (
                Encoder if problems else method_class(build.import_class(config.method, packages)).ENCODER
            )
            problems += build.check_class("model", config.model, config.model_args, packages, base=wanted)
        try:
            losses = [loss.name for loss in self.losses]
        except build.ClassPathError:  # reported by `check_class`
            return problems
        if any(problem.key in ("model", "method") for problem in problems):
            return problems
        if config.method is not None:
            problems += layout_problems("method", config.method, config.method_args, config, packages)
            problems += channel_problems("method", config.method, config.method_args, config, packages)
        problems += schedule_problems(config.schedule, config.num_epoch, losses, without=config.without)
        active = active_losses(self.phases())
        if config.without and not active:
            problems.append(Problem("without", "leaves no loss with a weight; leave out fewer"))
        if self.needed is not None and self.needed not in losses:
            path, _ = self.network
            text = f"{path} has no loss {self.needed}; choose a method that has one, such as "
            problems.append(Problem("method", text + "net.long_term.LongTerm"))
        elif self.needed is not None and self.needed not in active:
            text = f"has no phase with the loss {self.needed!r}; give it a weight"
            problems.append(Problem("schedule", text))
        return [*problems, *self._problems_of_views()]

    def _problems_of_views(self) -> list[Problem]:
        """Problems of views and stream that do not meet the needs of the active losses."""
        config = self.config
        problems = _key_problems([loss.name for loss in self.active if SAME_FRAMES in loss.needs], self.views)
        posing = [loss.name for loss in self.active if POSES in loss.needs]
        if posing and config.stream in MOVING and self.needed not in posing:
            text = f"is {config.stream!r}, which has no poses, but {' and '.join(posing)} needs them; choose "
            problems.append(Problem("stream", text + f"another, or set without='[{', '.join(posing)}]'"))
        given = [key for key, view in self.views.items() if view is not None]
        if self.num_view > len(given) and not problems:
            missing = list(self.views)[len(given)] if len(given) < len(self.views) else "views"
            names = ", ".join(loss.name for loss in self.active if loss.num_view > len(given))
            text = f"is null; losses {names} take {self.num_view} views of a clip: give more"
            problems.append(Problem(missing, text))
        hidden = self.num_future()
        if hidden == 0:
            names = ", ".join(loss.name for loss in self.active if FUTURE in loss.needs)
            key = "model_args" if config.method is None else "method_args"
            problems.append(Problem(f"{key}.num_predict", f"is 0, but {names} needs 1 frame or more"))
        elif hidden is not None:
            for key in list(self.views)[: self.num_view]:
                problems += hidden_problems(key, self.views[key], config, self.packages, hidden)
        return problems

    def warnings(self, run: "Processor") -> list[str]:
        """See `Task.warnings`."""
        config, found = self.config, []
        if config.method is None and config.method_args:
            found.append(
                f"method is null, so method_args ({', '.join(config.method_args)}) are ignored; "
                f"arguments of {config.model} are model_args"
            )
        found += notes.missing_losses(
            run,
            "give them weights in a phase with an optim of its own (adamw, lr 5e-4; with another rate nll soon becomes "
            "infinite), as config/_base_/*as_gcn*.yaml does"
            if run.method.ENCODER_LOSSES or config.method is None
            else f"choose another model, or a method that uses them; {config.method} does not",
        )
        labels = {loss.name for loss in self.losses if loss.label}
        unlabelled = [phase.name for phase in run.schedule if phase.losses and not labels & set(phase.losses)]
        if unlabelled and config.data.label_fraction < 1:
            found.append(
                f"phases {', '.join(unlabelled)} need no labels, but train on the labelled clips only; to train on all "
                "clips, run pretrain first, and then finetune_evaluation with its weights"
            )
        return found

    def result(self) -> dict[str, Any]:
        """See `Task.result`."""
        return {} if self.config.method is None else {"method": self.config.method}


def pair_of_views(config: Any) -> dict[str, ViewConfig | None]:
    """The views of a training clip of a config with `KeyViewKeys`, by key."""
    return {"train_view": config.train_view, "key_view": config.key_view}


def _key_problems(names: Sequence[str], views: Mapping[str, ViewConfig | None]) -> list[Problem]:
    """Problems of the second view, which the losses `names` compare with the first."""
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
        text = f"differs from {next(iter(views))}'s, but both views show the same frames: make them equal"
        problems.append(Problem(f"{key}.sampling", text))
    return problems


def hidden_problems(
    key: str, described: ViewConfig | None, config: ProcessorConfig, packages: Sequence[str], hidden: int
) -> list[Problem]:
    """Problems of a view whose last `hidden` frames are to be predicted; empty if the view cannot be built."""
    if described is None:
        return []
    try:
        view = view_of(described, config, get_skeleton(config.data.layout), packages)
    except (ValueError, OSError):  # reported elsewhere
        return []
    if view.num_frame <= hidden:
        text = f"takes {view.num_frame} frames and the last {hidden} are to be predicted, which leaves none to see; "
        return [Problem(f"{key}.sampling", text + "take more")]
    return [
        Problem(f"{key}.{where}", text) for where, text in view.later_frame_problems(view.num_frame - hidden)
    ]
