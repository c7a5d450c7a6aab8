"""Benchmark: AimCLR's training step, linear evaluation, and pre-training at the size of NTU RGB+D 60."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.feeder import Feeder
from feeder.loader import Batch, Loader
from feeder.prepared import PreparedWriter
from feeder.views import View, make_views
from net import st_gcn
from net.aimclr import AimCLR
from net.utils.layouts import get_skeleton
from processor.encoder import Probe
from processor.features import extract_features
from tools import textbook, textbook_networks
from tools.benchmark_batch import aimclr_views, aligned, padded, ragged
from tools.contest import LAYOUT, PRECISIONS, Row, adjacency, autocast, duration, ratio, take_turns

NUM_CLASS = 60
# Clips of NTU RGB+D 60 that train in xsub; in about four of five somebody is alone.
NUM_CLIP = 40_091
BODIES = (1, 1, 1, 1, 2)


def pretrain(rounds: int, device: torch.device) -> Iterator[Row]:
    """The training step and linear evaluation; and where a GPU holds all clips, pre-training as a whole."""
    yield from step(rounds, device, (2,))
    yield from step(rounds, device, BODIES)
    yield from linear_evaluation(rounds, device)
    if device.type == "cuda":
        yield from whole_epochs(rounds, device)


# -- the training step -------------------------------------------------------------------------------


def our_step(
    make: Callable[[], Batch],
    device: torch.device,
    dtype: torch.dtype,
    *,
    queue_size: int = 32_768,
    skip_empty_bodies: bool = False,
    mines: bool = False,
) -> Callable[[], dict[str, Tensor]]:
    """A step of ours on the batches that `make` gives, with neighbours mined or not; it returns the losses."""
    encoder = st_gcn.Model(layout=LAYOUT, hidden_channels=16, skip_empty_bodies=skip_empty_bodies)
    method = AimCLR(encoder, queue_size=queue_size).to(device)
    method.start_epoch(method.mining_epoch if mines else 0)
    wanted = tuple(loss.name for loss in AimCLR.LOSSES)
    return training_step(method, lambda batch: method(batch, wanted).losses, make, dtype)


def usual_step(
    clips: Sequence[np.ndarray], device: torch.device, *, queue_size: int = 32_768
) -> Callable[[], dict[str, Tensor]]:
    """A step of the textbook's, in float32, on clips that were resized and aligned before."""
    encoder = textbook_networks.STGCN(adjacency("spatial"), NUM_CLASS, hidden_channels=16)
    method = textbook_networks.AimCLR(encoder, queue_size).to(device)

    def make() -> list[Tensor]:
        of_clips = zip(*map(textbook.aimclr_views, clips), strict=True)
        return [_stacked(view, device) for view in of_clips]

    return training_step(method, method, make, torch.float32)


