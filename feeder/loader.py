"""Batches: clips in an order that depends on seed and epoch alone, made into views on the device.

Shapes: N clips of a batch, C channels, T frames, V joints, M bodies, R rows (poses).
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from feeder.arrays import ArrayFolder
from feeder.feeder import Feeder
from feeder.prepared import Prepared
from feeder.ragged import RaggedBatch, rows_with_body, send
from feeder.views import View, make_views
from net.utils.clip import Batch, Clip
from torchlight.seed import derive_seed


class Loader:
    """Iterates over a feeder in batches, each made anew from the poses.

    A batch depends on (seed, epoch, its number, rank): not on the batches before it, on the cache, or on how
    many workers read. Only noise, which is drawn on the device, differs between kinds of device.

    Args:
        feeder: the clips.
        views: what to make of each batch.
        batch_size: N; the last batch is smaller if `drop_last` does not drop it.
        device: where the views are made.
        cache: `device` holds the poses of all clips there, and a batch moves but a few numbers; `memory` holds
            them in the host's memory and sends those of a batch; `none` reads them from disk for each batch.
        shuffle: another order in each epoch; and every rank gets equally many clips, some of them twice where
            they do not divide. Without it, every clip comes once, in order.
        drop_last: leave out the clips that do not fill a batch.
        seed: of the order and of the views.
        num_worker: processes that read ahead, with cache `none`.
        num_future: P, frames at the end of the views that are not seen; those of the first one are the future. None for
            as many as its sampling has ahead.
        min_clip: with `shuffle`, an epoch has this many clips at the least: fewer come again and again.
        balanced: with `shuffle`, an epoch has equally many clips of each class: those of a rare class come
            several times, those of a frequent one are drawn anew in each epoch.
        rank, world_size: this process among those that share the clips.

    Raises:
        ValueError: an argument out of range; views made for other skeletons or bodies than the feeder's, that are to
            take the frames of the first by another sampling, or of which nothing is seen.
    """

    def __init__(
        self,
        feeder: Feeder,
        views: Sequence[View],
        *,
        batch_size: int,
        device: torch.device | str,
        cache: Literal["device", "memory", "none"],
        shuffle: bool,
        drop_last: bool,
        seed: int,
        num_worker: int = 0,
        num_future: int | None = None,
        min_clip: int = 0,
        balanced: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        if cache not in ("device", "memory", "none"):
            raise ValueError(f"cache is {cache!r}; give 'device', 'memory' or 'none'")
        if num_worker and cache != "none":
            raise ValueError(
                f"num_worker is {num_worker} with cache {cache!r}, which has nothing to read; "
                "set data.num_worker: 0, or data.cache: none"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank} of world_size {world_size}; give 0 to world_size - 1")
        for view in views:
            if view.skeleton != feeder.skeleton or view.num_body != feeder.num_body:
                raise ValueError(
                    f"a view is made for {view.num_body} bodies of layout {view.skeleton.name!r}, the feeder has "
                    f"{feeder.num_body} of {feeder.skeleton.name!r}"
                )
            if view.same_frames and view.sampling != views[0].sampling:
                raise ValueError(
                    "a view has same_frames: true, but samples otherwise than the first one; give both the same "
                    "sampling, or same_frames: false"
                )
        if num_future is None:
            num_future = views[0].num_ahead if views else 0
        for view in views:
            if not 0 <= num_future < view.num_frame:
                raise ValueError(
                    f"num_future is {num_future}, of views of {view.num_frame} frames; give 0 or more, and fewer than "
                    "these, so that some are seen"
                )
        self.num_future = num_future
        self.feeder, self.views = feeder, list(views)
        self.batch_size, self.device, self.seed = batch_size, torch.device(device), seed
        self.shuffle, self.drop_last, self.num_worker = shuffle, drop_last, num_worker
        self.min_clip, self.balanced = min_clip, balanced
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._observed = 1.0
        self._features: Tensor | None = None
        size = torch.from_numpy(feeder.source.num_frame[feeder.clips] * feeder.source.num_body[feeder.clips])
        self._size, self._start = size, size.cumsum(0) - size
        self._rows: Tensor | None = None
        self._row_present: Tensor | None = None
        if cache != "none":
            rows = torch.from_numpy(feeder.source.read(feeder.clips))
            self._rows = rows.to(self.device) if cache == "device" else rows
            if self._is_resident():
                self._row_present = rows_with_body(self._rows)

    def with_views(self, views: Sequence[View], *, batch_size: int) -> "Loader":
        """The same clips, once each and in order, in other views, which are seen whole; the poses are shared."""
        other = copy.copy(self)
        other.views, other.batch_size, other.num_future = list(views), batch_size, 0
        # What a view draws must not depend on how long something else was trained before.
        other.shuffle, other.drop_last, other.min_clip, other.epoch = False, False, 0, 0
        return other

    def beginnings(self, ratio: float) -> "Loader":
        """The same batches, of clips that end after a share of their frames: all that is seen of an action so far."""
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio is {ratio}; give more than 0, up to 1 for whole clips")
        assert self._features is None  # they are of whole clips
        other = copy.copy(self)
        other._observed = ratio
        return other

    def with_features(self, features: Tensor) -> "Loader":
        """The same batches, with features (n, R, D) of the n clips in place of views, one or all R of each clip.

        Where clips are shuffled, a batch is one view (N, D), each clip's drawn from its R; else it is R views.
        """
        other = copy.copy(self)
        other._features, other._rows, other._row_present = features, None, None
        return other

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches `iterate` gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches of this rank in an epoch."""
        shard = len(range(self.rank, self._padded_length(), self.world_size))
        return shard // self.batch_size if self.drop_last else -(-shard // self.batch_size)

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """The batches of the epoch, from number `start_step` on."""
        numbers = range(start_step, len(self))
        shard = self._order()[self.rank :: self.world_size]
        indices = [shard[step * self.batch_size : (step + 1) * self.batch_size] for step in numbers]
        for step, index, rows in zip(numbers, indices, self._read(indices), strict=True):
            yield self._make(step, index, rows)

    def _padded_length(self) -> int:
        count = len(self.feeder)
        return -(-max(count, self.min_clip) // self.world_size) * self.world_size if self.shuffle else count

    def _order(self) -> Tensor:
        """Places in the feeder, of all ranks, (padded length,)."""
        if not self.shuffle:
            return torch.arange(len(self.feeder))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        length = self._padded_length()
        if self.balanced:
            return _balanced_order(torch.from_numpy(self.feeder.label), length, generator)
        return _repeated_order(torch.arange(len(self.feeder)), length, generator)

    def _make(self, step: int, index: Tensor, rows: Tensor | None) -> Batch:
        num_body = torch.from_numpy(self.feeder.num_body_of)[index]
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, "views", self.epoch, step, self.rank)
        )
        label = torch.from_numpy(self.feeder.label)[index]
        numbers = [send(each, self.device) for each in (label, index, num_body)]
        if self._features is not None:
            there = torch.arange(self.feeder.num_body, device=self.device) < numbers[-1][:, None]
            features = [Clip(each, there[:, :, None]) for each in self._pick(index, generator)]
            return Batch(features, None, *numbers)
        shown, count = self._show(index, num_body, rows, generator), self.num_future
        if not count:
            return Batch(shown, None, *numbers)
        return Batch([view.frames(None, -count) for view in shown], shown[0].frames(-count, None), *numbers)

    def _show(
        self, index: Tensor, num_body: Tensor, rows: Tensor | None, generator: torch.Generator
    ) -> list[Clip]:
        """All frames of the views of clips at `index` in the feeder; `rows` as `_read` gives them."""
        num_frame, table = torch.from_numpy(self.feeder.num_frame)[index], None
        if rows is None:
            assert self._rows is not None
            rows, start, table = self._rows, self._start[index], self._row_present
        else:
            start = self._size[index].cumsum(0) - self._size[index]
            rows = rows.to(self.device, non_blocking=True)
        clips = RaggedBatch(rows, start, num_frame, num_body, table=table)
        if self._observed < 1:
            clips = clips.beginning(self._observed)
        return make_views(self.views, clips, generator)

    def _pick(self, index: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Features (N, D) of clips at `index` in the feeder: of one view each where clips are shuffled, else of all."""
        assert self._features is not None
        if not self.shuffle:
            return list(self._features[send(index, self.device)].unbind(1))
        drawn = torch.randint(self._features.shape[1], index.shape, generator=generator)
        return [self._features[send(index, self.device), send(drawn, self.device)]]

    def _is_resident(self) -> bool:
        """Whether the rows of all clips are where views are made."""
        return self._rows is not None and self._rows.device.type == self.device.type

    def _read(self, indices: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """Rows of each batch, end to end; None where the rows of all clips are on the device."""
        if self._features is not None:
            yield from (None for _ in indices)
        elif self._rows is None:
            clips = [self.feeder.clips[index.numpy()] for index in indices]
            yield from DataLoader(
                _Reader(self.feeder.source),
                sampler=clips,
                batch_size=None,
                num_workers=self.num_worker,
                pin_memory=self.device.type == "cuda",
                # Its own, for a loader draws from the global one where it is not given any.
                generator=torch.Generator(),
            )
        elif self._is_resident():
            yield from (None for _ in indices)
        else:
            for index in indices:
                rows = self._rows.index_select(0, _ranges(self._start[index], self._size[index]))
                yield rows.pin_memory() if self.device.type == "cuda" else rows


class _Reader(Dataset):
    """Rows of some clips, as a worker reads them."""

    def __init__(self, source: Prepared | ArrayFolder) -> None:
        self.source = source

    def __getitem__(self, clips: np.ndarray) -> Tensor:
        return torch.from_numpy(self.source.read(clips))


def _repeated_order(members: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """`length` of the members, shuffled; where more are wanted than there are, all come in a new order each time."""
    count = len(members)
    orders = [torch.randperm(count, generator=generator) for _ in range(-(-length // count))]
    return members[torch.cat(orders)[:length]]


def _balanced_order(label: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """`length` places in `label` (n,), shuffled: of each class equally many, or one more where they do not divide."""
    classes = label.unique()
    classes = classes[torch.randperm(len(classes), generator=generator)]
    share, rest = divmod(length, len(classes))
    orders = [
        _repeated_order((label == each).nonzero()[:, 0], share + (number < rest), generator)
        for number, each in enumerate(classes)
    ]
    return torch.cat(orders)[torch.randperm(length, generator=generator)]


def _ranges(start: Tensor, size: Tensor) -> Tensor:
    """start[0], start[0] + 1, ... `size[0]` of them, then those of start[1], ...: (sum of size,)."""
    end = size.cumsum(0)
    return torch.arange(int(end[-1])) + (start - end + size).repeat_interleave(size)
