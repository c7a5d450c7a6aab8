"""Problems of a config, found before data or device is touched: rules across keys.

Rules of losses and methods are in `processor.loss_plan` and `processor.schedule`, those of one task in its `problems`.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from feeder.views import ViewError
from net.utils.channels import has_confidence
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton
from processor.config import OptimConfig, ProcessorConfig, Range
from processor.evaluation import build_evaluators
from processor.views import view_of, views_of
from torchlight import build
from torchlight.build import Problem

if TYPE_CHECKING:
    from processor.task import Task


def problems_of(task: "Task") -> list[Problem]:
    """All problems of a task's config that can be found without its data."""
    config, packages = task.config, task.packages
    problems = build.check_class("model", config.model, config.model_args, packages, base=task.model_class)
    problems += out_of_range(config, task.ranges) + contradictions(config)
    problems += optim_problems("optim", config.optim)
    problems += layout_problems("model", config.model, config.model_args, config, packages)
    problems += channel_problems("model", config.model, config.model_args, config, packages)
    problems += _metric_problems(task)
    if task.needs_weights and config.weights is None:
        problems.append(Problem("weights", "is null; name those of the encoder with --weights FILE"))
    try:
        skeleton = get_skeleton(config.data.layout)
    except (ValueError, OSError) as error:
        problems.append(Problem("data.layout", str(error)))
    else:
        problems += _view_problems(task, skeleton)
    return list(dict.fromkeys([*problems, *task.problems()]))


def _metric_problems(task: "Task") -> list[Problem]:
    """Problems of the evaluators of a config, and of the metric that selects the epoch."""
    problems: list[Problem] = []
    metrics = list(task.metrics)
    for evaluator in build_evaluators(task.config.evaluators, task.packages, problems):
        if not evaluator.metrics or isinstance(evaluator.metrics, str):
            text = f"{type(evaluator).__name__} has metrics {evaluator.metrics!r}; declare a tuple of their names"
            problems.append(Problem("evaluators", text))
            continue
        if twice := sorted(set(evaluator.metrics) & set(metrics)):
            text = f"{type(evaluator).__name__} gives {', '.join(twice)}, which there is already"
            problems.append(Problem("evaluators", text))
        metrics += evaluator.metrics
    name = task.config.select_by
    # The metrics of an evaluator that cannot be built are unknown.
    if name is not None and name not in metrics and not problems:
        text = f"{name!r} is no metric of this processor; {build.nearest(name, metrics)}"
        problems.append(Problem("select_by", text))
    return problems


# -- views ---------------------------------------------------------------------------------------------------


def _view_problems(task: "Task", skeleton: Skeleton) -> list[Problem]:
    """Problems of the views of a config, and of their length."""
    config, problems = task.config, []
    hidden = task.hidden_frames()
    longest, patch = (_whole_number(config, task.packages, name) for name in ("max_frame", "patch"))
    for key, described in views_of(config).items():
        try:
            view = view_of(described, config, skeleton, task.packages)
        except ViewError as error:
            for problem in error.problems:
                # Bodies and stream are one setting for all views.
                where = {"num_body": "data.num_body", "stream": "stream"}.get(problem.key)
                problems.append(Problem(where or f"{key}.{problem.key}", problem.text))
            continue
        seen = view.num_frame - view.num_ahead
        if longest is not None and seen > longest:
            text = f"gives {seen} frames; {config.model} takes at most {longest}"
            problems.append(Problem(f"{key}.sampling", f"{text}: take fewer, or raise max_frame"))
        if patch and seen % patch:
            text = f"gives {seen} frames; {config.model} takes multiples of its patch, which is {patch}"
            problems.append(Problem(f"{key}.sampling", f"{text}: change num_frame, or patch"))
        predicted = view.num_ahead if hidden is None else hidden.get(key, 0)
        if view.num_ahead not in (0, predicted):
            problems.append(Problem(f"{key}.sampling", _wrong_ahead(view.num_ahead, predicted)))
    return problems


def _whole_number(config: ProcessorConfig, packages: Sequence[str], name: str) -> int | None:
    """The argument `name` of the network; None if it has no such argument, or the value is no whole number."""
    try:
        value = build.argument(build.import_class(config.model, packages), config.model_args, name, None)
    except build.ClassPathError:  # reported by `check_class`
        return None
    return value if isinstance(value, int) else None


def _wrong_ahead(ahead: int, predicted: int) -> str:
    remedy = (
        f"predicts {predicted} frames; make them equal"
        if predicted
        else "predicts nothing there; leave it out"
    )
    return f"has num_ahead: {ahead}, but the network {remedy}"


# -- classes and their arguments -----------------------------------------------------------------------------


