"""What every processor can be told: the keys of a config file, their types and their defaults."""

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
    # what the numbers of a joint are: x, y, z in metres; x, y in the picture, perhaps with confidence; a prepared file
    # must agree, and of arrays with three channels this says which
    channels: Literal["xyz", "xy", "xyc"] = "xyz"
    # number of classes; where there is a label map, of its targets
    num_class: int = MISSING
    # bodies of a clip that are used; further ones are left out
    num_body: int = 2
    # share of the training clips that is held out for validation; 0 trains on all of them
    val_fraction: float = 0.1
    # what is held out whole: a key of the data (`subject`, `sequence`); `random` holds out single clips
    val_by: str = "subject"
    # seed that draws the validation part
    val_seed: int = 0
    # share of each class's labels that is used, in the validation part too; above 0, up to 1
    label_fraction: float = 1.0
    # seed that draws the labelled clips
    label_seed: int = 0
    # CSV or YAML file that maps the data's classes to others
    label_map: str | None = None
    # an epoch has equally many training clips of each class, so that rare classes are learnt, too
    balanced: bool = False
    # for arrays of other projects: number of the first class; null: 0, and labels from 1 are refused
    first_label: int | None = None
    # where the frames are kept: on the training device, in main memory, or on disk, read by workers
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
    # for a view beside others: use the frames that the first view draws; its sampling must be equal
    same_frames: bool = False


@dataclass
class OptimConfig:
    """Optimizer and learning-rate schedule; see `processor.optim`."""

    # SGD, or AdamW, which has no use for `momentum` and `nesterov`
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # learning rate after the warm-up
    lr: float = 0.1
    # weight decay, of the parameters that `decayed` says
    weight_decay: float = 1e-4
    # which parameters decay: all, or the weights of linear layers and convolutions alone, not biases, norms,
    # embeddings and learnt graphs
    decayed: Literal["all", "weights"] = "all"
    # momentum of `sgd`
    momentum: float = 0.9
    # Nesterov momentum for `sgd`
    nesterov: bool = True
    # share of the running means of gradients and of their squares that `adamw` keeps in a step
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    # share of a layer's rate at which the layer before it learns; the head has the full rate, the last layer of the
    # encoder the share of it; below 1 only for encoders that say their layers
    layer_decay: float = 1.0
    # factors on the rates of parts of the network that it names, such as `links` of AS-GCN
    lr_factor: dict[str, float] = field(default_factory=dict)
    # batches whose gradients are averaged in a step of the optimizer; the last step of an epoch may have fewer
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
    # what of the skeleton is the input: joints, bones, or the movement of either
    stream: Literal["joint", "bone", "motion", "bone_motion"] = "joint"
    # which clips
    data: DataConfig = field(default_factory=DataConfig)
    # class path of the network, such as `net.st_gcn.Model`
    model: str = MISSING
    # arguments of the network's constructor
    model_args: dict[str, Any] = field(default_factory=dict)
    # weights to start from, or to test
    weights: str | None = None
    # weights that are not loaded: names, with all below them (`head`), or patterns
    ignore_weights: list[str] = field(default_factory=list)

    # how a test or validation clip is shown
    test_view: ViewConfig = field(default_factory=ViewConfig)
    # clips of a training step, in each process
    batch_size: int = 64
    # clips of a step of evaluation
    test_batch_size: int = 256
    # views of a test clip whose scores are averaged; more than one is of use where `test_view` draws at random
    test_repeat: int = 1
    # epochs of the whole run
    num_epoch: int = MISSING
    # clips that an epoch has at least; where there are fewer, they are repeated
    min_epoch_clip: int = 0
    # optimizer and learning rate
    optim: OptimConfig = field(default_factory=OptimConfig)

    # whose best epoch is kept: the validation part's; `last` keeps the last epoch; `test` is for comparison only
    select: Literal["val", "last", "test"] = "val"
    # figure of that part which selects, such as `mean_class` or `loss`; null: the processor's own
    select_by: str | None = None
    # further figures of the validation and the test part: class paths of evaluators, or `{path: {argument: value}}`
    evaluators: list[Any] = field(default_factory=list)
    # epochs between two evaluations of the validation part
    eval_interval: int = 1
    # seed of weights, batches and views
    seed: int = 0
    # `auto` (the GPU where there is one), `cpu`, `cuda`, `cuda:1`, …
    device: str = "auto"
    # arithmetic of the network; views are made in float32 in any case
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    # run the network through `torch.compile`
    compile: bool = False
    # write TensorBoard's event files
    tensorboard: bool = True
    # two epochs of two batches, into `work_dir/debug`; `--debug` sets it
    debug: bool = False


@dataclass
class TrainViewKeys:
    """A key of tasks that see a training clip in one view, or one before others."""

    # how a training clip is shown
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
