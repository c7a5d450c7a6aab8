"""The interface of encoders: features of the bodies of a clip, one feature of the clip, a replaceable head.

N clips, C channels, T frames, V joints, M bodies of a clip, B bodies that a network ran on, S tokens of a body,
D channels of the feature.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from net.utils.clip import Clip
from net.utils.tracing import is_traced

if TYPE_CHECKING:
    from net.method import Loss, Method


@dataclass(frozen=True)
class Features:
    """Features of the bodies of N clips.

    tokens: (B, S, D).
    num_clip: N.
    grid: (T', V') if the S tokens are a grid of T' frames by V' joints, sorted by frame; else None.
    bodies: (N, M) bool, true for the B bodies of `tokens`, which are in this order; None for all N * M.
    counted: (B, S) bool, the tokens that count in the mean; None for all.
    """

    tokens: Tensor
    num_clip: int
    grid: tuple[int, int] | None = None
    bodies: Tensor | None = None
    counted: Tensor | None = None

    @classmethod
    def of_maps(cls, maps: Tensor, num_clip: int, bodies: Tensor | None = None) -> "Features":
        """Features of maps (B, D, T', V'). Maps in channels-last memory are not copied."""
        return cls(maps.permute(0, 2, 3, 1).flatten(1, 2), num_clip, (maps.shape[2], maps.shape[3]), bodies)

    def maps(self) -> Tensor:
        """The features as maps (B, D, T', V') in channels-last memory.

        Raises:
            ValueError: the tokens are no grid.
        """
        return self._by_frame().permute(0, 3, 1, 2)

    def with_maps(self, maps: Tensor) -> "Features":
        """Features of other maps (B, D, T', V') of the same bodies; of the same shape, the same tokens count."""
        features = Features.of_maps(maps, self.num_clip, self.bodies)
        return replace(features, counted=self.counted) if features.grid == self.grid else features

    def pool(self) -> Tensor:
        """The mean over counted tokens and present bodies, (N, D). A clip without bodies has the feature 0."""
        if self.counted is not None:
            share = self.counted / self.counted.sum(1, keepdim=True).clamp(min=1)
            # Autocast would round the shares, and so change all clips of a batch if a token of one is absent.
            with torch.autocast(self.tokens.device.type, enabled=False):
                mean = (share[:, None].to(self.tokens.dtype) @ self.tokens)[:, 0]
        else:
            mean = self.tokens.mean(1) if self.grid is None else self._by_frame().mean((1, 2))
        pooled = place_bodies(mean, self.num_clip, self.bodies)  # (N, M, D)
        if self.bodies is None:
            return pooled.mean(1)
        return pooled.sum(1) / self.bodies.sum(1, keepdim=True).clamp(min=1)

    def of(self, rows: Tensor) -> Tensor:
        """Maps (B', D, T', V') of the bodies at `rows` (B',) among all N * M; 0 for a body that was skipped."""
        by_row = place_bodies(self._by_frame(), self.num_clip, self.bodies).flatten(0, 1)
        return by_row.index_select(0, rows).permute(0, 3, 1, 2)

    def by_clip(self) -> Tensor:
        """Maps (N, M, D, T', V'), 0 for bodies that the network did not run on."""
        return place_bodies(self.maps(), self.num_clip, self.bodies)

    def _by_frame(self) -> Tensor:
        """The tokens as (B, T', V', D). Gradients of what follows are then in channels-last memory."""
        if self.grid is None:
            raise ValueError(
                f"the {self.tokens.shape[1]} tokens of a body are no grid of frames and joints; "
                "use a method that takes tokens, or an encoder that gives maps"
            )
        return self.tokens.unflatten(1, self.grid)


class Encoder(nn.Module):
    """A network that turns a clip into features, with a replaceable head on the feature of the clip.

    A subclass gives `encode`, `in_channels` (C) and `feature_dim` (D). Its head is the module with the name `HEAD`:
    layers that give class scores, or the projector of a contrast. An encoder may have no head; the processor or method
    that needs one adds it.

    An encoder with a position embedding for a limited number of frames takes that number as the argument `max_frame`
    of its constructor. A config with longer views is refused. An encoder of tokens that span several frames takes the
    number of these as `patch`. A config whose views are no multiple of it is refused.
    """

    HEAD: ClassVar[str] = "fc"
    # The encoder's own losses. The method that uses its features may have others.
    LOSSES: ClassVar[tuple["Loss", ...]] = ()
    # The method that trains the encoder if a config names none. It must have no weights of its own. None: `Supervised`.
    METHOD: ClassVar["type[Method] | None"] = None
    in_channels: int
    feature_dim: int

    @property
    def needs_own_losses(self) -> bool:
        """Whether some parts of the encoder are trained only by its own `LOSSES`."""
        return False

    @property
    def varies_batch(self) -> bool:
        """Whether the batch size of the convolutions changes from call to call."""
        return False

    def encode(self, clip: Clip) -> Features:
        """Features of N clips."""
        raise NotImplementedError

    def learn(self, clip: Clip, wanted: Collection[str]) -> tuple[Features, dict[str, Tensor]]:
        """The features that `encode` gives, and the encoder's own losses that are wanted, each ()."""
        return self.encode(clip), {}

    def own_losses(self, clip: Clip, wanted: Collection[str]) -> dict[str, Tensor]:
        """The encoder's own losses that are wanted, each (). A subclass may override it to skip the features."""
        return self.learn(clip, wanted)[1]

    @property
    def head(self) -> nn.Module:
        """The module that turns features (N, D) into the network's output. Raises AttributeError if there is none."""
        return self.get_submodule(self.HEAD)

    @property
    def has_head(self) -> bool:
        """Whether there is a head."""
        return self.HEAD in dict(self.named_children())

    def replace_head(self, head: nn.Module) -> None:
        """Make another module the head on features (N, D), such as an MLP for a contrast."""
        setattr(self, self.HEAD, head)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """The head's output for clips x (N, C, T, V, M) with bodies `present` (N, M, T); see `Clip.of`."""
        return self.apply_head(self.encode(Clip.of(x, present)).pool())

    def apply_head(self, features: Tensor) -> Tensor:
        """The head's output for features (N, D). A subclass may add layers before the head, such as dropout.

        The head runs in float32 even under autocast: bfloat16 has so few digits that scores of classes tie.
        """
        if not torch.is_autocast_enabled(features.device.type):
            return self.head(features)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float())

    def extract_feature(self, x: Tensor) -> Tensor:
        """Feature maps of each body, 0 if skipped: x (N, C, T, V, M) -> (N, M, D, T', V)."""
        return self.encode(Clip.of(x)).by_clip()

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head."""
        return list(self.head.parameters())

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of all but the head."""
        of_head = {id(parameter) for parameter in self.head.parameters()} if self.has_head else set()
        return [parameter for parameter in self.parameters() if id(parameter) not in of_head]

    def layers(self) -> Sequence[Sequence[nn.Parameter]]:
        """Parameters of each layer, from input to output, for `optim.layer_decay`; () if the encoder lists none.

        Parameters that are in no layer, such as a final norm, have the full learning rate, like the head.
        """
        return ()

    def parameter_groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Parts of the encoder by name. A config gives them learning rates of their own by `optim.lr_factor`."""
        return {}

    def encoder_requires_grad_(self, requires_grad: bool) -> None:
        """Freeze or unfreeze all parameters but those of the head."""
        for parameter in self.encoder_parameters():
            parameter.requires_grad_(requires_grad)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of other programs under this network's names. Keys that need no translation stay."""
        return state

    def ignored_keys(self) -> Sequence[str]:
        """Patterns of the keys that weights have for optional parts which this network was built without."""
        return ()


