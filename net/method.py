"""The interface of methods: how an encoder is trained, by class labels, self-supervision, or several losses.

N clips, C channels, T frames, P future frames, V joints, M bodies.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from net.encoder import Encoder
from net.utils.clip import Batch, Clip

# What a loss can need of the data: future frames; poses, not a motion stream; the same frames in all views.
FUTURE, POSES, SAME_FRAMES = "future", "poses", "same_frames"


class Loss(NamedTuple):
    """A loss that a method declares. The checks of configs follow from these declarations.

    name: the name in a schedule.
    num_view: number of views of a clip that it takes.
    needs: some of `FUTURE`, `POSES` and `SAME_FRAMES`.
    label: whether labels change its value.
    weight: in pre-training without a schedule; 0 if the loss is then not used.
    """

    name: str
    num_view: int = 1
    needs: tuple[str, ...] = ()
    label: bool = False
    weight: float = 0.0


# A method gives only the scores for this loss. The processor, which knows the targets, computes it.
CROSS_ENTROPY = Loss("cross_entropy", label=True)

# Beginnings of the names that methods with one encoder give its weights; AimCLR's is the first.
ENCODER_PREFIXES = ("encoder_q.", "encoder.")


class Output(NamedTuple):
    """The result of a method for a batch.

    losses: by name, each ().
    scores: (N, num_class), if the cross-entropy is wanted.
    embedding: (n, E) of clips or bodies, if the method has one. Its spread shows a collapse; see `net.loss.spread`.
    """

    losses: dict[str, Tensor]
    scores: Tensor | None = None
    embedding: Tensor | None = None


class Method(nn.Module):
    """A way to train an encoder.

    A subclass gives `LOSSES`, `forward` and the attribute `encoder`. Its constructor takes the encoder as
    `base_encoder`.
    """

    LOSSES: ClassVar[tuple[Loss, ...]] = ()
    # The class of encoders that the method accepts, and whether the method also gives the encoder's own losses.
    ENCODER: ClassVar[type[Encoder]] = Encoder
    ENCODER_LOSSES: ClassVar[bool] = False
    encoder: Encoder
    # P, the number of frames that `forecast` gives; 0 for a method that predicts no poses.
    num_predict: int = 0

    @property
    def varies_batch(self) -> bool:
        """Whether the batch size of the convolutions changes from call to call."""
        return self.encoder.varies_batch

    @property
    def has_unused_parameters(self) -> bool:
        """Whether some parameters have no gradient in some steps."""
        return bool(self.encoder.LOSSES)

    def missing_losses(self, active: Collection[str]) -> tuple[str, ...]:
        """Names of the losses without which parts of the encoder stay untrained; () if one of them is in `active`.

        active: names of the losses that have a weight in some phase.
        """
        own = tuple(loss.name for loss in self.encoder.LOSSES) if self.encoder.needs_own_losses else ()
        return () if set(own) & set(active) else own

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """The wanted losses, no others, and class scores if the cross-entropy is wanted."""
        raise NotImplementedError

    def scores(self, clip: Clip) -> Tensor:
        """Class scores (N, num_class)."""
        return self.encoder(*clip)

    def forecast(self, clip: Clip) -> Tensor:
        """The next P frames (N, C, P, V, M). Bodies that are absent in the last frame of `clip` stay 0."""
        raise NotImplementedError

    def parameter_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Parts of the network by name. A config gives them learning rates of their own by `optim.lr_factor`."""
        return self.encoder.parameter_groups()

    def encoder_layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """Parameters of each layer of the encoder; see `Encoder.layers`."""
        return self.encoder.layers()

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of other programs or methods under this method's names. Keys that need no translation stay."""
        return self.encoder.translate(state)

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0, for methods whose losses depend on the epoch."""

    def forget_labels(self) -> None:
        """Called after weights of another run are loaded, because that run may have had other classes."""


class Supervised(Method):
    """Trains any network on labels alone.

    network: an encoder with a head, or any module with `forward(x (N, C, T, V, M)) -> scores (N, num_class)`.
    """

    LOSSES = (CROSS_ENTROPY,)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The network. Raises TypeError if it is not an `Encoder`."""
        if not isinstance(self.network, Encoder):
            raise TypeError(f"{type(self.network).__qualname__} is not a net.encoder.Encoder")
        return self.network

    @property
    def varies_batch(self) -> bool:
        """See `Method`."""
        return isinstance(self.network, Encoder) and self.network.varies_batch

    @property
    def has_unused_parameters(self) -> bool:
        """See `Method`."""
        return isinstance(self.network, Encoder) and super().has_unused_parameters

    def missing_losses(self, active: Collection[str]) -> tuple[str, ...]:
        """See `Method`."""
        return super().missing_losses(active) if isinstance(self.network, Encoder) else ()

    def parameter_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """See `Method`."""
        return super().parameter_groups() if isinstance(self.network, Encoder) else {}

    def encoder_layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Method`."""
        return super().encoder_layers() if isinstance(self.network, Encoder) else ()

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`; gives only scores."""
        return Output({}, self.scores(batch.views[0]))

    def scores(self, clip: Clip) -> Tensor:
        """See `Method`. A network that is not an `Encoder` gets only `clip.x`."""
        return self.network(*clip) if isinstance(self.network, Encoder) else self.network(clip.x)


def method_class(network: type) -> type[Method]:
    """The method that trains networks of a class: the class if it is a method, else its `METHOD`, else `Supervised`."""
    if issubclass(network, Method):
        return network
    return (issubclass(network, Encoder) and network.METHOD) or Supervised


def as_method(network: nn.Module) -> Method:
    """The method that trains a network: the network if it is a method, else a new one around it."""
    return network if isinstance(network, Method) else method_class(type(network))(network)


def losses_of(network: type, model: type) -> tuple[Loss, ...]:
    """The losses that a schedule can name for a `network` class with an encoder of the class `model`."""
    method = method_class(network)
    own = model.LOSSES if method.ENCODER_LOSSES and issubclass(model, Encoder) else ()
    return (*method.LOSSES, *own)


def no_loss(network: nn.Module) -> Tensor:
    """Zero loss, (), for a batch without bodies. It gives every trainable parameter the gradient 0."""
    return 0 * torch.stack([p.sum() for p in network.parameters() if p.requires_grad]).sum()
