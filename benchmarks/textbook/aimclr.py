"""AimCLR (Guo et al. 2022) as its authors compute it: one pass of the encoder for each view."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.textbook.st_gcn import STGCN


class AimCLR(nn.Module):
    """Momentum contrast of query and key; its distribution of similarities is the target of the extreme view.

    As in its authors' code the encoder runs on the query and on the extreme view, and its momentum copy on the key.
    The maps of the extreme view are used twice: as they are, and after the attention drop.
    """

    queue: Tensor

    def __init__(self, encoder: STGCN, queue_size: int, feature_dim: int = 128) -> None:
        super().__init__()
        width = encoder.hidden_dim
        encoder.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, feature_dim))
        self.encoder_q, self.encoder_k = encoder, copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(feature_dim, queue_size), dim=0))
        self.pointer = 0

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Losses of (query, key, extreme) views, (N, C, T, V, M) each, whose N divides the size of the queue."""
        view, key_view, extreme_view = views
        n = len(view)
        query = F.normalize(self.encoder_q(view), dim=1)
        maps = self.encoder_q.maps(extreme_view)
        extreme, dropped = (
            F.normalize(self.encoder_q.head(self.encoder_q.pool(each, n)), dim=1)
            for each in (maps, attention_drop(maps))
        )
        with torch.no_grad():
            for slow, fast in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
                slow.data = 0.999 * slow.data + 0.001 * fast.data
            key = F.normalize(self.encoder_k(key_view), dim=1)
        logits = [
            torch.cat(
                (
                    torch.einsum("nc,nc->n", each, key)[:, None],
                    torch.einsum("nc,ck->nk", each, self.queue.clone()),
                ),
                dim=1,
            )
            / 0.07
            for each in (query, extreme, dropped)
        ]
        target = logits[0].detach().softmax(1)
        self.queue[:, self.pointer : self.pointer + n] = key.T
        self.pointer = (self.pointer + n) % self.queue.shape[1]
        return {
            "info_nce": F.cross_entropy(logits[0], torch.zeros(n, dtype=torch.long, device=view.device)),
            "extreme": -(target * logits[1].softmax(1).log()).sum(1).mean() / 2,
            "dropped": -(target * logits[2].softmax(1).log()).sum(1).mean() / 2,
        }


def attention_drop(x: Tensor, threshold: float = 0.7) -> Tensor:
    """Feature maps (N, C, T, V) without the joints, then the entries, of an attention (SimAM) above a threshold."""
    squared = (x - x.mean((2, 3), keepdim=True)).pow(2)
    variance = squared.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    attention = torch.sigmoid(squared / (4 * (variance + 1e-4)) + 0.5)
    for each in (attention.mean((1, 2), keepdim=True), attention):
        mask = (each < threshold).float()
        x = x * mask * mask.numel() / mask.sum()
    return x