def training_step(
    method: nn.Module,
    losses_of: Callable[[Any], dict[str, Tensor]],
    make: Callable[[], Any],
    dtype: torch.dtype,
) -> Callable[[], dict[str, Tensor]]:
    """Views, losses, gradients, and a step of SGD."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=1e-4)

    def run() -> dict[str, Tensor]:
        given = make()
        with autocast(trained[0].device, dtype):
            losses = losses_of(given)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return losses

    return run


def step(
    rounds: int,
    device: torch.device,
    bodies: Sequence[int],
    *,
    num_clip: int = 64,
    queue_size: int = 32_768,
) -> Iterator[Row]:
    """A step of ST-GCN with 16 channels, 50 frames x 2 bodies; clips have `bodies`, over and over.

    The textbook convolves bodies that are not there. The encoder runs three times on either side: on the
    query, on the extreme view and on the key.
    """
    clips = ragged(bodies_of(num_clip, bodies), device)
    views, generator = aimclr_views(), torch.Generator().manual_seed(0)

    clip = torch.arange(num_clip, device=device)

    def make() -> Batch:
        return Batch(make_views(views, clips, generator), None, clip, clip, clip)

    stored = [aligned(clip) for clip in padded(clips, num_clip)]
    work = {"textbook": usual_step(stored, device, queue_size=queue_size)}
    for precision, dtype in PRECISIONS.items():
        work[precision] = our_step(make, device, dtype, queue_size=queue_size)
    what = f"AimCLR step, {num_clip} clips of 2 bodies"
    if 1 in bodies:
        what = f"AimCLR step, {num_clip} clips, {bodies.count(1) / len(bodies):.0%} with one body"
        work["bf16, empty bodies skipped"] = our_step(
            make, device, torch.bfloat16, queue_size=queue_size, skip_empty_bodies=True
        )
    seconds = take_turns(work, rounds)
    for name, each in seconds.items():
        beside = "" if name == "textbook" else f"{ratio(seconds['textbook'], each):.2f}"
        yield Row(f"{what}, {name}", f"{num_clip / statistics.median(each):,.1f}", beside)


def _stacked(clips: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """(N, C, T, V, M) float32, contiguous."""
    return torch.from_numpy(np.stack(clips).astype(np.float32)).to(device)


# -- linear evaluation -------------------------------------------------------------------------------


def linear_evaluation(
    rounds: int, device: torch.device, *, num_clip: int = 40_000, sample: int = 512, batch_size: int = 128
) -> Iterator[Row]:
    """Features of all clips once, and epochs of a linear layer on them; rates of features are a sample's.

    The textbook runs the frozen encoder anew in every epoch, on clips that were resized and aligned before.
    """
    with tempfile.TemporaryDirectory() as folder:
        feeder = made_up_clips(Path(folder, "sample.h5"), sample, (64, 105))
        view = View(
            get_skeleton(LAYOUT),
            num_body=2,
            sampling=[{"Resize": {"num_frame": 50}}],
            normalise="align_shoulders",
        )
        shown = device_loader(feeder, [view], device, batch_size=64, shuffle=False)
        encoder = st_gcn.Model(layout=LAYOUT, hidden_channels=16).to(device)

        def features(dtype: torch.dtype) -> Callable[[], Tensor]:
            return lambda: extract_features(encoder, shown, shown.iterate(), autocast(device, dtype))

        few = bodies_of(min(sample, 64), BODIES)
        stored = [aligned(clip) for clip in padded(ragged(few, device), len(few))]
        # One frame of each clip will do, for only features are looked at.
        short = made_up_clips(Path(folder, "all.h5"), num_clip, (1, 2))
        loader = device_loader(short, [], device, batch_size=batch_size, shuffle=True)
        work = {
            "textbook": usual_probe_step(stored, device),
            **{precision: features(dtype) for precision, dtype in PRECISIONS.items()},
            "layer": probe_epoch(loader, encoder.feature_dim),
        }
        seconds = take_turns(work, rounds)
    usual = [s * num_clip / len(stored) for s in seconds["textbook"]]
    for precision in PRECISIONS:
        rate = sample / statistics.median(seconds[precision])
        what = f"linear evaluation, features of {num_clip:,} clips at the rate of {sample}, {precision}"
        yield Row(what, f"{rate:,.1f}", time=duration(num_clip / rate))
    for what, each, beside in (
        ("on stored features", seconds["layer"], f"{ratio(usual, seconds['layer']):,.0f}"),
        (f"at the rate of {len(stored)}, textbook", usual, ""),
    ):
        took = statistics.median(each)
        yield Row(
            f"linear evaluation, an epoch of {num_clip:,} clips {what}",
            f"{num_clip / took:,.1f}",
            beside,
            duration(took),
        )


def probe_epoch(loader: Loader, feature_dim: int) -> Callable[[], Tensor]:
    """An epoch of the linear layer on stored features of the clips of a loader; it returns the last loss."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(loader.feeder), 1, feature_dim, generator=generator).to(loader.device)
    loader = loader.with_features(features)
    probe = Probe(feature_dim, NUM_CLASS).to(loader.device)
    probe.whitening.standardise(features.flatten(0, 1))
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.1, momentum=0.9)

    def run() -> Tensor:
        for batch in loader.iterate():
            loss = F.cross_entropy(probe(batch.views[0].x), batch.label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return loss.detach()

    return run


def usual_probe_step(clips: Sequence[np.ndarray], device: torch.device) -> Callable[[], Tensor]:
    """A step of the linear layer behind the textbook's frozen encoder; it returns the loss."""
    encoder = textbook_networks.STGCN(adjacency("spatial"), NUM_CLASS, hidden_channels=16).to(device).eval()
    optimizer = torch.optim.SGD(encoder.head.parameters(), lr=0.1, momentum=0.9)
    label = torch.arange(len(clips), device=device) % NUM_CLASS

    def run() -> Tensor:
        x = _stacked(clips, device)
        with torch.no_grad():
            feature = encoder.pool(encoder.maps(x), len(x))
        loss = F.cross_entropy(encoder.head(feature), label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


# -- pre-training as a whole -------------------------------------------------------------------------


def whole_epochs(
    rounds: int,
    device: torch.device,
    *,
    num_clip: int = NUM_CLIP,
    num_step: int = 20,
    batch_size: int = 128,
    queue_size: int = 32_768,
) -> Iterator[Row]:
    """AimCLR with all clips in the device's memory, and how long 300 epochs take at that rate.

    Neighbours are mined in every step, though training does so in its second half alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        feeder = made_up_clips(Path(folder, "clips.h5"), num_clip, (64, 105))
        loader = device_loader(feeder, aimclr_views(), device, batch_size=batch_size, shuffle=True)
    batches = endless(loader)

    def steps(dtype: torch.dtype, skip_empty_bodies: bool = False) -> Callable[[], object]:
        run = our_step(
            lambda: next(batches),
            device,
            dtype,
            queue_size=queue_size,
            skip_empty_bodies=skip_empty_bodies,
            mines=True,
        )
        return lambda: [run() for _ in range(num_step)]

    work = {name: steps(dtype) for name, dtype in PRECISIONS.items()}
    work["bf16, empty bodies skipped"] = steps(torch.bfloat16, skip_empty_bodies=True)
    for name, each in take_turns(work, rounds).items():
        rate = num_step * batch_size / statistics.median(each)
        what = f"AimCLR pre-training, {num_clip:,} clips on the device, 300 epochs, {name}"
        yield Row(what, f"{rate:,.0f}", time=duration(300 * num_clip / rate))


def endless(loader: Loader) -> Iterator[Batch]:
    """The batches of one epoch after another."""
    for epoch in count():
        loader.set_epoch(epoch)
        yield from loader.iterate()


# -- clips -------------------------------------------------------------------------------------------


def bodies_of(num_clip: int, bodies: Sequence[int]) -> list[int]:
    """How many bodies each clip has: `bodies` over and over."""
    return [bodies[clip % len(bodies)] for clip in range(num_clip)]


def made_up_clips(path: Path, num_clip: int, num_frame: tuple[int, int]) -> Feeder:
    """Clips of `num_frame` frames, from the first number to below the second, in a prepared file."""
    rng = np.random.default_rng(0)
    low, high = num_frame
    tracks = rng.standard_normal((2, high, 25, 3)).astype(np.float32)
    with PreparedWriter(
        path,
        skeleton=get_skeleton(LAYOUT),
        class_names=[str(number) for number in range(NUM_CLASS)],
        frame_rate=30.0,
        bodies="made up",
        source="benchmark",
    ) as writer:
        lengths = rng.integers(low, high, num_clip).tolist()
        for clip, (length, num_body) in enumerate(zip(lengths, bodies_of(num_clip, BODIES), strict=True)):
            writer.append(f"clip{clip}", clip % NUM_CLASS, tracks[:num_body, :length])
        writer.finish({"xsub": {"train": range(num_clip), "val": []}})
    return Feeder(path, "xsub", part="train", layout=LAYOUT, num_class=NUM_CLASS, val_fraction=0.0)


def device_loader(
    feeder: Feeder, views: Sequence[View], device: torch.device, *, batch_size: int, shuffle: bool
) -> Loader:
    """All clips on the device, from where batches are made."""
    return Loader(
        feeder,
        views,
        batch_size=batch_size,
        device=device,
        cache="device",
        shuffle=shuffle,
        drop_last=shuffle,
        seed=0,
    )
