"""What a sequence says of itself: four signals by which an encoder learns to see long stretches of time.

B bodies, T frames of a feature map, D channels of the feature, E of an embedding, Q embeddings in a queue. A frame of
a feature map stands for several of the clip.

The signals are those of the long-term encoder (IJCNN 2022, system S1), with each contrast an InfoNCE between
embeddings of length 1, and each body's order drawn apart.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.contrast import next_places, projector
from net.loss import at_least_float32, info_nce, similarity
from net.method import SAME_FRAMES, Loss
from torchlight import distributed


class MemoryQueue(nn.Module):
    """The newest keys of earlier batches, in a ring; kept in the checkpoint.

    width: E.
    size: Q. A batch of more keys than that leaves its last Q.

    keys: (Q, E), of length 1; at random until they are replaced.
    label: (Q,) int64, -1 where there is none.
    """

    keys: Tensor
    label: Tensor
    pointer: Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue_size is {size}; give 1 or more")
        self.register_buffer("keys", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("label", torch.full((size,), -1))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def put(self, keys: Tensor, label: Tensor | None = None) -> None:
        """Put keys (n, E) of all ranks, and their labels (n,), in the place of the oldest."""
        label = torch.full((len(keys),), -1, device=keys.device) if label is None else label
        size = len(self.keys)
        # Together, since ranks wait for each other; float32 has room for any number of classes.
        columns = torch.cat((keys.to(self.keys), label[:, None].to(self.keys)), 1)
        columns = distributed.all_gather_ragged(columns)[-size:]
        places = next_places(self.pointer, len(columns), size)
        self.keys.index_copy_(0, places, columns[:, :-1])
        self.label.index_copy_(0, places, columns[:, -1].long())

    def forget_labels(self) -> None:
        """Take the keys for those of unknown actions, as where they were learnt from other classes."""
        self.label.fill_(-1)


class TemporalSignals(nn.Module):
    """Losses of the frames of a body's feature map, beside those of another view of the same clip.

    inter_frame: the first, middle and last frame are each alike to that of the other view, and unlike frames of other
        bodies in a queue.
    intra_frame: each frame is alike to the same frame of the other view, and unlike the body's other frames.
    segment: the first frame of each part of the clip is alike to the last one of that part in the other view, and
        unlike those of other bodies in a queue.
    order: five frames of each half are put in order or not; which of the four cases it is, is to be told.

    width: D.
    embedding: E.
    queue_size: Q of either queue.
    num_segment: parts of the clip; no more than it has pairs of frames.
    temperature: by which similarities are divided.

    Raises ValueError for sizes below 1 or a temperature that is not above 0.
    """

    CONTRASTS = ("inter_frame", "intra_frame", "segment")
    LOSSES = (*(Loss(name, num_view=2, needs=(SAME_FRAMES,)) for name in CONTRASTS), Loss("order"))
    TUPLE = 5

    def __init__(
        self,
        width: int,
        *,
        embedding: int,
        queue_size: int,
        num_segment: int,
        temperature: float,
    ) -> None:
        super().__init__()
        if num_segment < 1 or embedding < 1:
            raise ValueError(f"num_segment is {num_segment}, embedding {embedding}; give 1 or more")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; give more than 0")
        self.num_segment, self.temperature = num_segment, temperature
        self.projectors = nn.ModuleDict(
            {name: projector(width, hidden=width, out=embedding) for name in self.CONTRASTS}
        )
        self.queues = nn.ModuleDict(
            {name: MemoryQueue(embedding, queue_size) for name in ("inter_frame", "segment")}
        )
        self.order_head = projector(2 * self.TUPLE * embedding, hidden=embedding, out=4)
        self.order_frame = nn.Linear(width, embedding)

    def forward(
        self, frames: Tensor, key: dict[str, Tensor], wanted: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The losses that are wanted, each (); and embeddings (B, E) of first frames, if there is a contrast.

        Args:
            frames: (B, T, D), means over the joints of feature maps.
            key: what `embed` makes of the same frames in another view, by a slow copy of `projectors`.
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
        """InfoNCE of frames (B, n, E) with their keys (B, n, E) and a queue, into which the keys go after that."""
        queue = self.queues[name]
        assert isinstance(queue, MemoryQueue)
        # As it is now: gradients are taken after the queue has moved on.
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
    """Embeddings (B, T, E) of frames (B, T, D), of length 1, by each projector whose name is wanted."""
    return {
        name: F.normalize(at_least_float32(each(frames)), dim=2)
        for name, each in projectors.items()
        if name in wanted
    }


def draw_orders(count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whether each of two tuples is shuffled, (count, 2) int64, 0 or 1; and the order of its places, (count, 2, size).

    A tuple that is not shuffled is in its own order; one that is, is in any other.
    """
    shuffled = torch.randint(2, (count, 2), device=device)
    own = torch.arange(size, device=device)
    order = torch.rand(count, 2, size, device=device).argsort(2)
    # The order drawn may be the tuple's own: its first and last place then change.
    swapped = torch.cat((own[-1:], own[1:-1], own[:1]))
    order = torch.where((order == own).all(2, keepdim=True), swapped, order)
    return shuffled, torch.where(shuffled[..., None] == 1, order, own)
