"""What all backbones share: feature maps of the bodies of a clip, one feature of the clip, a head on top.

N clips, C channels, T frames, V joints, M bodies, B bodies that a network ran on, D channels of the feature.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn


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
        pooled = self.maps.permute(0, 2, 3, 1).mean((1, 2))
        if self.present is None:
            return pooled.unflatten(0, (self.num_clip, -1)).mean(1)
        total = pooled.new_zeros(self.num_clip, pooled.shape[1])
        total = total.index_add(0, self.present.nonzero()[:, 0], pooled)
        return total / self.present.sum(1, keepdim=True).clamp(min=1)

    def by_clip(self) -> Tensor:
        """Maps (N, M, D, T', V), 0 for bodies that the network did not run on."""
        if self.present is None:
            return self.maps.unflatten(0, (self.num_clip, -1))
        placed = self.maps.new_zeros(*self.present.shape, *self.maps.shape[1:])
        placed[self.present] = self.maps
        return placed


class Backbone(nn.Module):
    """A network that turns a clip into one feature, with a head that turns the feature into scores.

    A subclass gives `encode`, `feature_dim`, and a head under the name `HEAD`, which takes features (N, D).
    """

    HEAD: ClassVar[str]
    feature_dim: int

    @property
    def varies_batch(self) -> bool:
        """Whether the convolutions see another batch size at every call."""
        return False

    def encode(self, x: Tensor) -> BodyMaps:
        """Feature maps of clips x (N, C, T, V, M)."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Module:
        """What turns features (N, D) into the network's output."""
        return self.get_submodule(self.HEAD)

    def replace_head(self, head: nn.Module) -> None:
        """Put another module on the features (N, D): an MLP for a contrast, say."""
        setattr(self, self.HEAD, head)

    def forward(self, x: Tensor) -> Tensor:
        """The head's output for clips x (N, C, T, V, M): class scores (N, num_class)."""
        return self.head(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """Feature of a clip, the mean over frames, joints and bodies: x (N, C, T, V, M) -> (N, D)."""
        return self.encode(x).pool()

    def extract_feature(self, x: Tensor) -> Tensor:
        """Feature maps of each body, 0 if skipped: x (N, C, T, V, M) -> (N, M, D, T', V)."""
        return self.encode(x).by_clip()

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
