"""Benchmark: AimCLR's training step, linear evaluation, and pre-training at the size of NTU RGB+D 60."""

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.batch import aimclr_views
from benchmarks.clips import endless_batches, padded, random_ragged, repeat
from benchmarks.linear_evaluation import linear_evaluation
from benchmarks.ntu import BODIES, LAYOUT, NUM_CLASS, NUM_CLIP, adjacency
from benchmarks.report import Row
from benchmarks.steps import fast_precisions, sgd_step
from benchmarks.textbook import aimclr as textbook
from benchmarks.textbook import views as textbook_views
from benchmarks.textbook.st_gcn import STGCN
from benchmarks.timing import duration, ratio, time_interleaved
from feeder.loader import Batch
from feeder.views import make_views
from net import st_gcn
from net.aimclr import AimCLR


class Size(NamedTuple):
    """Widths of ST-GCN, and keys in AimCLR's queue."""

    hidden_channels: int = 16
    hidden_dim: int = 256
    queue_size: int = 32_768


PUBLISHED = Size()
SKIPPED = "empty bodies skipped"


def pretrain(rounds: int, device: torch.device) -> Iterator[Row]:
    """The training step and linear evaluation; on a GPU, pre-training with all clips in its memory, too."""
    yield from step(rounds, device, (2,))
    yield from step(rounds, device, BODIES)
    yield from linear_evaluation(rounds, device)
    if device.type == "cuda":
        yield from whole_epochs(rounds, device)


def our_step(
    make_batch: Callable[[], Batch],
    device: torch.device,
    dtype: torch.dtype,
    *,
    size: Size = PUBLISHED,
    skip_empty_bodies: bool = False,
    mines: bool = False,
) -> Callable[[], dict[str, Tensor]]:
    """A training step of ours; `mines`: with the nearest neighbours as further positives. It returns the losses."""
    encoder = st_gcn.Model(
        layout=LAYOUT,
        hidden_channels=size.hidden_channels,
        hidden_dim=size.hidden_dim,
        skip_empty_bodies=skip_empty_bodies,
    )
    method = AimCLR(encoder, queue_size=size.queue_size).to(device)
    method.start_epoch(method.mining_epoch if mines else 0)
    wanted = tuple(loss.name for loss in AimCLR.LOSSES)
    return sgd_step(method, lambda batch: method(batch, wanted).losses, make_batch, dtype)


def textbook_step(
    clips: Sequence[np.ndarray], device: torch.device, *, size: Size = PUBLISHED
) -> Callable[[], dict[str, Tensor]]:
    """A training step of the textbook's in float32, on clips that were resized and aligned before."""
    encoder = STGCN(adjacency("spatial"), NUM_CLASS, size.hidden_channels, size.hidden_dim)
    method = textbook.AimCLR(encoder, size.queue_size).to(device)

    def make_batch() -> list[Tensor]:
        views = zip(*map(textbook_views.aimclr_views, clips), strict=True)
        return [textbook_views.stack(view, device) for view in views]

    return sgd_step(method, method, make_batch, torch.float32)


def step(
    rounds: int,
    device: torch.device,
    bodies: Sequence[int],
    *,
    num_clip: int = 64,
    size: Size = PUBLISHED,
) -> Iterator[Row]:
    """Training steps of ST-GCN with 50 frames x 2 bodies; clips have `bodies`, over and over.

    The textbook convolves absent bodies, too. On either side the encoder runs three times: on the query, on the
    extreme view and on the key.
    """
    clips = random_ragged(repeat(bodies, num_clip), device)
    views, generator = aimclr_views(), torch.Generator().manual_seed(0)
    number = torch.arange(num_clip, device=device)

    def make_batch() -> Batch:
        return Batch(make_views(views, clips, generator), None, number, number, number)

    ours = functools.partial(our_step, make_batch, device, size=size)
    stored = [textbook_views.resize_and_align(clip) for clip in padded(clips, num_clip)]
    work = {"textbook": textbook_step(stored, device, size=size)}
    precisions = fast_precisions(device)
    work |= {precision: ours(dtype) for precision, dtype in precisions.items()}
    what = f"AimCLR step, {num_clip} clips of 2 bodies"
    if 1 in bodies:
        what = f"AimCLR step, {num_clip} clips, {bodies.count(1) / len(bodies):.0%} with one body"
        fastest, dtype = list(precisions.items())[-1]
        work[f"{fastest}, {SKIPPED}"] = ours(dtype, skip_empty_bodies=True)
    seconds = time_interleaved(work, rounds)
    for name, each in seconds.items():
        beside = "" if name == "textbook" else f"{ratio(seconds['textbook'], each):.2f}"
        yield Row(f"{what}, {name}", f"{num_clip / statistics.median(each):,.1f}", beside)


def whole_epochs(
    rounds: int,
    device: torch.device,
    *,
    num_clip: int = NUM_CLIP,
    num_step: int = 20,
    batch_size: int = 128,
    size: Size = PUBLISHED,
) -> Iterator[Row]:
    """AimCLR with all clips in the device's memory, and how long 300 epochs take at that rate.

    Each step mines neighbours, which training does in its second half only.
    """
    batches = endless_batches(num_clip, aimclr_views(), device, batch_size=batch_size)

    def steps(dtype: torch.dtype, skip_empty_bodies: bool = False) -> Callable[[], object]:
        run = our_step(
            lambda: next(batches),
            device,
            dtype,
            size=size,
            skip_empty_bodies=skip_empty_bodies,
            mines=True,
        )
        return lambda: [run() for _ in range(num_step)]

    precisions = fast_precisions(device)
    work = {name: steps(dtype) for name, dtype in precisions.items()}
    fastest, dtype = list(precisions.items())[-1]
    work[f"{fastest}, {SKIPPED}"] = steps(dtype, skip_empty_bodies=True)
    for name, each in time_interleaved(work, rounds).items():
        rate = num_step * batch_size / statistics.median(each)
        what = f"AimCLR pre-training, {num_clip:,} clips on the device, 300 epochs, {name}"
        yield Row(what, f"{rate:,.0f}", time=duration(300 * num_clip / rate))
