"""Benchmark: what each loss of the long-term network costs in a step, and an epoch at the size of NTU RGB+D 60."""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from feeder.views import View
from net import as_gcn, st_gcn
from net.long_term import LongTerm
from net.method import CROSS_ENTROPY
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton
from tools.benchmark_pretrain import NUM_CLASS, NUM_CLIP, device_loader, endless, made_up_clips
from tools.contest import LAYOUT, PRECISIONS, Row, autocast, duration, take_turns


def long_term(rounds: int, device: torch.device) -> Iterator[Row]:
    """Steps with all losses, and with all but one: the difference is what that one costs; and a GPU's epoch."""
    for precision, dtype in PRECISIONS.items():
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
    """Rows of one precision: all losses, each left out, and the action alone."""
    torch.manual_seed(0)
    backbone = st_gcn.Model(3, NUM_CLASS, layout=LAYOUT, hidden_channels=hidden_channels)
    network = LongTerm(backbone, queue_size=queue_size).to(device).train()
    batch = made_up_batch(num_clip, num_frame, network.num_predict, device)
    every = tuple(loss.name for loss in LongTerm.LOSSES)
    sets = {"all losses": every}
    sets |= {
        f"without {name}": tuple(n for n in every if n != name)
        for name in every
        if name != CROSS_ENTROPY.name
    }
    sets["the action alone"] = (CROSS_ENTROPY.name,)
    work = {name: step(network, batch, wanted, dtype) for name, wanted in sets.items()}
    seconds = take_turns(work, rounds)
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
    with tempfile.TemporaryDirectory() as folder:
        feeder = made_up_clips(Path(folder, "clips.h5"), num_clip, (64, 105))
        crop = {"RandomResizedCrop": {"num_frame": 64, "min_ratio": 0.5, "max_ratio": 1.0, "num_ahead": 10}}
        views = [
            View(get_skeleton(LAYOUT), num_body=2, sampling=[crop], augment=["Rotate"], same_frames=again)
            for again in (False, True)
        ]
        loader = device_loader(feeder, views, device, batch_size=batch_size, shuffle=True)
    batches = endless(loader)
    every = tuple(loss.name for loss in LongTerm.LOSSES)

    def steps(dtype: torch.dtype) -> Callable[[], object]:
        backbone = as_gcn.Model(
            3, NUM_CLASS, layout=LAYOUT, hidden_channels=hidden_channels, skip_empty_bodies=True
        )
        network = LongTerm(backbone, queue_size=queue_size).to(device).train()

        def run() -> None:
            for _ in range(num_step):
                batch = next(batches)
                step(network, batch, every, dtype)()

        return run

    work = {name: steps(dtype) for name, dtype in PRECISIONS.items()}
    for name, each in take_turns(work, rounds).items():
        rate = num_step * batch_size / statistics.median(each)
        what = f"long-term epoch, AS-GCN {hidden_channels} channels, {num_clip:,} clips on the device, {name}"
        yield Row(what, f"{rate:,.0f}", time=duration(num_clip / rate))


def made_up_batch(num_clip: int, num_frame: int, num_predict: int, device: torch.device) -> Batch:
    """Noise of two bodies in the form of a batch."""
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
    network: LongTerm, batch: Batch, wanted: tuple[str, ...], dtype: torch.dtype
) -> Callable[[], Tensor]:
    """A forward and backward pass with the losses that are wanted; it returns their sum."""

    def run() -> Tensor:
        with autocast(batch.label.device, dtype):
            output = network(batch, wanted)
        losses = [*output.losses.values(), F.cross_entropy(output.scores.float(), batch.label)]
        network.zero_grad(set_to_none=True)
        total = torch.stack(losses).sum()
        total.backward()
        return total.detach()

    return run
