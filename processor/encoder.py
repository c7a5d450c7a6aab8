"""Taking over an encoder: of a self-supervised method, of a recognition run, of other programs."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from net.encoder import Encoder
from net.whitening import Whitening
from processor.config import ProcessorConfig
from processor.state import changes
from torchlight.checkpoint import load_checkpoint, load_weights, state_dict_of

PROBE_WEIGHT = "linear.weight"


class Probe(nn.Module):
    """A linear layer on features (N, D), standardised or whitened: (N, num_class). It begins at zero."""

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
        """Weight (num_class, D) and bias (num_class,) of one linear layer that does the same."""
        weight = self.linear.weight @ self.whitening.basis.T
        return weight, self.linear.bias - weight @ self.whitening.mean


def encoder_of(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """From the weights of a self-supervised method those of its encoder; weights of anything else as they are.

    model: what they are for; if it has parts of such names itself, nothing is taken apart.
    """
    own = list(model.state_dict())
    for prefix in ("encoder_q.", "encoder."):
        if any(key.startswith(prefix) for key in own):
            continue
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if inner:
            return inner
    return state


def translate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of `model`: of a self-supervised method, those of its encoder.

    The probe of a linear evaluation becomes the linear head that it amounts to, unless the model has one itself.
    """
    if not isinstance(model, Encoder):
        return encoder_of(state, model)
    # AS-GCN's published links are a file of their own, and begin with `encoder.`, as a method's encoder does.
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
    # A head of another number of classes keeps its shape, for the error that lists it.
    weight = weight.view(shape) if weight.numel() == shape.numel() else weight
    rest = {key: value for key, value in state.items() if not key.startswith(prefix)}
    return {**rest, f"{prefix}weight": weight, f"{prefix}bias": bias}


def left_out(model: nn.Module, keys: Iterable[str]) -> list[str]:
    """Those keys of weights that belong to parts which the encoders in `model` were built without."""
    patterns = [
        f"{name}.{pattern}" if name else pattern
        for name, part in model.named_modules()
        if isinstance(part, Encoder)
        for pattern in part.left_out()
    ]
    return [key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)]


def load_translated(model: nn.Module, path: str, *, ignore: Sequence[str] = ()) -> None:
    """Load weights under whatever names other programs, or a self-supervised method, gave them.

    Those of parts that the network was built without are not used.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """

    def fit(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = translate(model, state)
        unused = set(left_out(model, state))
        return {key: value for key, value in state.items() if key not in unused}

    load_weights(model, path, ignore=ignore, translate=fit)


def load_encoder(model: Encoder, path: str, *, ignore: Sequence[str] = ()) -> None:
    """Load all but the head, which keeps its values and whose weights the file may have or not.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """
    load_translated(model, path, ignore=[*ignore, model.HEAD])


def load_head(model: Encoder, path: str) -> None:
    """Load the head alone; the file may hold the rest, too.

    Raises FileNotFoundError, CheckpointError and WeightsError as `torchlight.checkpoint.load_weights` does.
    """
    rest = [key for key in model.state_dict() if not key.startswith(f"{model.HEAD}.")]
    load_translated(model, path, ignore=rest)


# What decides whose labels a head has learnt from.
LABEL_KEYS = (
    "benchmark ",
    "data.label_",
    "data.val_",
)


def has_head_for(config: ProcessorConfig, model: Encoder) -> bool:
    """Whether the weights that a config names are of a linear evaluation whose head a run may go on from.

    They are not where `ignore_weights` names the head, or the linear evaluation was of another number of classes.

    Raises:
        ValueError: it has learnt from other labels than this run may use.
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
            f"{config.weights} is a linear evaluation with other labels ({'; '.join(other)}), which this run is not to "
            f"know; name one with the same, or take its encoder alone with ignore_weights=[{model.HEAD}]"
        )
    return True
