"""What a network learns from: one contract for class labels, self-supervision, and several losses at once.

N clips, C channels, T frames, P future frames, V joints, M bodies.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from net.encoder import Encoder
from net.utils.clip import Batch, Clip

# What a loss can need of the data: the frames that follow those seen; poses, so that no stream of movements will do;
# and that all views show the same frames.
FUTURE, POSES, SAME_FRAMES = "future", "poses", "same_frames"


class Loss(NamedTuple):
    """A loss as a method declares it; all checks of configs follow from that.

    name: as a schedule has it.
    num_view: views of a clip that it takes.
    needs: of `FUTURE`, `POSES` and `SAME_FRAMES`.
    label: whether labels change it.
    weight: in pre-training whose config has no schedule; 0: it then does not count.
    """

    name: str
    num_view: int = 1
    needs: tuple[str, ...] = ()
    label: bool = False
    weight: float = 0.0


# It is made of the scores, by whoever knows what these are to be.
CROSS_ENTROPY = Loss("cross_entropy", label=True)


class Output(NamedTuple):
    """What a method makes of a batch.

    losses: by name, each ().
    scores: (N, num_class), where the cross-entropy is wanted.
    embedding: (n, E) of clips or bodies, in whose spread a collapse shows; where there is such.
    """

    losses: dict[str, Tensor]
    scores: Tensor | None = None
    embedding: Tensor | None = None


class Method(nn.Module):
    """A way to train an encoder.

    A subclass gives `LOSSES`, `forward`, and its encoder under the name `encoder`. Its constructor takes the encoder as
    `base_encoder`.
    """

    LOSSES: ClassVar[tuple[Loss, ...]] = ()
    # what it can be built around, and whether it gives the losses of that, too
    ENCODER: ClassVar[type[Encoder]] = Encoder
    ENCODER_LOSSES: ClassVar[bool] = False
    encoder: Encoder
    # P, frames that `forecast` gives; 0 for a method that predicts no poses
    num_predict: int = 0

    @property
    def varies_batch(self) -> bool:
        """Whether convolutions see another batch size at every call."""
        return self.encoder.varies_batch

    @property
    def leaves_out(self) -> bool:
        """Whether parts of the network have no gradient in some steps."""
        return bool(self.encoder.LOSSES)

    def unlearnt(self, counting: Collection[str]) -> tuple[str, ...]:
        """Names of the losses from which alone parts of the encoder learn, if none of them is `counting`."""
        own = tuple(loss.name for loss in self.encoder.LOSSES) if self.encoder.needs_own_losses else ()
        return () if set(own) & set(counting) else own

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """The losses that are wanted, no others; and class scores if the cross-entropy is."""
        raise NotImplementedError

    def scores(self, clip: Clip) -> Tensor:
        """Class scores (N, num_class)."""
        return self.encoder(*clip)

    def forecast(self, clip: Clip) -> Tensor:
        """The next P frames (N, C, P, V, M); bodies that are not there in the last frame stay zero."""
        raise NotImplementedError

    def parameter_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Parts of the network by name, to which a config can give rates of their own by `optim.lr_factor`."""
        return self.encoder.parameter_groups()

    def encoder_layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """Parameters of each layer of the encoder, as far as it says them; see `Encoder.layers`."""
        return self.encoder.layers()

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0, for methods whose losses change on the way."""

    def forget_labels(self) -> None:
        """Called where weights of another run are taken over: its classes may be others."""


class Supervised(Method):
    """Class scores of any network, learnt from labels alone.

    network: an encoder with a head, or any module with `forward(x (N, C, T, V, M)) -> scores (N, num_class)`.
    """

    LOSSES = (CROSS_ENTROPY,)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The network. Raises TypeError if it is no encoder."""
        if not isinstance(self.network, Encoder):
            raise TypeError(f"{type(self.network).__qualname__} is no net.encoder.Encoder")
        return self.network

    @property
    def varies_batch(self) -> bool:
        """See `Method`."""
        return isinstance(self.network, Encoder) and self.network.varies_batch

    @property
    def leaves_out(self) -> bool:
        """See `Method`."""
        return isinstance(self.network, Encoder) and super().leaves_out

    def unlearnt(self, counting: Collection[str]) -> tuple[str, ...]:
        """See `Method`."""
        return super().unlearnt(counting) if isinstance(self.network, Encoder) else ()

    def parameter_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """See `Method`."""
        return super().parameter_groups() if isinstance(self.network, Encoder) else {}

    def encoder_layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Method`."""
        return super().encoder_layers() if isinstance(self.network, Encoder) else ()

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`; scores alone."""
        return Output({}, self.scores(batch.views[0]))

    def scores(self, clip: Clip) -> Tensor:
        """See `Method`. Other networks than encoders are given the clips alone."""
        return self.network(*clip) if isinstance(self.network, Encoder) else self.network(clip.x)


def method_class(network: type) -> type[Method]:
    """The method that trains a class which a config names: itself, what it says, or `Supervised`."""
    if issubclass(network, Method):
        return network
    return (issubclass(network, Encoder) and network.METHOD) or Supervised


def as_method(network: nn.Module) -> Method:
    """The method that trains a network, which may be one."""
    return network if isinstance(network, Method) else method_class(type(network))(network)


def losses_of(network: type, model: type) -> tuple[Loss, ...]:
    """The losses that a schedule can give a network, whose encoder is a `model`."""
    method = method_class(network)
    own = model.LOSSES if method.ENCODER_LOSSES and issubclass(model, Encoder) else ()
    return (*method.LOSSES, *own)


def no_loss(network: nn.Module) -> Tensor:
    """Zero loss, (), for a batch without bodies; its gradient is 0 for all that learns."""
    return 0 * torch.stack([p.sum() for p in network.parameters() if p.requires_grad]).sum()