def layout_problems(
    key: str, path: str, args: Mapping[str, Any], config: ProcessorConfig, packages: Sequence[str]
) -> list[Problem]:
    """The problem of a class whose layout has another number of joints than the data's; empty if unknown."""
    wanted = config.data.layout
    try:
        layout = build.argument(build.import_class(path, packages), args, "layout", wanted)
        joints = [get_skeleton(each).num_joint for each in (layout, wanted)]
    except (ValueError, OSError):  # reported elsewhere
        return []
    if joints[0] == joints[1]:
        return []
    text = f"is {layout!r} ({joints[0]} joints), but data.layout is {wanted!r} ({joints[1]}); write ${{data.layout}}"
    return [Problem(f"{key}_args.layout", text)]


def channel_problems(
    key: str, path: str, args: Mapping[str, Any], config: ProcessorConfig, packages: Sequence[str]
) -> list[Problem]:
    """Problems of a class that takes other channels than the data's; empty if unknown."""
    channels = config.data.channels
    try:
        cls = build.import_class(path, packages)
    except build.ClassPathError:  # reported by `check_class`
        return []
    problems = []
    count = build.argument(cls, args, "in_channels", len(channels))
    if count != len(channels):
        text = f'is {count}, but data.channels is {channels!r}; write "${{count:${{data.channels}}}}"'
        problems.append(Problem(f"{key}_args.in_channels", text))
    # Without `channels` a class takes all channels as coordinates.
    given = build.argument(cls, args, "channels", channels)
    if given != channels and (given is not None or has_confidence(channels)):
        text = f"is {given!r}, but data.channels is {channels!r}; write ${{data.channels}}"
        problems.append(Problem(f"{key}_args.channels", text))
    return problems


# -- numbers -------------------------------------------------------------------------------------------------


OPTIM_RANGES: tuple[Range, ...] = (
    *((key, lambda value: value >= 0, "0 or more") for key in ("lr", "weight_decay", "warmup_epoch")),
    ("gamma", lambda value: value > 0, "above 0"),
    ("momentum", lambda value: 0 <= value < 1, "0 or more and below 1"),
    ("min_factor", lambda value: 0 <= value <= 1, "from 0 to 1"),
    ("grad_clip", lambda value: value is None or value > 0, "above 0, or null"),
    ("layer_decay", lambda value: 0 < value <= 1, "above 0, up to 1"),
    ("accumulate", lambda value: value >= 1, "1 or more"),
    (
        "betas",
        lambda value: len(value) == 2 and all(0 <= each < 1 for each in value),
        "two numbers, 0 or more and below 1",
    ),
)
# Keys that are ignored unless another key has a certain value: key -> (other key, its value).
ONLY_WITH = {
    "momentum": ("optimizer", "sgd"),
    "nesterov": ("optimizer", "sgd"),
    "betas": ("optimizer", "adamw"),
    "step": ("schedule", "step"),
    "gamma": ("schedule", "step"),
    "min_factor": ("schedule", "cosine"),
}


def out_of_range(config: ProcessorConfig | OptimConfig, ranges: Sequence[Range]) -> list[Problem]:
    """Problems of numbers outside their range; a part of the config that is null is skipped."""
    problems = []
    for key, holds, allowed in ranges:
        of, _, name = key.rpartition(".")
        part = attrgetter(of)(config) if of else config
        if part is not None and not holds(value := getattr(part, name)):
            problems.append(Problem(key, f"is {value}; it is {allowed}"))
    return problems


def optim_problems(key: str, settings: OptimConfig) -> list[Problem]:
    """Problems of an optimizer's settings; `key` is the config key that holds them."""
    problems = [Problem(f"{key}.{name}", text) for name, text in out_of_range(settings, OPTIM_RANGES)]
    problems += [
        Problem(f"{key}.lr_factor.{name}", f"is {factor}; it is above 0")
        for name, factor in settings.lr_factor.items()
        if not factor > 0
    ]
    if settings.schedule == "step" and not settings.step:
        problems.append(Problem(f"{key}.step", "is empty; list the epochs after which the rate falls"))
    if settings.optimizer == "sgd" and settings.nesterov and settings.momentum == 0:
        text = f"needs a momentum; set {key}.momentum, or {key}.nesterov=false"
        problems.append(Problem(f"{key}.nesterov", text))
    return problems


def contradictions(config: ProcessorConfig) -> list[Problem]:
    """Problems of values that contradict each other."""
    problems = []
    if config.select == "val" and config.data.val_fraction == 0:
        problems.append(
            Problem("select", "'val' needs a validation part; set data.val_fraction above 0, or select: last")
        )
    num_class = config.model_args.get("num_class", config.data.num_class)
    if num_class != config.data.num_class:
        text = f"is {num_class}, but data.num_class is {config.data.num_class}; write ${{data.num_class}}"
        problems.append(Problem("model_args.num_class", text))
    if config.data.num_worker > 0 and config.data.cache != "none":
        problems.append(
            Problem(
                "data.num_worker",
                f"is {config.data.num_worker}, but with data.cache={config.data.cache} nothing is left to read; "
                "set data.num_worker=0, or data.cache=none",
            )
        )
    return problems
