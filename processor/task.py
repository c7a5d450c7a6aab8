"""Base class of tasks, which tell `processor.processor.Processor` what to do with network and data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn

from feeder.arrays import ArrayFolder
from feeder.feeder import Feeder, Part
from feeder.loader import Loader
from feeder.prepared import Prepared
from net.method import Method, as_method
from net.utils.clip import Batch
from processor import classification, io, optim
from processor.config import RANGES, OptimConfig, ProcessorConfig, Range, ViewConfig
from processor.evaluation import Evaluation
from processor.loss_plan import LossPlan
from processor.metrics import CLASSIFICATION_METRICS
from processor.schedule import Phase
from torchlight import build
from torchlight.build import Problem

if TYPE_CHECKING:
    from processor.experiment import Experiment
    from processor.processor import Processor


class Task:
    """Defines a run's network, its views, the losses of a batch, and the evaluation.

    The methods of this class are those of supervised classification. A subclass sets `config_class`, and replaces the
    methods that differ. Methods get the run as an argument where they need it.
    """

    config_class: ClassVar[type[ProcessorConfig]] = ProcessorConfig
    # base class that `model` must have
    model_class: ClassVar[type] = object
    # whether `weights` must be given
    needs_weights: ClassVar[bool] = False
    # allowed values of numbers in the config
    ranges: ClassVar[tuple[Range, ...]] = RANGES
    # whether the task has epochs; otherwise a run only tests
    trains: ClassVar[bool] = True
    # metrics that can select the epoch; the first one is the default
    metrics: ClassVar[tuple[str, ...]] = (*CLASSIFICATION_METRICS, "loss")
    lower_is_better: ClassVar[tuple[str, ...]] = ("loss",)
    # whether the network gives class scores, so that it can recognise recordings
    names_actions: ClassVar[bool] = True
    # beginnings of config keys that should not change between training and a test of the weights
    input_keys: ClassVar[tuple[str, ...]] = ("stream ", "test_view.", "data.label_map ", "data.num_body ")

    # the losses of a task that trains with a method's losses; None for other tasks
    plan: LossPlan | None = None

    def __init__(self, config: ProcessorConfig, packages: Sequence[str]) -> None:
        self.config = config
        self.packages = packages

    # -- before data is touched ------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """Problems of the config in addition to those that `processor.checks` finds for any task."""
        return [] if self.plan is None else self.plan.problems()

    def hidden_frames(self) -> dict[str, int] | None:
        """For each view that may end with unseen frames, by its dotted key, the number of these frames.

        None if unknown, because the config names an unknown class.
        """
        return {} if self.plan is None else self.plan.hidden_frames()

    # -- data and network ------------------------------------------------------------------------------------

    def parts(self, source: Prepared | ArrayFolder, phase: str) -> list[Part]:
        """The parts of the data that a phase, "train" or "test", needs."""
        if phase == "test":
            return ["test"]
        return ["test", "train", "val"] if self.config.data.val_fraction > 0 else ["test", "train"]

    def views(self, part: Part) -> list[ViewConfig]:
        """The views in a batch of a part."""
        if part == "train" and self.plan is not None:
            return self.plan.shown_views()
        return [self.config.test_view] * self.config.test_repeat

    def num_future(self, run: "Experiment", part: Part) -> int | None:
        """Number of future frames at the end of a part's views; None for `num_ahead` of their sampling."""
        return self.plan.num_future() if part == "train" and self.plan is not None else None

    def feeder(self, run: "Experiment", part: Part, **changes: Any) -> Feeder:
        """The clips of a part that the task uses. `changes` replace keys of the config's `data`."""
        return run.open_feeder(part, **changes)

    def phases(self) -> list[Phase]:
        """The phases of a run, in order, each with an optimizer of its own; only epochs of the last are evaluated."""
        if self.plan is not None:
            return self.plan.phases()
        return [Phase(0, self.config.num_epoch, self.config.optim)]

    def build_model(self) -> nn.Module:
        """The network whose weights a checkpoint holds: the config's method, or without one its model."""
        model = self.adapt_model(self.build_from("model"))
        return model if self.plan is None else self.plan.build(self, model)

    def adapt_model(self, model: nn.Module) -> nn.Module:
        """The model after changes by the task, such as a new head."""
        return model

    def build_from(self, key: str, **provided: Any) -> Any:
        """Build the class that the config names under a key, with the config's arguments and the `provided` ones.

        Raises ValueError: an argument is out of range; the message names the key.
        """
        args = getattr(self.config, f"{key}_args")
        try:
            return build.build(getattr(self.config, key), args, packages=self.packages, **provided)
        except ValueError as error:
            raise ValueError(f"{key}_args: {error}") from error

    def build_method(self, model: nn.Module, phase: str) -> Method:
        """The method that trains the model in a phase ("train" or "test"), and gives its answers."""
        return as_method(model)

    def load_weights(self, run: "Experiment", path: str) -> None:
        """Load the config's weights into the network, also under the names of other programs.

        Drops labels that a method has stored: they may be of other classes.
        """
        run.load_translated(path)
        self.build_method(run.model, run.phase).forget_labels()

    def opened(self, run: "Experiment") -> None:
        """Called when data and network are ready, before anything is trained, extracted or written."""

    def prepare(self, run: "Processor") -> None:
        """Called before the first epoch, for slow preparations such as the extraction of features."""

    # -- training --------------------------------------------------------------------------------------------

    def step(self, run: "Processor", batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch by name; training minimises their sum. Here only the cross-entropy."""
        return classification.step(run, batch)

    def parameter_groups(self, run: "Processor", settings: OptimConfig) -> list[optim.Group]:
        """Groups of the parameters to train, with their learning rates."""
        return [optim.Group(run.network.parameters(), settings.lr)]

    def train_mode(self, run: "Processor") -> None:
        """Put the network into training mode."""
        run.network.train()

    def start_epoch(self, run: "Processor", epoch: int) -> None:
        """Called before an epoch, counted from 0."""

    def review(self, run: "Processor", row: Mapping[str, float]) -> None:
        """Called with the metrics of each epoch, to log warnings: here that the network learns nothing."""
        classification.review(run, row)

    def warnings(self, run: "Processor") -> list[str]:
        """Warnings about settings that are probably not intended."""
        return [] if self.plan is None else self.plan.warnings(run)

    # -- metrics ---------------------------------------------------------------------------------------------

    def evaluate(self, run: "Processor", loader: Loader) -> Evaluation:
        """Metrics and arrays over all clips of a part; here those of class scores."""
        return classification.evaluate(run, loader)

    def save_evaluation(self, run: "Processor", work_dir: Path, evaluation: Evaluation) -> None:
        """Write the test part's arrays, tables and figures; here those of class scores."""
        io.save_classification(work_dir, {**evaluation.arrays, "class_name": np.asarray(run.class_names)})

    def examine(self, run: "Processor", work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """Examine the test part beyond `evaluate`; returns further entries of `result.json`."""
        return {}

    def result(self, run: "Processor") -> dict[str, Any]:
        """Entries of `result.json` about the run, in addition to its metrics."""
        return {} if self.plan is None else self.plan.result()
