"""Loading the weights of an encoder: from a self-supervised method, a recognition run, or other programs."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from net.encoder import Encoder
from net.method import ENCODER_PREFIXES
from net.utils.skeleton import Skeleton
from net.whitening import Whitening
from processor.config import ProcessorConfig
from processor.state import changes, changes_since_training
from torchlight.checkpoint import WeightsError, load_checkpoint, load_weights, state_dict_of

PROBE_WEIGHT = "linear.weight"


class Probe(nn.Module):
    """A linear classifier on standardised or whitened features. Its weights start at zero."""

    def __init__(self, feature_dim: int, num_class: int) -> None:
        super().__init__()
        self.whitening = Whitening(feature_dim)
        self.linear = nn.Linear(feature_dim, num_class)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """From features (N, D) to scores (N, num_class), in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return self.linear(self.whitening(x.float()))

    @torch.no_grad()
    def as_linear(self) -> tuple[Tensor, Tensor]:
        """Weight (num_class, D) and bias (num_class,) of the equivalent linear layer without whitening."""
        weight = self.linear.weight @ self.whitening.basis.T
        return weight, self.linear.bias - weight @ self.whitening.mean


def encoder_of(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The encoder's weights out of those of a self-supervised method; other weights are returned unchanged.

    model: gets the weights; a prefix that its own parts have is not removed.
    """
    own = list(model.state_dict())
    for prefix in ENCODER_PREFIXES:
        if any(key.startswith(prefix) for key in own):
            continue
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if inner:
            return inner
    return state


def translate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that `model` has for them; of a self-supervised method, only the encoder's.

    The probe of a linear evaluation becomes the equivalent linear head, unless the head of `model` is a `Probe`.
    """
    if not isinstance(model, Encoder):
        return encoder_of(state, model)
    # Translate first: names in AS-GCN's published file of links begin with `encoder.`, as a method's encoder does.
    state = model.translate(encoder_of(model.translate(state), model))
    if not model.has_head or isinstance(model.head, Probe):
        return state
    return _with_linear_head(model, state)


def _with_linear_head(model: Encoder, state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{model.HEAD}."
    of_head = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if PROBE_WEIGHT not in of_head:
        return state
    num_class, width = of_head[PROBE_WEIGHT].shape
    probe = Probe(width, num_class)
    probe.load_state_dict(of_head)
    weight, bias = probe.as_linear()
    shape = model.head.get_parameter("weight").shape
    # For another number of classes the shape stays: loading then fails with an error that names it.
    weight = weight.view(shape) if weight.numel() == shape.numel() else weight
    rest = {key: value for key, value in state.items() if not key.startswith(prefix)}
    return {**rest, f"{prefix}weight": weight, f"{prefix}bias": bias}


def check_layout(path: str, skeleton: Skeleton) -> None:
    """Raise ValueError if the weights at `path` state joints other than those of `skeleton`."""
    content = load_checkpoint(path)
    stated = content.get("skeleton")
    if not isinstance(stated, dict):  # weights of another program
        return
    trained = Skeleton.from_dict(stated)
    if trained.joints != skeleton.joints:
        raise ValueError(
            f"{path} was trained on layout {trained.name!r} ({trained.num_joint} joints), the data has "
            f"{skeleton.name!r} ({skeleton.num_joint} joints); name weights of this layout"
        )


def ignored_keys(model: nn.Module, keys: Iterable[str]) -> list[str]:
    """The keys of weights for optional parts that the encoders in `model` were built without."""
    patterns = [
        f"{name}.{pattern}" if name else pattern
        for name, part in model.named_modules()
        if isinstance(part, Encoder)
        for pattern in part.ignored_keys()
    ]
    return [key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)]


def load_translated(model: nn.Module, path: str, *, ignore: Sequence[str] = ()) -> None:
    """Load weights, also under the names of other programs or of a self-supervised method.

    Weights of optional parts that the network was built without are ignored.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """

    def fit(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = translate(model, state)
        unused = set(ignored_keys(model, state))
        return {key: value for key, value in state.items() if key not in unused}

    load_weights(model, path, ignore=ignore, translate=fit)


# Beginnings of config keys that change what a network computes, but the shape of no weight.
SAME_SHAPE = ("model_args.padding_mode ", "model_args.num_head ")
# Those that do not explain why an encoder's weights do not fit.
NO_REASON = (*SAME_SHAPE, "model_args.drop", "model_args.num_class ")


def explained(error: WeightsError, config: ProcessorConfig) -> WeightsError:
    """The error of a config's `weights` that do not fit, with the settings of the network that differ, if any do."""
    assert config.weights is not None
    changed = [
        change
        for change in changes_since_training(load_checkpoint(config.weights), config)
        if change.startswith(("model ", "model_args.")) and not change.startswith(NO_REASON)
    ]
    if not changed:
        return error
    differences = "; ".join(changed)
    remedy = (
        f"the weights were trained in another network: {differences}. Set it as it was, or name other weights"
    )
    return WeightsError(error.found, remedy)


def load_encoder(model: Encoder, path: str, *, ignore: Sequence[str] = ()) -> None:
    """Load all weights except the head's. The head keeps its values, and the file need not hold any for it.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """
    load_translated(model, path, ignore=[*ignore, model.HEAD])


def load_head(model: Encoder, path: str) -> None:
    """Load the head only; the file may hold other weights too.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """
    rest = [key for key in model.state_dict() if not key.startswith(f"{model.HEAD}.")]
    load_translated(model, path, ignore=rest)


# Config keys that decide which labels a head is trained on.
LABEL_KEYS = (
    "benchmark ",
    "data.label_",
    "data.val_",
)


def has_head_for(config: ProcessorConfig, model: Encoder) -> bool:
    """Whether `weights` of a config are of a linear evaluation whose head this run can start from.

    False if `ignore_weights` names the head, or if the linear evaluation had another number of classes.

    Raises:
        ValueError: the head was trained on other labels than this run uses.
    """
    assert config.weights is not None
    content = load_checkpoint(config.weights)
    weight = state_dict_of(content, config.weights).get(f"{model.HEAD}.{PROBE_WEIGHT}")
    if weight is None or len(weight) != config.data.num_class or model.HEAD in config.ignore_weights:
        return False
    made_with = content.get("config", "")
    other = [change for change in changes(made_with, config) if change.startswith(LABEL_KEYS)]
    if other:
        raise ValueError(
            f"{config.weights} is a linear evaluation that was trained on other labels ({'; '.join(other)}); "
            f"name one with the same labels, or load only its encoder with ignore_weights=[{model.HEAD}]"
        )
    return True
