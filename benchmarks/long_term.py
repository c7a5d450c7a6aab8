"""Benchmark: what each loss of the long-term network costs in a step, and an epoch at the size of NTU RGB+D 60."""

import statistics
from collections.abc import Callable, Collection, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.clips import endless_batches
from benchmarks.ntu import LAYOUT, NUM_CLASS, NUM_CLIP
from benchmarks.report import Row
from benchmarks.steps import backward_step, fast_precisions
from benchmarks.timing import duration, time_interleaved
from feeder.views import View
from net import as_gcn, st_gcn
from net.long_term import LongTerm
from net.method import CROSS_ENTROPY
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton

# All losses of the network.
ALL = tuple(loss.name for loss in LongTerm.LOSSES)


def long_term(rounds: int, device: torch.device) -> Iterator[Row]:
    """Steps with all losses and with one left out, whose difference is what that loss costs; on a GPU an epoch, too."""
    for precision, dtype in fast_precisions(device).items():
        yield from costs(rounds, device, dtype, precision)
    if device.type == "cuda":
        yield from epoch(rounds, device)


def costs(
    rounds: int,
    device: torch.device,
    dtype: torch.dtype,
    precision: str,
    *,
    num_clip: int = 32,
    num_frame: int = 64,
    hidden_channels: int = 64,
    queue_size: int = 32_768,
) -> Iterator[Row]:
    """Rows of one precision: all losses, each of them left out, and the action alone."""
    torch.manual_seed(0)
    backbone = st_gcn.Model(3, NUM_CLASS, layout=LAYOUT, hidden_channels=hidden_channels)
    network = LongTerm(backbone, queue_size=queue_size).to(device).train()
    batch = random_batch(num_clip, num_frame, network.num_predict, device)
    wanted = {"all losses": ALL}
    for left_out in ALL:
        if left_out != CROSS_ENTROPY.name:
            wanted[f"without {left_out}"] = tuple(name for name in ALL if name != left_out)
    wanted["the action alone"] = (CROSS_ENTROPY.name,)
    work = {name: step(network, lambda: batch, losses, dtype) for name, losses in wanted.items()}
    seconds = time_interleaved(work, rounds)
    what = f"long-term step, ST-GCN {hidden_channels} channels, {num_frame} frames, {precision}"
    for name, each in seconds.items():
        share = statistics.median(1 - t / whole for t, whole in zip(each, seconds["all losses"], strict=True))
        cost = "" if name == "all losses" else f"{100 * share:.1f} % less time"
        yield Row(f"{what}, {name}", f"{num_clip / statistics.median(each):,.1f}", time=cost)


def epoch(
    rounds: int,
    device: torch.device,
    *,
    num_clip: int = NUM_CLIP,
    num_step: int = 20,
    batch_size: int = 64,
    hidden_channels: int = 64,
    queue_size: int = 32_768,
) -> Iterator[Row]:
    """The joint phase around AS-GCN with all clips in the device's memory, and how long an epoch takes at that rate."""
    crop = {"RandomResizedCrop": {"num_frame": 64, "min_ratio": 0.5, "max_ratio": 1.0, "num_ahead": 10}}
    views = [
        View(get_skeleton(LAYOUT), num_body=2, sampling=[crop], augment=["Rotate"], same_frames=again)
        for again in (False, True)
    ]
    batches = endless_batches(num_clip, views, device, batch_size=batch_size)

    def steps(dtype: torch.dtype) -> Callable[[], object]:
        backbone = as_gcn.Model(
            3, NUM_CLASS, layout=LAYOUT, hidden_channels=hidden_channels, skip_empty_bodies=True
        )
        network = LongTerm(backbone, queue_size=queue_size).to(device).train()
        run = step(network, lambda: next(batches), ALL, dtype)
        return lambda: [run() for _ in range(num_step)]

    work = {name: steps(dtype) for name, dtype in fast_precisions(device).items()}
    for name, each in time_interleaved(work, rounds).items():
        rate = num_step * batch_size / statistics.median(each)
        what = f"long-term epoch, AS-GCN {hidden_channels} channels, {num_clip:,} clips on the device, {name}"
        yield Row(what, f"{rate:,.0f}", time=duration(num_clip / rate))


def random_batch(num_clip: int, num_frame: int, num_predict: int, device: torch.device) -> Batch:
    """Random clips of two bodies in two views of `num_frame` frames, and the `num_predict` frames after them."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, num_clip, 2, num_frame + num_predict, 25, 3)
    views = torch.randn(shape, generator=generator).to(device).permute(0, 1, 5, 3, 4, 2)
    clip = torch.arange(num_clip, device=device)
    first, second = (Clip.of(view) for view in views)
    return Batch(
        [first.frames(None, num_frame), second.frames(None, num_frame)],
        first.frames(num_frame, None),
        clip % NUM_CLASS,
        clip,
        torch.full_like(clip, 2),
    )


def step(
    network: LongTerm, make_batch: Callable[[], Batch], wanted: Collection[str], dtype: torch.dtype
) -> Callable[[], Tensor]:
    """A forward and backward pass with the losses that are wanted; it returns their sum."""

    def run() -> Tensor:
        batch = make_batch()

        def loss() -> Tensor:
            output = network(batch, wanted)
            action = F.cross_entropy(output.scores.float(), batch.label)
            return torch.stack([*output.losses.values(), action]).sum()

        return backward_step(network, loss, dtype)

    return run
