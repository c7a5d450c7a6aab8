"""A trained network, loaded from a checkpoint."""

import math
import shlex
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
from processor.registry import PROCESSORS, task_class
from processor.views import view_of
from torchlight import build
from torchlight.checkpoint import CheckpointError, load_checkpoint
from torchlight.config import ConfigError, load_config, parse_config

# Optional entries of a checkpoint: key -> (allowed values in words, test of a value).
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
# Processors whose weights can answer. A config that names no processor is tried in this order, the strictest first.
ANSWERING = ("recognition", "prediction", "finetune_evaluation", "linear_evaluation")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in eval mode, and facts about its training.

    path: the checkpoint.
    name: of the processor that trained it, one of `ANSWERING`.
    experiment: of that processor, without data.
    class_names: one per class.
    skeleton: of the joints.
    channels: of a joint, one letter each, such as "xyz".
    frame_rate: frames a second of the training data; None if unknown.
    bodies: how bodies were chosen in the training data; see `feeder.recordings.files`.
    unknown: facts that the checkpoint lacks, and what is used instead: a sentence each.
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
        """The method, which gives the network's answers."""
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
        config: the YAML file of the run, for weights without a config.
        class_names: one per class, for weights without class names.
        device: see the config's key.
        plugins: further packages whose classes the config may name.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or no checkpoint.
        ConfigError: its config is wrong.
        ValueError: there is no config; the network gives no answers; weights or class names do not fit.
    """
    content = load_checkpoint(path)
    name, settings = _read_config(content, path, config)
    known = _facts(content, path)
    # Settings that depend on the files of the run, and debug mode, have no use here.
    settings.device, settings.debug = device, False
    settings.data.cache, settings.data.num_worker = "memory", 0
    settings.evaluators = []
    # Configs of earlier versions have no `data.channels`, but their checkpoints have the channels.
    settings.data.channels = known.get("channels", settings.data.channels)
    # The layout of a given config takes precedence over the stored skeleton.
    stored = None if config is not None else known.get("skeleton")
    skeleton = stored or get_skeleton(settings.data.layout)
    experiment = Experiment(task_class(name)(settings, (*build.PACKAGES, *plugins)))
    set_precision(settings.precision)
    # Random initial weights are replaced, so the generator's state is kept. A layout file need not exist here.
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
        raise ValueError(f"two classes have the name {twice!r}; give different names with --class_names")
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
    """The entries `FACTS` of a checkpoint that it has; `skeleton` as a Skeleton.

    Raises:
        CheckpointError: a value is not allowed.
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
            raise CheckpointError(
                f"{path}: skeleton is not valid ({error}); take another checkpoint"
            ) from None
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
    """Name of the processor, and config: of a checkpoint's content, or of the config `file` if given."""
    text = content.get("config")
    if file is None and not isinstance(text, str):
        raise ValueError(
            f"{path} holds weights without a config; name the YAML file of their training with --config FILE"
        )
    processor = content.get("processor") if file is None else None
    answers = processor in ANSWERING if processor in PROCESSORS else not _is_pretraining(text, file)
    if not answers:
        raise ValueError(
            f"{path} holds a pre-trained encoder, which cannot recognise actions; train a classifier on it "
            f"with main.py finetune_evaluation or linear_evaluation --weights {shlex.quote(str(path))}"
        )
    errors = []
    for name in (processor,) if processor in PROCESSORS else ANSWERING:
        schema = task_class(name).config_class
        try:
            if file is not None:
                return name, load_config(file, [], schema, find_moved=find_moved)
            return name, parse_config(text or "", f"config in {path}", schema)
        except ConfigError as error:
            errors.append(error)
    # The error of the closest config class.
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
