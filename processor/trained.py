"""A trained network, from a checkpoint alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feeder.recordings.files import Recorded
from feeder.recordings.recording import RecordingError
from feeder.views import View
from net.method import Method
from net.utils.layouts import get_skeleton, override_layout
from net.utils.skeleton import Skeleton
from processor.config import ProcessorConfig
from processor.experiment import Experiment, set_precision
from processor.moved_configs import find_moved
from processor.table import PROCESSORS, task_class
from processor.views import view_of
from torchlight import build
from torchlight.checkpoint import CheckpointError, load_checkpoint
from torchlight.config import ConfigError, load_config, parse_config

# What a checkpoint may say of itself beside its config, what it is to be, and whether a value is that.
FACTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "class_names": ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value))),
    "skeleton": ("a mapping", lambda value: isinstance(value, dict)),
    "channels": ("a text such as 'xyz'", lambda value: _is_text(value) and value),
    "frame_rate": (
        "a number above 0",
        lambda value: isinstance(value, (int, float)) and 0 < value < math.inf,
    ),
    "bodies": ("a text", lambda value: _is_text(value)),
}
# Processors whose weights give an answer. A config that names none is tried in this order, the strictest first.
ANSWERING = ("recognition", "prediction", "finetune_evaluation", "linear_evaluation")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in eval mode, and what it was trained on.

    path: the checkpoint.
    name: of the processor that trained it, one of `ANSWERING`.
    experiment: that processor, without data.
    class_names: one per class.
    skeleton: of the joints.
    channels: of a joint, a letter each: "xyz".
    frame_rate: frames a second of its data; None where that is not known.
    bodies: how its data chose bodies; see `feeder.recordings.files`.
    unknown: what the checkpoint does not say, and what is taken instead: a sentence each.
    """

    path: Path
    name: str
    experiment: Experiment
    class_names: tuple[str, ...]
    skeleton: Skeleton
    channels: str
    frame_rate: float | None
    bodies: str
    unknown: tuple[str, ...]

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.experiment.model

    @property
    def method(self) -> Method:
        """What gives the network's answers."""
        return self.experiment.method

    @property
    def config(self) -> ProcessorConfig:
        """The config of its run."""
        return self.experiment.config

    def test_view(self) -> View:
        """The view of a test clip."""
        return view_of(self.config.test_view, self.config, self.skeleton, self.experiment.task.packages)

    def refuse_other_joints(self, recorded: Recorded) -> None:
        """Raise RecordingError if a recording has other joints or channels than the network takes."""
        found = recorded.skeleton
        if found is not None and found != self.skeleton:
            raise RecordingError(
                None,
                f"layout {found.name!r} ({found.num_joint} joints), but {self.path} was trained on "
                f"{self.skeleton.name!r} ({self.skeleton.num_joint} joints); "
                "use weights of the recording's layout, or map it with --to",
            )
        if recorded.channels != self.channels:
            raise RecordingError(
                None,
                f"channels {recorded.channels}, but {self.path} was trained on {self.channels}; use weights of the "
                "recording's kind",
            )


