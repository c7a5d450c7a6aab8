"""Batches of a part: ragged rows from wherever they are held, then views on the device.

Shapes: N clips, C channels, T frames, V joints, M bodies, R rows (poses).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from feeder.arrays import ArrayFolder
from feeder.feeder import Feeder
from feeder.prepared import Prepared
from feeder.ragged import RaggedBatch
from feeder.views import View
from torchlight.seed import derive_seed


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch, on the device but for ``index``.

    views: network inputs, each (N, C, T, V, M).
    label: (N,) int64.
    index: (N,) int64 on the CPU, positions in the feeder.
    num_body: (N,) int64, bodies present.
    """

    views: list[Tensor]
    label: Tensor
    index: Tensor
    num_body: Tensor

    @property
    def data(self) -> Tensor:
        """The first view (N, C, T, V, M)."""
        return self.views[0]


class Loader:
    """Batches of a feeder's clips, each a function of (seed, epoch, step, rank) alone.

    Order and views do not depend on ``cache`` or ``num_workers``, and a batch can be made without those before it.

    Args:
        feeder: the clips.
        views: made of every batch, in one pass each.
        batch_size: clips a process and step.
        device: where views are made.
        cache: "device" holds all frames there, "memory" in the host's memory, "none" reads them from disk.
        shuffle: a new order each epoch; else the feeder's order.
        drop_last: leave out the clips that do not fill a batch (in every process, when there are several).
        seed: of order and views.
        num_workers: processes that read from disk, with ``cache`` "none".
        rank, world_size: this process's share. Shuffled, all processes have equally many clips (a few come twice
            if need be); otherwise every clip is in exactly one process.
    """

    def __init__(
        self,
        feeder: Feeder,
        views: Sequence[View],
        *,
        batch_size: int,
        device: torch.device | str,
        cache: Literal["device", "memory", "none"] = "device",
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it is 1 or more")
        if num_workers and cache != "none":
            raise ValueError(
                f"{num_workers} workers with cache {cache!r}: workers read from disk, which only cache 'none' does; "
                "set data.num_worker=0 or data.cache=none"
            )
        self.feeder, self.views = feeder, list(views)
        self.batch_size, self.device, self.cache = batch_size, torch.device(device), cache
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        self.num_workers, self.rank, self.world_size = num_workers, rank, world_size
        self.epoch = 0
        self._label = torch.from_numpy(feeder.label)
        self._num_frame = torch.from_numpy(feeder.source.num_frame[feeder.clips])
        self._stored_body = torch.from_numpy(feeder.source.num_body[feeder.clips])
        self._num_body = torch.from_numpy(feeder.num_body)
        size = self._num_frame * self._stored_body
        self._start = size.cumsum(0) - size
        self._rows: Tensor | None = None
        if cache != "none":
            self._rows = torch.from_numpy(feeder.source.read(feeder.clips))
            if cache == "device":
                self._rows = self._rows.to(self.device)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order and views the next iteration has."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches())

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """The batches of the epoch from ``start_step`` on."""
        batches = self._batches()[start_step:]
        for step, (index, clips) in enumerate(
            zip(batches, self._read(batches), strict=True), start=start_step
        ):
            seed = derive_seed(self.seed, "views", self.epoch, step, self.rank)
            generator = torch.Generator().manual_seed(seed)
            yield Batch(
                views=[view(clips, generator) for view in self.views],
                label=self._label[index].to(self.device, non_blocking=True),
                index=index,
                num_body=self._num_body[index].to(self.device, non_blocking=True),
            )

    def _batches(self) -> tuple[Tensor, ...]:
        """Positions in the feeder, a batch each."""
        count = len(self.feeder)
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
            order = torch.randperm(count, generator=generator)
            share = -(-count // self.world_size)
            order = order.repeat(-(-share * self.world_size // count))[self.rank :: self.world_size][:share]
        else:
            order = torch.arange(count)[self.rank :: self.world_size]
        batches = order.split(self.batch_size)
        if self.drop_last and len(batches[-1]) < self.batch_size:
            return batches[:-1]
        return batches

    def _read(self, batches: Sequence[Tensor]) -> Iterator[RaggedBatch]:
        if self.cache == "device":
            assert self._rows is not None
            for index in batches:
                yield RaggedBatch(
                    self._rows, self._start[index], self._num_frame[index], self._stored_body[index]
                )
            return
        for index, rows in zip(batches, self._rows_of(batches), strict=True):
            size = self._num_frame[index] * self._stored_body[index]
            rows = rows.to(self.device, non_blocking=True)
            yield RaggedBatch(rows, size.cumsum(0) - size, self._num_frame[index], self._stored_body[index])

    def _rows_of(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Rows of the clips of each batch end to end, on the host (pinned where a GPU takes them)."""
        pin = self.device.type == "cuda"
        if self._rows is None:
            dataset = _RowsOfClips(self.feeder.source, self.feeder.clips)
            yield from DataLoader(
                dataset,
                batch_size=None,
                sampler=[index.numpy() for index in batches],
                num_workers=self.num_workers,
                pin_memory=pin,
                # Without one of its own it would draw from the global generator.
                generator=torch.Generator(),
            )
            return
        for index in batches:
            size = self._num_frame[index] * self._stored_body[index]
            first = torch.repeat_interleave(self._start[index] - (size.cumsum(0) - size), size)
            rows = self._rows[first + torch.arange(len(first))]
            yield rows.pin_memory() if pin else rows


class _RowsOfClips(Dataset[Tensor]):
    """Indexed by positions in the feeder (n,): their rows (R, V, C), read from disk."""

    def __init__(self, source: Prepared | ArrayFolder, clips: np.ndarray) -> None:
        self.source, self.clips = source, clips

    def __getitem__(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(self.source.read(self.clips[index]))
