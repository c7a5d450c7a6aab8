"""The keys that configs of all processors share, with their types and defaults."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING


@dataclass
class DataConfig:
    """Which clips. The fields are the arguments of `open_source`, `feeder.feeder.Feeder` and `feeder.loader.Loader`."""

    # prepared file, or folder of arrays
    path: str = MISSING
    # name of the joints' layout, or a YAML file that describes it
    layout: str = MISSING
    # channels of a joint: `xyz` in metres, `xy` in the picture, or `xyc` with the confidence. They must be those of the
    # data
    channels: Literal["xyz", "xy", "xyc"] = "xyz"
    # number of classes; with a label map, the number after mapping
    num_class: int = MISSING
    # largest number of bodies of a clip; further bodies are left out
    num_body: int = 2
    # share of the training clips that is held out for validation; 0 trains on all of them
    val_fraction: float = 0.1
    # key of the data (`subject`, `sequence`) whose groups of clips are held out whole; `random` holds out single clips
    val_by: str = "subject"
    # seed that draws the validation part
    val_seed: int = 0
    # share of each class's labels that is used, in training and validation part; above 0, up to 1
    label_fraction: float = 1.0
    # seed that draws the labelled clips
    label_seed: int = 0
    # CSV or YAML file that maps the data's classes to others
    label_map: str | None = None
    # draw equally many training clips of each class in an epoch, so that rare classes are learnt too
    balanced: bool = False
    # for arrays of other projects: number of the first class; null means 0 and refuses labels that start at 1
    first_label: int | None = None
    # where frames are kept: on the training device, in main memory, or (`none`) on disk, read by workers
    cache: Literal["device", "memory", "none"] = "device"
    # processes that read the clips; only with `cache: none`
    num_worker: int = 0


@dataclass
class ViewConfig:
    """How a clip becomes a network's input; see `feeder.views.View`. The stream is a key of the run."""

    # steps in time, in order; see the table of steps
    sampling: list[Any] = MISSING
    # what the coordinates are relative to; see the table of normalisations
    normalise: str = "none"
    # steps in space, in order; see the table of steps
    augment: list[Any] = field(default_factory=list)
    # for a second or later view: use the frames that the first view draws; both need the same `sampling`
    same_frames: bool = False


@dataclass
class OptimConfig:
    """Optimizer and learning-rate schedule; see `processor.optim`."""

    # SGD or AdamW; AdamW ignores `momentum` and `nesterov`
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # learning rate after the warm-up
    lr: float = 0.1
    # weight decay of the parameters that `decayed` selects
    weight_decay: float = 1e-4
    # parameters with weight decay: `all`, or only the `weights` of linear layers and convolutions (no biases, norms,
    # embeddings or learnt graphs)
    decayed: Literal["all", "weights"] = "all"
    # momentum of `sgd`
    momentum: float = 0.9
    # Nesterov momentum for `sgd`
    nesterov: bool = True
    # decay rates of `adamw` for its running means of gradients and of squared gradients
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    # layer-wise decay: each layer's learning rate is this factor times the rate of the layer after it; the head has
    # the full rate; below 1 only for encoders that define their layers
    layer_decay: float = 1.0
    # factors on the learning rates of the parts that the network names, such as `links` of AS-GCN
    lr_factor: dict[str, float] = field(default_factory=dict)
    # number of batches whose gradients are averaged in a step; the last step of an epoch may have fewer
    accumulate: int = 1
    # how the learning rate falls: at the epochs of `step`, along a cosine, or not at all
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    # epochs after which the `step` schedule multiplies the rate by `gamma`
    step: list[int] = field(default_factory=list)
    # factor of the `step` schedule
    gamma: float = 0.1
    # epochs in which the rate rises linearly from 0; a fraction is allowed
    warmup_epoch: float = 0
    # factor on `lr` at the end of the `cosine` schedule
    min_factor: float = 0.0
    # largest gradient norm; null leaves gradients alone
    grad_clip: float | None = None


@dataclass
class ProcessorConfig:
    """Keys shared by all processors."""

    # folder of the run's files
    work_dir: str = MISSING
    # split of the data, such as `xsub` or `xview`
    benchmark: str = MISSING
    # input of the network: joints, bones, or the motion of either between frames
    stream: Literal["joint", "bone", "motion", "bone_motion"] = "joint"
    # which clips
    data: DataConfig = field(default_factory=DataConfig)
    # class path of the network, such as `net.st_gcn.Model`
    model: str = MISSING
    # arguments of the network's constructor
    model_args: dict[str, Any] = field(default_factory=dict)
    # weights to start from, or to test
    weights: str | None = None
    # weights that are not loaded: patterns, or names of parts (`head`), which include all below them
    ignore_weights: list[str] = field(default_factory=list)

    # how a test or validation clip becomes the network's input
    test_view: ViewConfig = field(default_factory=ViewConfig)
    # clips of a training step, in each process
    batch_size: int = 64
    # clips of a step of evaluation
    test_batch_size: int = 256
    # views of a test clip whose scores are averaged; more than one makes sense if `test_view` draws at random
    test_repeat: int = 1
    # epochs of the whole run
    num_epoch: int = MISSING
    # smallest number of clips in an epoch; clips are repeated to reach it
    min_epoch_clip: int = 0
    # epochs of an exponential mean of the weights, which is evaluated and kept as `best.pt` in their place; null: none
    average_epoch: float | None = None
    # optimizer and learning rate
    optim: OptimConfig = field(default_factory=OptimConfig)

    # part of the data that selects the best epoch; `last` keeps the last epoch; `test` is for comparison only
    select: Literal["val", "last", "test"] = "val"
    # metric that selects the best epoch, such as `mean_class` or `loss`; null: the processor's default
    select_by: str | None = None
    # evaluators, which add metrics of the validation and test part: class paths, or `{path: {argument: value}}`
    evaluators: list[Any] = field(default_factory=list)
    # epochs between two evaluations of the validation part
    eval_interval: int = 1
    # seed of weights, batches and views
    seed: int = 0
    # `auto` (the GPU where there is one), `cpu`, `cuda`, `cuda:1`, …
    device: str = "auto"
    # precision of the network; views are always computed in float32
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    # run the network through `torch.compile`
    compile: bool = False
    # write TensorBoard's event files
    tensorboard: bool = True
    # two epochs of two batches, into `work_dir/debug`; `--debug` sets it
    debug: bool = False


@dataclass
class TrainViewKeys:
    """The key of the first or only view of a training clip."""

    # how a training clip becomes the network's input
    train_view: ViewConfig = field(default_factory=ViewConfig)


# Key, the test of its value, and the allowed values in words.
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
    ("average_epoch", lambda value: value is None or value > 0, "above 0, or null"),
    ("data.val_fraction", lambda value: 0 <= value < 1, "0 or more and below 1"),
    ("data.label_fraction", lambda value: 0 < value <= 1, "above 0, up to 1"),
    ("data.first_label", lambda value: value is None or value >= 0, "0 or more, or null"),
)
