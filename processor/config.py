"""What every processor can be told: the keys of a config file, their types and their defaults."""

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING


@dataclass
class DataConfig:
    """Which clips. The fields are the arguments of ``feeder.feeder.Feeder`` and ``feeder.loader.Loader``."""

    path: str = MISSING
    layout: str = MISSING
    num_class: int = MISSING
    num_body: int = 2
    # validation part, drawn from the training clips; 0 trains on all of them
    val_fraction: float = 0.1
    val_by: Literal["subject", "random"] = "subject"
    val_seed: int = 0
    # labelled part of the training clips
    label_fraction: float = 1.0
    label_seed: int = 0
    class_map: str | None = None
    # where the frames are held; workers read only when nothing is held
    cache: Literal["device", "memory", "none"] = "device"
    num_worker: int = 0


@dataclass
class ViewConfig:
    """How a clip becomes a network's input; see ``feeder.views.View``. The stream is a key of the run."""

    sampling: list[Any] = MISSING
    normalise: str = "none"
    augment: list[Any] = field(default_factory=list)


@dataclass
class OptimConfig:
    """Optimizer and learning-rate schedule; see ``processor.optim``."""

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

    train_view: ViewConfig = field(default_factory=ViewConfig)
    test_view: ViewConfig = field(default_factory=ViewConfig)
    batch_size: int = 64
    test_batch_size: int = 256
    # views of a test clip whose scores are averaged; more than one makes sense where test_view draws at random
    test_repeat: int = 1
    num_epoch: int = MISSING
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
