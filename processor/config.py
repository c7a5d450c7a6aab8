"""What every processor can be told: the keys of a config file, their types and their defaults."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal

from omegaconf import MISSING

from torchlight.build import Problem


@dataclass
class DataConfig:
    """Which clips. The fields are the arguments of `open_source`, `feeder.feeder.Feeder` and `feeder.loader.Loader`."""

    path: str = MISSING
    layout: str = MISSING
    num_class: int = MISSING
    num_body: int = 2
    # validation part, drawn from the training clips; 0 trains on all of them
    val_fraction: float = 0.1
    val_by: str = "subject"
    val_seed: int = 0
    # labelled part of the training clips
    label_fraction: float = 1.0
    label_seed: int = 0
    label_map: str | None = None
    # an epoch has equally many training clips of each class, so that rare classes are learnt, too
    balanced: bool = False
    # of arrays of other projects: the number of the first class; null for 0, and labels from 1 are refused
    first_label: int | None = None
    # where the frames are held; workers read only when nothing is held
    cache: Literal["device", "memory", "none"] = "device"
    num_worker: int = 0


@dataclass
class ViewConfig:
    """How a clip becomes a network's input; see `feeder.views.View`. The stream is a key of the run."""

    sampling: list[Any] = MISSING
    normalise: str = "none"
    augment: list[Any] = field(default_factory=list)
    # of a view beside others: take the frames that the first one takes, by the same sampling
    same_frames: bool = False


@dataclass
class OptimConfig:
    """Optimizer and learning-rate schedule; see `processor.optim`."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = True
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    step: list[int] = field(default_factory=list)
    gamma: float = 0.1
    warmup_epoch: float = 0
    min_factor: float = 0.0
    # largest gradient norm; null leaves gradients alone
    grad_clip: float | None = None


@dataclass
class ProcessorConfig:
    """Keys shared by all processors."""

    work_dir: str = MISSING
    benchmark: str = MISSING
    stream: Literal["joint", "bone", "motion", "bone_motion"] = "joint"
    data: DataConfig = field(default_factory=DataConfig)
    model: str = MISSING
    model_args: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    ignore_weights: list[str] = field(default_factory=list)

    test_view: ViewConfig = field(default_factory=ViewConfig)
    batch_size: int = 64
    test_batch_size: int = 256
    # views of a test clip that are averaged; more than one makes sense where test_view draws at random
    test_repeat: int = 1
    num_epoch: int = MISSING
    # an epoch passes at least so many training clips; fewer clips than that come several times
    min_epoch_clip: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)

    # which epoch's weights are kept: the best on the validation part, the last, or (for comparison with
    # published figures only) the best on the test part
    select: Literal["val", "last", "test"] = "val"
    eval_interval: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    tensorboard: bool = True
    debug: bool = False


@dataclass
class TrainViewConfig(ProcessorConfig):
    """Keys of processors that see a training clip in one view, or one before others, beside the shared ones."""

    train_view: ViewConfig = field(default_factory=ViewConfig)


# Key, what holds of its value, and how that is said.
Range = tuple[str, Callable[[Any], bool], str]
RANGES: tuple[Range, ...] = (
    *(
        (key, lambda value: value >= 1, "1 or more")
        for key in (
            "batch_size",
            "test_batch_size",
            "test_repeat",
            "num_epoch",
            "eval_interval",
            "data.num_class",
        )
    ),
    *((key, lambda value: value >= 0, "0 or more") for key in ("min_epoch_clip", "data.num_worker")),
    ("data.val_fraction", lambda value: 0 <= value < 1, "0 or more and below 1"),
    ("data.label_fraction", lambda value: 0 < value <= 1, "above 0, up to 1"),
    ("data.first_label", lambda value: value is None or value >= 0, "0 or more, or null"),
)


OPTIM_RANGES: tuple[Range, ...] = (
    *((key, lambda value: value >= 0, "0 or more") for key in ("lr", "weight_decay", "warmup_epoch")),
    ("gamma", lambda value: value > 0, "above 0"),
    ("momentum", lambda value: 0 <= value < 1, "0 or more and below 1"),
    ("min_factor", lambda value: 0 <= value <= 1, "from 0 to 1"),
    ("grad_clip", lambda value: value is None or value > 0, "above 0, or null"),
)


def views_of(config: ProcessorConfig) -> dict[str, ViewConfig]:
    """Every view of a config by its dotted key."""
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    listed = {
        f"{name}.{number}": item
        for name, value in values.items()
        if isinstance(value, list)
        for number, item in enumerate(value)
    }
    return {key: value for key, value in (values | listed).items() if isinstance(value, ViewConfig)}


def out_of_range(config: ProcessorConfig | OptimConfig, ranges: Sequence[Range]) -> list[Problem]:
    """Numbers outside their range; a part of the config that is null has none."""
    problems = []
    for key, holds, allowed in ranges:
        of, _, name = key.rpartition(".")
        part = attrgetter(of)(config) if of else config
        if part is not None and not holds(value := getattr(part, name)):
            problems.append(Problem(key, f"is {value}; it is {allowed}"))
    return problems


def optim_problems(key: str, settings: OptimConfig) -> list[Problem]:
    """What is wrong with the settings of an optimizer under `key`."""
    problems = [Problem(f"{key}.{name}", text) for name, text in out_of_range(settings, OPTIM_RANGES)]
    if settings.schedule == "step" and not settings.step:
        problems.append(Problem(f"{key}.step", "is empty; list the epochs after which the rate falls"))
    if settings.optimizer == "sgd" and settings.nesterov and settings.momentum == 0:
        text = f"needs a momentum; set {key}.momentum, or {key}.nesterov=false"
        problems.append(Problem(f"{key}.nesterov", text))
    return problems


def contradictions(config: ProcessorConfig) -> list[Problem]:
    """Values that do not go together."""
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
