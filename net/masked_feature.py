"""Masked feature prediction: a slow copy's features of hidden tokens are predicted from visible ones.

After S-JEPA (Abdelfattah and Alahi, ECCV 2024). The loss `contrast` is after SLiM (2026), which has no decoder, hides
whole parts of the body, and compares views of different length.

N clips, B present bodies, S tokens of a body, K visible tokens, D channels of the feature, E channels of a projection.
"""

import copy
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.contrast import check_momentum, projector, update_momentum
from net.loss import at_least_float32, check_temperature, similarity
from net.masked_decoder import Decoder
from net.masking import Masking, mean_over_ranks
from net.method import ENCODER_PREFIXES, Loss, Method, Output
from net.tokens import TokenEncoder
from net.utils.clip import Batch
from torchlight import distributed


class MaskedFeature(Method):
    """An encoder is shown a few tokens of each body; a decoder predicts a slow copy's features of the others.

    The slow copy is shown the whole clip. Its parameters are a running mean of the encoder's.

    base_encoder: loses its head.
    mask_ratio, mask_temperature, channels: `ratio`, `temperature` and `channels` of `net.masking.Masking`.
    momentum: weight of the copy's own parameters in an update; see `net.contrast.update_momentum`.
    decoder_width, decoder_depth, decoder_head: `width`, `depth` and `num_head` of `net.masked_decoder.Decoder`.
    projection_dim: E.
    temperature: divides the similarities of projections.

    Losses:
        `feature`, the mean squared error of the features of hidden tokens, normalised over the D channels.
        `contrast`, InfoNCE between the encoder's projection of the second view and the slow copy's projection of the
        first view. The encoder is shown all tokens of the second view, which may be a shorter part of the clip. The
        other clips of the batch are the negatives.

    Raises ValueError for what `Masking` and `Decoder` refuse, and for a momentum, temperature or size out of range.
    """

    LOSSES = (Loss("feature", weight=1.0), Loss("contrast", num_view=2))
    ENCODER = TokenEncoder
    encoder: TokenEncoder

    def __init__(
        self,
        base_encoder: TokenEncoder,
        *,
        mask_ratio: float = 0.9,
        mask_temperature: float | None = 0.8,
        momentum: float = 0.996,
        decoder_width: int = 256,
        decoder_depth: int = 5,
        decoder_head: int = 8,
        projection_dim: int = 128,
        temperature: float = 0.2,
        channels: str | None = None,
    ) -> None:
        super().__init__()
        self.masking = Masking(
            base_encoder, ratio=mask_ratio, temperature=mask_temperature, channels=channels
        )
        check_momentum(momentum)
        check_temperature(temperature)
        if projection_dim < 1:
            raise ValueError(f"projection_dim is {projection_dim}; give 1 or more")
        self.momentum, self.temperature = momentum, temperature
        width = base_encoder.feature_dim
        base_encoder.replace_head(nn.Identity())
        self.encoder = base_encoder
        self.decoder = Decoder(
            base_encoder, width, width=decoder_width, depth=decoder_depth, num_head=decoder_head
        )
        self.projector = projector(width, hidden=width, out=projection_dim)
        self.slow_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)

    @property
    def varies_batch(self) -> bool:
        """See `Method`."""
        return True

    @property
    def has_unused_parameters(self) -> bool:
        """See `Method`; each loss trains parts of its own."""
        return True

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`."""
        clip = batch.views[0]
        with torch.no_grad():
            update_momentum(self.slow_encoder, self.encoder, self.momentum)
            update_momentum(self.slow_projector, self.projector, self.momentum)
            target = self.slow_encoder.eval().encode(clip)
        losses, embedding = {}, None
        if "feature" in wanted:
            bodies = self.encoder.split(clip)
            counted = self.encoder.counted(bodies.present)
            keep, hidden = self.masking.draw(batch, bodies)
            features = self.encoder.encode(clip, keep)
            embedding = features.pool()
            predicted = at_least_float32(self.decoder(features.tokens, keep, counted))
            goal = F.layer_norm(at_least_float32(target.tokens), target.tokens.shape[-1:])
            losses["feature"] = mean_over_ranks((predicted - goal).square().mean(2), hidden)
        if "contrast" in wanted:
            with torch.no_grad():
                key = F.normalize(at_least_float32(self.slow_projector(target.pool())), dim=1)
            second = self.encoder.encode(batch.views[1]).pool()
            query = F.normalize(at_least_float32(self.projector(second)), dim=1)
            in_both = torch.stack([view.present.any(2).any(1) for view in batch.views[:2]]).all(0)
            losses["contrast"] = self._contrast(query, key, in_both)
            embedding = query if embedding is None else embedding
        return Output(losses, embedding=embedding)

    def _contrast(self, query: Tensor, key: Tensor, in_both: Tensor) -> Tensor:
        """InfoNCE of queries (N, E) to the keys (N, E) of the same clips; the keys of all ranks are negatives.

        in_both: (N,) bool, the clips with a body in both views. The others are left out, because all are alike.
        """
        keys, counted = (distributed.all_gather_equal(each) for each in (key, in_both.float()))
        logits = similarity(query, keys) / self.temperature
        logits = logits.masked_fill(counted == 0, -torch.inf)
        # The row of a clip without a body would have an infinite loss.
        logits = torch.where(in_both[:, None], logits, 0)
        own = distributed.rank() * len(key) + torch.arange(len(key), device=key.device)
        return mean_over_ranks(F.cross_entropy(logits, own, reduction="none"), in_both)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Method`. Weights of another method give the encoder and its slow copy, without a head."""
        state = super().translate(state)
        if any(key.startswith("slow_encoder.") for key in state):
            return state
        of_encoder = {
            f"encoder.{name}": value
            for prefix in ENCODER_PREFIXES
            for key, value in state.items()
            if (name := key.removeprefix(prefix)) != key and not name.startswith(f"{self.encoder.HEAD}.")
        }
        if not of_encoder:
            return state
        of_slow = {f"slow_{key}": value for key, value in of_encoder.items()}
        others = ("decoder.", "projector.", "slow_projector.")
        own = {key: value for key, value in self.state_dict().items() if key.startswith(others)}
        return {**own, **of_encoder, **of_slow}
