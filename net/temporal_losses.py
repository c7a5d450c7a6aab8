"""Four self-supervised losses that train an encoder on the long-term structure of a clip.

B bodies, T frames of a feature map, D channels of the feature, E channels of an embedding, Q embeddings in a queue.
One frame of a feature map covers several frames of the clip.

The losses are those of the long-term encoder (IJCNN 2022, system S1), with two changes: each contrast is InfoNCE
between embeddings of length 1, and the orders of different bodies are drawn independently.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.contrast import next_slots, projector
from net.loss import at_least_float32, check_temperature, info_nce, similarity
from net.method import SAME_FRAMES, Loss
from torchlight import distributed


class MemoryQueue(nn.Module):
    """The newest keys of earlier batches, in a ring buffer that checkpoints contain.

    embedding_dim: E.
    size: Q. Of a larger batch, only the last Q keys stay.

    keys: (Q, E), of length 1; random until batches replace them.
    label: (Q,) int64, -1 for none.

    Raises ValueError for a size below 1.
    """

    keys: Tensor
    label: Tensor
    pointer: Tensor

    def __init__(self, embedding_dim: int, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue_size is {size}; give 1 or more")
        self.register_buffer("keys", F.normalize(torch.randn(size, embedding_dim), dim=1))
        self.register_buffer("label", torch.full((size,), -1))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def put(self, keys: Tensor, label: Tensor | None = None) -> None:
        """Replace the oldest keys and labels by keys (n, E) and labels (n,) of all ranks; n may differ between ranks.

        label: None if the keys have none.
        """
        label = torch.full((len(keys),), -1, device=keys.device) if label is None else label
        size = len(self.keys)
        # Keys and labels go in one tensor, for one collective call. float32 holds any class index exactly.
        columns = torch.cat((keys.to(self.keys), label[:, None].to(self.keys)), 1)
        columns = distributed.all_gather_ragged(columns)[-size:]
        slots = next_slots(self.pointer, len(columns), size)
        self.keys.index_copy_(0, slots, columns[:, :-1])
        self.label.index_copy_(0, slots, columns[:, -1].long())

    def forget_labels(self) -> None:
        """Set all labels to -1, for keys whose labels are of other classes."""
        self.label.fill_(-1)


class TemporalSignals(nn.Module):
    """Three contrasts between the frames of two views of a body, and a classification of the order of frames.

    inter_frame: queries are the first, middle and last frame; positives are the same frames in the other view;
        negatives are frames of other bodies in a queue.
    intra_frame: queries are all frames; positives are the same frames in the other view; negatives are the other
        frames of the body in that view.
    segment: queries are the first frames of equal segments of the clip; positives are the last frames of these
        segments in the other view; negatives are such frames of other bodies in a queue.
    order: five frames of each half of the clip are in order or shuffled; classify which of the four cases it is.

    feature_dim: D.
    embedding: E.
    queue_size: Q of each of the two queues.
    num_segment: number of segments; limited to half the number of frames.
    temperature: divides similarities.

    Raises ValueError for sizes below 1 or a temperature that is not above 0.
    """

    CONTRASTS = ("inter_frame", "intra_frame", "segment")
    LOSSES = (*(Loss(name, num_view=2, needs=(SAME_FRAMES,)) for name in CONTRASTS), Loss("order"))
    TUPLE = 5

    def __init__(
        self,
        feature_dim: int,
        *,
        embedding: int,
        queue_size: int,
        num_segment: int,
        temperature: float,
    ) -> None:
        super().__init__()
        if num_segment < 1 or embedding < 1:
            raise ValueError(f"num_segment is {num_segment}, embedding {embedding}; give 1 or more")
        check_temperature(temperature)
        self.num_segment, self.temperature = num_segment, temperature
        self.projectors = nn.ModuleDict(
            {name: projector(feature_dim, hidden=feature_dim, out=embedding) for name in self.CONTRASTS}
        )
        self.queues = nn.ModuleDict(
            {name: MemoryQueue(embedding, queue_size) for name in ("inter_frame", "segment")}
        )
        self.order_head = projector(2 * self.TUPLE * embedding, hidden=embedding, out=4)
        self.order_frame = nn.Linear(feature_dim, embedding)

    def forward(
        self, frames: Tensor, key: dict[str, Tensor], wanted: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The wanted losses, each (); and embeddings (B, E) of the first frames, or None if no contrast is wanted.

        Args:
            frames: (B, T, D), feature maps averaged over the joints.
            key: by contrast, (B, T, E): the output of `embed` for the same frames in another view, by a slow copy of
                `projectors`.
            wanted: names of losses.
        """
        query = embed(self.projectors, frames, wanted)
        losses = {name: getattr(self, f"_{name}")(query[name], key[name]) for name in query}
        if "order" in wanted:
            losses["order"] = self._order(frames)
        return losses, next((embedding[:, 0] for embedding in query.values()), None)

    def _inter_frame(self, query: Tensor, key: Tensor) -> Tensor:
        middle = query.shape[1] // 2
        ends = [torch.stack((each[:, 0], each[:, middle], each[:, -1]), 1) for each in (query, key)]
        return self._against_queue("inter_frame", *ends)

    def _intra_frame(self, query: Tensor, key: Tensor) -> Tensor:
        logits = similarity(query, key) / self.temperature  # (B, T, T)
        frame = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
        return F.cross_entropy(logits.flatten(0, 1), frame.flatten())

    def _segment(self, query: Tensor, key: Tensor) -> Tensor:
        num_frame = query.shape[1]
        num_segment = max(1, min(self.num_segment, num_frame // 2))
        edge = torch.arange(num_segment + 1, device=query.device) * num_frame // num_segment
        return self._against_queue("segment", query[:, edge[:-1]], key[:, edge[1:] - 1])

    def _against_queue(self, name: str, query: Tensor, key: Tensor) -> Tensor:
        """InfoNCE of frames (B, n, E) with their keys (B, n, E) and a queue, (). Then the keys go into the queue."""
        queue = self.queues[name]
        assert isinstance(queue, MemoryQueue)
        # A copy, because the backward pass runs after the queue has changed.
        negative = similarity(query.flatten(0, 1), queue.keys.clone())
        logits = torch.cat(((query * key).sum(2).flatten()[:, None], negative), 1)
        queue.put(key.flatten(0, 1))
        return info_nce(logits / self.temperature)

    def _order(self, frames: Tensor) -> Tensor:
        batch, num_frame = frames.shape[:2]
        shuffled, order = draw_orders(batch, self.TUPLE, frames.device)
        # Halves of short maps overlap, so that the frames of a tuple differ.
        length = max(num_frame // 2, min(self.TUPLE, num_frame))
        start = torch.arange(2, device=frames.device)[:, None] * (num_frame - length)
        place = start + torch.arange(self.TUPLE, device=frames.device) * length // self.TUPLE
        place = place.expand(batch, -1, -1).gather(2, order)
        embedded = self.order_frame(frames)
        chosen = embedded.gather(1, place.flatten(1)[..., None].expand(-1, -1, embedded.shape[2]))
        scores = at_least_float32(self.order_head(chosen.flatten(1)))
        return F.cross_entropy(scores, shuffled[:, 0] + 2 * shuffled[:, 1])


def embed(projectors: nn.ModuleDict, frames: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
    """By wanted projector, its embeddings (B, T, E) of frames (B, T, D), of length 1."""
    return {
        name: F.normalize(at_least_float32(each(frames)), dim=2)
        for name, each in projectors.items()
        if name in wanted
    }


def draw_orders(count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random orders of two tuples: whether each is shuffled, (count, 2) int64, and its indices, (count, 2, size).

    The first result is 1 for a shuffled tuple, else 0. A shuffled tuple never has the original order.
    """
    shuffled = torch.randint(2, (count, 2), device=device)
    original = torch.arange(size, device=device)
    order = torch.rand(count, 2, size, device=device).argsort(2)
    # If the original order was drawn, swap its first and last entry.
    swapped = torch.cat((original[-1:], original[1:-1], original[:1]))
    order = torch.where((order == original).all(2, keepdim=True), swapped, order)
    return shuffled, torch.where(shuffled[..., None] == 1, order, original)
