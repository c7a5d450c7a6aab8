"""Taking over an encoder: of a self-supervised method, of a recognition run, of other programs."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from net.contrast import encoder_of
from net.utils.backbone import Backbone
from processor.config import ProcessorConfig
from torchlight.build import Problem, import_class
from torchlight.checkpoint import load_weights


def translate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of `model`; of a self-supervised method, those of its encoder."""
    state = encoder_of(state)
    return model.translate(state) if isinstance(model, Backbone) else state


def load_encoder(model: Backbone, path: str, *, ignore: Sequence[str] = ()) -> None:
    """Load all but the head, which keeps its values and whose weights the file may have or not.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """
    load_weights(model, path, ignore=[*ignore, model.HEAD], translate=partial(translate, model))


def check_class_is(key: str, path: str, base: type, packages: Sequence[str]) -> list[Problem]:
    """A problem if the class at `path`, which must be importable, is not a subclass of `base`."""
    found = import_class(path, packages)
    if issubclass(found, base):
        return []
    return [Problem(key, f"{path} is no {base.__module__}.{base.__qualname__}")]


def check_backbone(
    config: ProcessorConfig, packages: Sequence[str], problems: Sequence[Problem]
) -> list[Problem]:
    """A problem if `model` is no backbone; nothing where `problems` already has one of it."""
    if any(problem.key == "model" for problem in problems):
        return []
    return check_class_is("model", config.model, Backbone, packages)
