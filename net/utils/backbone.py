"""What all backbones share: feature maps of the bodies of a clip, one feature of the clip, a head on top.

N clips, C channels, T frames, V joints, M bodies, B bodies that a network ran on, D channels of the feature.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from net.utils.presence import Informed, presence
from net.utils.tracing import is_traced


@dataclass(frozen=True)
class BodyMaps:
    """Feature maps of the bodies of N clips.

    maps: (B, D, T', V).
    num_clip: N.
    present: (N, M) bool, which B bodies the maps are of, in order; None for all N * M.
    """

    maps: Tensor
    num_clip: int
    present: Tensor | None = None

    def with_maps(self, maps: Tensor) -> "BodyMaps":
        """Other maps (B, D, T', V) of the same bodies."""
        return replace(self, maps=maps)

    def pool(self) -> Tensor:
        """The mean over frames, joints and bodies, (N, D); 0 for a clip of which no body was seen."""
        # Pooled as (B, T', V, D), so that the gradient comes back in channels-last memory.
        pooled = place_bodies(
            self.maps.permute(0, 2, 3, 1).mean((1, 2)), self.num_clip, self.present
        )  # (N, M, D)
        if self.present is None:
            return pooled.mean(1)
        return pooled.sum(1) / self.present.sum(1, keepdim=True).clamp(min=1)

    def of(self, rows: Tensor) -> Tensor:
        """Maps (B', D, T', V) of some bodies, whose `rows` (B',) among all N * M are given; 0 if skipped."""
        # By way of (B, T', V, D), so that they, and their gradient, stay in channels-last memory.
        by_row = self.by_clip().flatten(0, 1).permute(0, 2, 3, 1)
        return by_row.index_select(0, rows).permute(0, 3, 1, 2)

    def by_clip(self) -> Tensor:
        """Maps (N, M, D, T', V), 0 for bodies that the network did not run on."""
        return place_bodies(self.maps, self.num_clip, self.present)


class Backbone(Informed):
    """A network that turns a clip into one feature, with a head that turns the feature into scores.

    It takes clips x (N, C, T, V, M), and `present` (N, M, T) bool, which body is there in which frame; None to read
    that off the zeros.

    A subclass gives `encode`, `in_channels` (C), `feature_dim` (D), and a head under the name `HEAD`, which takes
    features (N, D).
    """

    HEAD: ClassVar[str]
    # losses of its own, beside those of what its features are used for
    OWN_LOSSES: ClassVar[tuple[str, ...]] = ()
    in_channels: int
    feature_dim: int

    @property
    def needs_own_losses(self) -> bool:
        """Whether parts of it learn from `OWN_LOSSES` alone."""
        return False

    @property
    def varies_batch(self) -> bool:
        """Whether the convolutions see another batch size at every call."""
        return False

    def encode(self, x: Tensor, present: Tensor | None = None) -> BodyMaps:
        """Feature maps of clips x (N, C, T, V, M)."""
        raise NotImplementedError

    def own_losses(
        self, x: Tensor, wanted: Collection[str], present: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Those of the backbone's own losses that are wanted, each (), without the feature maps."""
        return {}

    def encode_and_learn(
        self, x: Tensor, wanted: Collection[str], present: Tensor | None = None
    ) -> tuple[BodyMaps, dict[str, Tensor]]:
        """`encode` and `own_losses` at once."""
        return self.encode(x, present), {}

    @property
    def head(self) -> nn.Module:
        """What turns features (N, D) into the network's output."""
        return self.get_submodule(self.HEAD)

    def replace_head(self, head: nn.Module) -> None:
        """Put another module on the features (N, D): an MLP for a contrast, say."""
        setattr(self, self.HEAD, head)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """The head's output for clips x (N, C, T, V, M): class scores (N, num_class)."""
        return self.apply_head(self.embed(x, present))

    def apply_head(self, features: Tensor) -> Tensor:
        """The head's output for features (N, D), by way of what stands before the head in training.

        Under autocast, too, it is made in float32: bfloat16 has so few digits that scores of classes tie.
        """
        if not torch.is_autocast_enabled(features.device.type):
            return self.head(features)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float())

    def embed(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Feature of a clip, the mean over frames, joints and bodies: x (N, C, T, V, M) -> (N, D)."""
        return self.encode(x, present).pool()

    def extract_feature(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Feature maps of each body, 0 if skipped: x (N, C, T, V, M) -> (N, M, D, T', V)."""
        return self.encode(x, present).by_clip()

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head."""
        return list(self.head.parameters())

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of all but the head."""
        of_head = {id(parameter) for parameter in self.head.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in of_head]

    def encoder_requires_grad_(self, requires_grad: bool) -> None:
        """Let all but the head learn, or not."""
        for parameter in self.encoder_parameters():
            parameter.requires_grad_(requires_grad)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights as other programs name them, under this network's names; other keys pass through."""
        return state


def split_bodies(
    x: Tensor, num_joint: int, in_channels: int, skip_empty: bool, present: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The bodies to run on, (B, T, V, C), and where they are, (N, M) bool, or None for everywhere.

    In a recorded graph these are all bodies, since no shape in it can depend on who is there.

    Args:
        x: clips (N, C, T, V, M).
        num_joint: V that the network takes.
        in_channels: C that it takes.
        skip_empty: leave out bodies that are there in no frame.
        present: see `Backbone`.

    Raises:
        ValueError: x has another shape.
    """
    if x.dim() != 5 or x.shape[1] != in_channels or x.shape[3] != num_joint:
        raise ValueError(
            f"input has shape {tuple(x.shape)}; this network takes (N, {in_channels}, T, {num_joint}, M): set "
            "in_channels and layout to those of the data"
        )
    bodies = x.permute(0, 4, 2, 3, 1)
    if not skip_empty:
        return bodies.flatten(0, 1), None
    there = presence(x, present).any(2)
    return bodies.flatten(0, 1) if is_traced() else bodies[there], there


def at_bodies(present: Tensor, there: Tensor | None) -> Tensor:
    """Presence (B, T) of the bodies that `split_bodies` gives with `there`, from that of all, (N, M, T)."""
    return present.flatten(0, 1) if there is None or is_traced() else present[there]


def rows_of(present: Tensor) -> Tensor:
    """Where, among all N * M bodies, those are that are `present` (N, M): (B,) int64. A device is waited for."""
    return present.flatten().nonzero()[:, 0]


def place_bodies(values: Tensor, num_clip: int, present: Tensor | None) -> Tensor:
    """Values (B, ...) of bodies in their places (N, M, ...), 0 for those that are not `present` (N, M).

    The values are of the bodies that `split_bodies` gives.
    """
    if present is None:
        return values.reshape(num_clip, -1, *values.shape[1:])
    if is_traced():
        placed = values.view(*present.shape, *values.shape[1:])
        return placed * present.view(*present.shape, *(1,) * (values.dim() - 1))
    placed = values.new_zeros(*present.shape, *values.shape[1:])
    placed[present] = values
    return placed


def check_graph(trained: Tensor | None, A: Tensor) -> None:
    """Raise ValueError for weights that were trained with an adjacency of the same shape (K, V, V) but other values."""
    if trained is not None and trained.shape == A.shape and not torch.allclose(trained.to(A), A, atol=1e-4):
        raise ValueError(
            "these weights were trained on another graph (their A differs from this network's); "
            "set layout, strategy and max_hop to theirs"
        )