def load_trained(
    path: str | Path,
    *,
    config: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    plugins: Sequence[str] = (),
) -> Trained:
    """The network of a checkpoint, built and loaded.

    Args:
        path: `best.pt` of a run, or weights of another program.
        config: the YAML file of the run, for weights that hold none.
        class_names: one per class, for weights that hold none.
        device: as the config's key.
        plugins: packages beside the project's whose models may be built.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: the file is damaged, or no checkpoint.
        ConfigError: its config is wrong.
        ValueError: it holds no config and none is given; its network gives no answer; its weights do not fit.
    """
    content = load_checkpoint(path)
    name, settings = _read_config(content, path, config)
    known = _facts(content, path)
    # The files of the run, and workers for its data, are not there; nor is what else was made smaller for a trial.
    settings.device, settings.debug = device, False
    settings.data.cache, settings.data.num_worker = "memory", 0
    settings.evaluators = []
    # Configs before `data.channels` said nothing, and their checkpoints said it.
    settings.data.channels = known.get("channels", settings.data.channels)
    # A config that is named says which joints there are.
    stored = None if config is not None else known.get("skeleton")
    skeleton = stored or get_skeleton(settings.data.layout)
    experiment = Experiment(task_class(name)(settings, (*build.PACKAGES, *plugins)))
    set_precision(settings.precision)
    # The weights that are drawn are replaced. The layout may be a file, which need not be there.
    with torch.random.fork_rng(devices=[]), override_layout(settings.data.layout, skeleton):
        experiment.build("test")
    experiment.task.load_weights(experiment, str(path))
    in_channels_last(experiment.model)
    experiment.finish_network()
    experiment.method.eval()
    unknown = []
    names = known.get("class_names") if class_names is None else list(class_names)
    if names is None:
        names = [str(number) for number in range(settings.data.num_class)]
        unknown.append("names of classes, so their numbers are shown (--class_names FILE gives them)")
    elif len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two classes are called {twice!r}; give each a name of its own in --class_names")
    elif len(names) != settings.data.num_class:
        raise ValueError(f"{len(names)} class names, but {path} has {settings.data.num_class} classes")
    if "frame_rate" not in known:
        unknown.append("its frame rate, so recordings are taken at their own")
    return Trained(
        path=Path(path),
        name=name,
        experiment=experiment,
        class_names=tuple(names),
        skeleton=skeleton,
        channels=settings.data.channels,
        frame_rate=known.get("frame_rate"),
        bodies=known.get("bodies", "as given"),
        unknown=tuple(unknown),
    )


def _facts(content: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself by the keys of `FACTS`, if it does; the skeleton as one.

    Raises:
        CheckpointError: a value is of another kind.
    """
    found = {}
    for key, (allowed, is_allowed) in FACTS.items():
        value = content.get(key)
        if value is None:
            continue
        if not is_allowed(value):
            raise CheckpointError(
                f"{path}: {key} is {value!r}; it is {allowed}. Train again, or take another checkpoint"
            )
        found[key] = value
    if "skeleton" in found:
        try:
            found["skeleton"] = Skeleton.from_dict(found["skeleton"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: skeleton is none ({error}); take another checkpoint") from None
    return found


def as_array(poses: np.ndarray | Tensor) -> np.ndarray:
    """Poses as a NumPy array, from any device."""
    return poses.detach().cpu().numpy() if isinstance(poses, Tensor) else np.asarray(poses)


def in_channels_last(model: nn.Module) -> nn.Module:
    """The network with channels-last weights, so that no call converts them."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _read_config(
    content: dict[str, Any], path: str | Path, file: str | Path | None
) -> tuple[str, ProcessorConfig]:
    """Name of the processor and config of a checkpoint's content, or of the config `file` where one is given."""
    text = content.get("config")
    if file is None and not isinstance(text, str):
        raise ValueError(
            f"{path} holds weights without a config; name the YAML file that they were trained with by --config FILE"
        )
    said = content.get("processor") if file is None else None
    answers = said in ANSWERING if said in PROCESSORS else not _is_pretraining(text, file)
    if not answers:
        raise ValueError(
            f"{path} holds an encoder of pre-training, which has not learnt to name actions; train one on top of it "
            f"with main.py finetune_evaluation or linear_evaluation --weights {path}"
        )
    errors = []
    for name in (said,) if said in PROCESSORS else ANSWERING:
        schema = task_class(name).config_class
        try:
            if file is not None:
                return name, load_config(file, [], schema, find_moved=find_moved)
            return name, parse_config(text or "", f"config in {path}", schema)
        except ConfigError as error:
            errors.append(error)
    # The one that comes nearest.
    raise min(errors, key=lambda error: len(error.problems))


def _is_pretraining(text: str | None, file: str | Path | None) -> bool:
    schema = task_class("pretrain").config_class
    try:
        if file is not None:
            load_config(file, [], schema, find_moved=find_moved)
        else:
            parse_config(text or "", "", schema)
    except ConfigError:
        return False
    return True
