"""What a run does with its data: a task, which `processor.processor.Processor` is given."""

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
from processor import io, labels, optim
from processor.config import RANGES, OptimConfig, ProcessorConfig, Range, ViewConfig
from processor.evaluation import Evaluation
from processor.losses import LossPlan
from processor.schedule import Phase
from torchlight import build
from torchlight.build import Problem

if TYPE_CHECKING:
    from processor.experiment import Experiment
    from processor.processor import Processor


class Task:
    """A network, the views that it is shown, what a batch's losses are, and how the network is judged.

    A subclass gives `config_class`, and replaces what differs from class scores that are learnt from labels. The run is
    handed to whatever needs it.
    """

    config_class: ClassVar[type[ProcessorConfig]] = ProcessorConfig
    # what `model` must be, whether there must be `weights`, and what numbers of the config must be
    model_class: ClassVar[type] = object
    needs_weights: ClassVar[bool] = False
    ranges: ClassVar[tuple[Range, ...]] = RANGES
    # whether it has epochs; else a run is its test
    trains: ClassVar[bool] = True
    # figures that can select the epoch; the first one where the config names none
    figures: ClassVar[tuple[str, ...]] = ("top1", "top5", "mean_class", "loss")
    # figures that are better where they are smaller
    falling: ClassVar[tuple[str, ...]] = ("loss", "mpjpe")
    # whether it gives class scores, by which recordings are answered
    names_actions: ClassVar[bool] = True
    # what of a config should be as it was when the weights to be tested were trained
    input_keys: ClassVar[tuple[str, ...]] = ("stream ", "test_view.", "data.label_map ", "data.num_body ")

    # the losses of a task that trains by those of a method; None for one that does not
    plan: LossPlan | None = None

    def __init__(self, config: ProcessorConfig, packages: Sequence[str]) -> None:
        self.config = config
        self.packages = packages

    # -- before data is touched ------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """What is wrong with the config beside what `processor.checks` finds in that of any task."""
        return [] if self.plan is None else self.plan.problems()

    def hidden_frames(self) -> dict[str, int] | None:
        """Of each view that may end with frames that are not seen, by its dotted key, how many these then are.

        None if that cannot be told, as the config names no class that there is.
        """
        return {} if self.plan is None else self.plan.hidden_frames()

    # -- data and network ------------------------------------------------------------------------------------

    def parts(self, source: Prepared | ArrayFolder, phase: str) -> list[Part]:
        """The parts of the data that a phase, "train" or "test", needs."""
        if phase == "test":
            return ["test"]
        return ["test", "train", "val"] if self.config.data.val_fraction > 0 else ["test", "train"]

    def views(self, part: Part) -> list[ViewConfig]:
        """The views that a batch of a part has."""
        if part == "train" and self.plan is not None:
            return self.plan.shown_views()
        return [self.config.test_view] * self.config.test_repeat

    def num_future(self, run: "Experiment", part: Part) -> int | None:
        """Frames at the end of a part's views that are the future; None for as many as their sampling has ahead."""
        return self.plan.num_future() if part == "train" and self.plan is not None else None

    def feeder(self, run: "Experiment", part: Part, **changes: Any) -> Feeder:
        """The clips that the task takes of a part. `changes` replace keys of the config's `data`."""
        return run.open_feeder(part, **changes)

    def phases(self) -> list[Phase]:
        """The parts of a run, one after another, each with an optimizer of its own; epochs are judged in the last."""
        if self.plan is not None:
            return self.plan.phases()
        return [Phase(0, self.config.num_epoch, self.config.optim)]

    def build_model(self) -> nn.Module:
        """The network named by the config, whose weights a checkpoint holds: the method, where there is one."""
        model = self.adapt_model(self.build_from("model"))
        return model if self.plan is None else self.plan.build(self, model)

    def adapt_model(self, model: nn.Module) -> nn.Module:
        """What the task makes of `model` first: it may put a head on it."""
        return model

    def build_from(self, key: str, **provided: Any) -> Any:
        """The class that the config names under a key, with its arguments there and what the program provides.

        Raises ValueError: an argument is out of range; the key is named.
        """
        args = getattr(self.config, f"{key}_args")
        try:
            return build.build(getattr(self.config, key), args, packages=self.packages, **provided)
        except ValueError as error:
            raise ValueError(f"{key}_args: {error}") from error

    def build_method(self, model: nn.Module, phase: str) -> Method:
        """What trains the model in a phase, and gives its answers."""
        return as_method(model)

    def load_weights(self, run: "Experiment", path: str) -> None:
        """Put the weights that the config names into the network; names of other programs are known.

        Labels that a method has kept may be of other classes, and are dropped.
        """
        run.load_translated(path)
        self.build_method(run.model, run.phase).forget_labels()

    def opened(self, run: "Experiment") -> None:
        """Called where data and network stand, before anything is trained, extracted or written."""

    def prepare(self, run: "Processor") -> None:
        """Called before the first epoch: whatever training needs and takes time to make."""

    # -- training --------------------------------------------------------------------------------------------

    def step(self, run: "Processor", batch: Batch) -> dict[str, Tensor]:
        """Named losses of one batch; their sum is minimised. Here the cross-entropy alone."""
        return labels.step(run, batch)

    def parameter_groups(self, run: "Processor", settings: OptimConfig) -> list[optim.Group]:
        """What the optimizer changes, and how fast."""
        return [optim.Group(run.network.parameters(), settings.lr)]

    def train_mode(self, run: "Processor") -> None:
        """Put the network into the mode of training."""
        run.network.train()

    def start_epoch(self, run: "Processor", epoch: int) -> None:
        """Called before an epoch, counted from 0."""

    def review(self, run: "Processor", row: Mapping[str, float]) -> None:
        """Called with the figures of each epoch, to warn of what they show: here that nothing is learnt."""
        labels.review(run, row)

    def warnings(self, run: "Processor") -> list[str]:
        """About settings that are probably not intended."""
        return [] if self.plan is None else self.plan.warnings(run)

    # -- figures ---------------------------------------------------------------------------------------------

    def evaluate(self, run: "Processor", loader: Loader) -> Evaluation:
        """Figures and arrays over all clips of a part; here those of class scores."""
        return labels.evaluate(run, loader)

    def save_evaluation(self, run: "Processor", work_dir: Path, evaluation: Evaluation) -> None:
        """Write the test part's arrays, tables and figures; here those of class scores."""
        io.save_classification(work_dir, {**evaluation.arrays, "class_name": np.asarray(run.class_names)})

    def examine(self, run: "Processor", work_dir: Path, evaluation: Evaluation) -> dict[str, Any]:
        """Look further into the test part than `evaluation` did; returns what `result.json` says of that."""
        return {}

    def result(self, run: "Processor") -> dict[str, Any]:
        """What `result.json` says of the run beside its figures."""
        return {} if self.plan is None else self.plan.result()