def split_bodies(
    clip: Clip, num_joint: int, in_channels: int, *, skip_empty: bool
) -> tuple[Tensor, Tensor | None]:
    """The bodies to run on, (B, T, V, C), and their mask (N, M) bool, or None for all N * M.

    A recorded graph runs on all bodies, because its shapes cannot depend on which bodies are present.

    Args:
        clip: N clips.
        num_joint: V that the network takes.
        in_channels: C that the network takes.
        skip_empty: leave out bodies that are present in no frame.

    Raises:
        ValueError: the clips have another shape.
    """
    x = clip.x
    if x.dim() != 5 or x.shape[1] != in_channels or x.shape[3] != num_joint:
        raise ValueError(
            f"input has shape {tuple(x.shape)}; this network takes (N, {in_channels}, T, {num_joint}, M): set "
            "in_channels and layout to those of the data"
        )
    bodies = x.permute(0, 4, 2, 3, 1)
    if not skip_empty:
        return bodies.flatten(0, 1), None
    mask = clip.present.any(2)
    return bodies.flatten(0, 1) if is_traced() else bodies[mask], mask


def at_bodies(present: Tensor, mask: Tensor | None) -> Tensor:
    """Presence (B, T) of the bodies that `split_bodies` gives with `mask`, from `present` (N, M, T) of all bodies."""
    return present.flatten(0, 1) if mask is None or is_traced() else present[mask]


def rows_of(present: Tensor) -> Tensor:
    """Indices (B,) int64, among all N * M bodies, of those `present` (N, M). Synchronises with the device."""
    return present.flatten().nonzero()[:, 0]


def place_bodies(values: Tensor, num_clip: int, present: Tensor | None) -> Tensor:
    """Values (B, ...) of the bodies of `split_bodies`, as (N, M, ...), 0 for bodies that are not `present` (N, M)."""
    if present is None:
        return values.reshape(num_clip, -1, *values.shape[1:])
    if is_traced():
        placed = values.view(*present.shape, *values.shape[1:])
        return placed * present.view(*present.shape, *(1,) * (values.dim() - 1))
    placed = values.new_zeros(*present.shape, *values.shape[1:])
    placed[present] = values
    return placed


def check_graph(trained: Tensor | None, A: Tensor) -> None:
    """Raise ValueError if the adjacency of the weights, `trained`, has the shape (K, V, V) of A but other values."""
    if trained is not None and trained.shape == A.shape and not torch.allclose(trained.to(A), A, atol=1e-4):
        raise ValueError(
            "these weights were trained on another graph (their A differs from this network's); "
            "set layout, strategy and max_hop to those of that training"
        )
