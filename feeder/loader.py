"""Batches of clips, as views on the device; their order depends only on seed and epoch.

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
    """Iterates over the clips of a feeder in batches of views.

    A batch depends only on (seed, epoch, its number, rank), not on the cache or the number of workers. One exception:
    `GaussianNoise` is drawn on the device, so it differs between kinds of device.

    Args:
        feeder: the clips.
        views: make the inputs of each batch.
        batch_size: N; without `drop_last`, the last batch may be smaller.
        device: where the views are made.
        cache: where poses are kept. `device`: all clips on the device, so a batch sends only a few numbers. `memory`:
            all clips in the host's memory; each batch is sent. `none`: each batch is read from disk.
        shuffle: a new order in each epoch; every rank gets the same number of clips, so a few clips may come twice.
            Without it, every clip comes once, in order.
        drop_last: leave out the clips that do not fill a batch.
        seed: of the order and of the views.
        num_worker: processes that read ahead, with cache `none`.
        num_future: P, number of frames at the end of each view that are cut off. Those of the first view become the
            batch's `future`. None: `num_ahead` of the first view's sampling.
        min_clip: with `shuffle`, the least number of clips in an epoch; if there are fewer, they are repeated.
        balanced: with `shuffle`, an epoch has equally many clips of each class. Clips of a rare class are repeated;
            clips of a frequent class are drawn anew in each epoch.
        rank, world_size: number of this process, and number of processes that share the clips.

    Raises:
        ValueError: an argument is out of range; a view has another skeleton or number of bodies than the feeder; a view
            with `same_frames` has another sampling than the first view; `num_future` is the whole of a view.
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
                f"num_worker is {num_worker}, but with cache {cache!r} workers have nothing to read; "
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
                    "a view has same_frames: true, but another sampling than the first view; give both the same "
                    "sampling, or set same_frames: false"
                )
        if num_future is None:
            num_future = views[0].num_ahead if views else 0
        for view in views:
            if not 0 <= num_future < view.num_frame:
                raise ValueError(
                    f"num_future is {num_future}, but a view has {view.num_frame} frames; give 0 to "
                    f"{view.num_frame - 1}, so that at least one frame is seen"
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
        self._first, self._pitch = (
            torch.from_numpy(each) for each in (feeder.first, feeder.source.num_frame[feeder.clips])
        )
        self._size = self._pitch * torch.from_numpy(feeder.source.num_body[feeder.clips])
        # Windows of one clip share its rows.
        clips, item, place = np.unique(feeder.clips, return_index=True, return_inverse=True)
        size = self._size[item]
        self._start = (size.cumsum(0) - size)[place]
        self._rows: Tensor | None = None
        self._row_present: Tensor | None = None
        if cache != "none":
            rows = torch.from_numpy(feeder.source.read(clips))
            self._rows = rows.to(self.device) if cache == "device" else rows
            if self._is_resident():
                self._row_present = rows_with_body(self._rows)

    def with_views(self, views: Sequence[View], *, batch_size: int) -> "Loader":
        """A loader of the same clips in other views, each clip once, in order, with all frames; it shares the poses."""
        other = copy.copy(self)
        other.views, other.batch_size, other.num_future = list(views), batch_size, 0
        # Epoch 0: random views must not depend on how many epochs of training came before.
        other.shuffle, other.drop_last, other.min_clip, other.epoch = False, False, 0, 0
        return other

    def beginnings(self, ratio: float) -> "Loader":
        """A loader of the same batches, from only the first share `ratio` of the frames of each clip."""
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio is {ratio}; give more than 0, up to 1 for whole clips")
        assert self._features is None  # they are of whole clips
        other = copy.copy(self)
        other._observed = ratio
        return other

    def with_features(self, features: Tensor) -> "Loader":
        """A loader of the same batches, with features (n, R, D) of R views of each of the n clips in place of views.

        With `shuffle`, a batch has one view (N, D), drawn from the R for each clip. Without, it has all R views.
        """
        other = copy.copy(self)
        other._features, other._rows, other._row_present = features, None, None
        return other

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the batches that `iterate` gives."""
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
        """Indices of clips in the feeder, for all ranks: (padded length,) int64."""
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
        label, count = send(label, self.device), send(num_body, self.device)
        if self._features is not None:
            there = torch.arange(self.feeder.num_body, device=self.device) < count[:, None]
            views = [Clip(each, there[:, :, None]) for each in self._pick(index, generator)]
        else:
            views = self._show(index, num_body, rows, generator)
        future = None
        if self.num_future and self._features is None:
            future = views[0].frames(-self.num_future, None)
            views = [view.frames(None, -self.num_future) for view in views]
        return Batch(views, future, label, send(index, self.device), count, generator)

    def _show(
        self, index: Tensor, num_body: Tensor, rows: Tensor | None, generator: torch.Generator
    ) -> list[Clip]:
        """The views, with all frames, of clips at `index` (N,) in the feeder; `rows` are from `_read`."""
        num_frame, table = torch.from_numpy(self.feeder.num_frame)[index], None
        if rows is None:
            assert self._rows is not None
            rows, start, table = self._rows, self._start[index], self._row_present
        else:
            start = self._size[index].cumsum(0) - self._size[index]
            rows = rows.to(self.device, non_blocking=True)
        first, pitch = self._first[index], self._pitch[index]
        clips = RaggedBatch(rows, start + first, num_frame, num_body, pitch=pitch, table=table)
        if self._observed < 1:
            clips = clips.beginning(self._observed)
        return make_views(self.views, clips, generator)

    def _pick(self, index: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Features (N, D) of clips at `index` (N,) in the feeder: of one random view with `shuffle`, else of each."""
        assert self._features is not None
        if not self.shuffle:
            return list(self._features[send(index, self.device)].unbind(1))
        drawn = torch.randint(self._features.shape[1], index.shape, generator=generator)
        return [self._features[send(index, self.device), send(drawn, self.device)]]

    def _is_resident(self) -> bool:
        """Whether the rows of all clips are on the device of the views."""
        return self._rows is not None and self._rows.device.type == self.device.type

    def _read(self, indices: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """Rows of each batch, end to end, (R, V, C); None if they are on the device already, or features are used."""
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
                # Without a generator, a DataLoader draws from the global one.
                generator=torch.Generator(),
            )
        elif self._is_resident():
            yield from (None for _ in indices)
        else:
            for index in indices:
                rows = self._rows.index_select(0, _ranges(self._start[index], self._size[index]))
                yield rows.pin_memory() if self.device.type == "cuda" else rows


class _Reader(Dataset):
    """Rows of given clips; workers read them."""

    def __init__(self, source: Prepared | ArrayFolder) -> None:
        self.source = source

    def __getitem__(self, clips: np.ndarray) -> Tensor:
        return torch.from_numpy(self.source.read(clips))


def _repeated_order(members: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """`length` of the members in random order; if there are fewer members, they repeat, each time in a new order."""
    count = len(members)
    orders = [torch.randperm(count, generator=generator) for _ in range(-(-length // count))]
    return members[torch.cat(orders)[:length]]


def _balanced_order(label: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """`length` indices into `label` (n,) in random order; the numbers of clips per class differ by one at most."""
    classes = label.unique()
    classes = classes[torch.randperm(len(classes), generator=generator)]
    share, rest = divmod(length, len(classes))
    orders = [
        _repeated_order((label == each).nonzero()[:, 0], share + (number < rest), generator)
        for number, each in enumerate(classes)
    ]
    return torch.cat(orders)[torch.randperm(length, generator=generator)]


def _ranges(start: Tensor, size: Tensor) -> Tensor:
    """Concatenated ranges start[i] to start[i] + size[i] - 1: (sum of size,) int64."""
    end = size.cumsum(0)
    return torch.arange(int(end[-1])) + (start - end + size).repeat_interleave(size)
