"""Benchmark: linear evaluation, by features that are extracted once or by the encoder in every epoch."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.clips import device_loader, padded, random_feeder, random_ragged, repeat
from benchmarks.ntu import BODIES, LAYOUT, NUM_CLASS, adjacency
from benchmarks.report import Row
from benchmarks.steps import autocast, fast_precisions, update
from benchmarks.textbook import views as textbook
from benchmarks.textbook.st_gcn import STGCN
from benchmarks.timing import duration, ratio, time_interleaved
from feeder.loader import Loader
from feeder.views import View
from net import st_gcn
from net.utils.layouts import get_skeleton
from processor.encoder_weights import Probe
from processor.features import extract_features


def linear_evaluation(
    rounds: int, device: torch.device, *, num_clip: int = 40_000, sample: int = 512, batch_size: int = 128
) -> Iterator[Row]:
    """Features of all clips once, and epochs of a linear layer on them.

    The rate of features is measured on `sample` clips. The textbook runs the frozen encoder in every epoch, on
    clips that were resized and aligned before.
    """
    with tempfile.TemporaryDirectory() as folder:
        feeder = random_feeder(Path(folder, "sample.h5"), sample)
        view = View(
            get_skeleton(LAYOUT),
            num_body=2,
            sampling=[{"Resize": {"num_frame": 50}}],
            normalise="align_shoulders",
        )
        sample_loader = device_loader(feeder, [view], device, batch_size=64, shuffle=False)
        encoder = st_gcn.Model(layout=LAYOUT, hidden_channels=16).to(device)

        def features(dtype: torch.dtype) -> Callable[[], Tensor]:
            return lambda: extract_features(
                encoder, sample_loader, sample_loader.iterate(), autocast(device, dtype)
            )

        few = repeat(BODIES, min(sample, 64))
        stored = [textbook.resize_and_align(clip) for clip in padded(random_ragged(few, device), len(few))]
        # One frame of each clip is enough: the layer is given features, not poses.
        short = random_feeder(Path(folder, "all.h5"), num_clip, (1, 2))
        loader = device_loader(short, [], device, batch_size=batch_size, shuffle=True)
        work = {
            "textbook": textbook_probe_step(stored, device),
            **{precision: features(dtype) for precision, dtype in fast_precisions(device).items()},
            "layer": probe_epoch(loader, encoder.feature_dim),
        }
        seconds = time_interleaved(work, rounds)
    for precision in fast_precisions(device):
        rate = sample / statistics.median(seconds[precision])
        what = f"linear evaluation, features of {num_clip:,} clips at the rate of {sample}, {precision}"
        yield Row(what, f"{rate:,.1f}", time=duration(num_clip / rate))
    slow = [s * num_clip / len(stored) for s in seconds["textbook"]]
    for what, each, beside in (
        ("on stored features", seconds["layer"], f"{ratio(slow, seconds['layer']):,.0f}"),
        (f"at the rate of {len(stored)}, textbook", slow, ""),
    ):
        took = statistics.median(each)
        yield Row(
            f"linear evaluation, an epoch of {num_clip:,} clips {what}",
            f"{num_clip / took:,.1f}",
            beside,
            duration(took),
        )


def probe_epoch(loader: Loader, feature_dim: int) -> Callable[[], Tensor]:
    """An epoch of the linear layer on random features of a loader's clips; it returns the last loss."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(loader.feeder), 1, feature_dim, generator=generator).to(loader.device)
    loader = loader.with_features(features)
    probe = Probe(feature_dim, NUM_CLASS).to(loader.device)
    probe.whitening.standardise(features.flatten(0, 1))
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.1, momentum=0.9)

    def run() -> Tensor:
        for batch in loader.iterate():
            loss = update(optimizer, F.cross_entropy(probe(batch.views[0].x), batch.label))
        return loss

    return run


def textbook_probe_step(clips: Sequence[np.ndarray], device: torch.device) -> Callable[[], Tensor]:
    """A step of the linear layer behind the textbook's frozen encoder; it returns the loss."""
    encoder = STGCN(adjacency("spatial"), NUM_CLASS, hidden_channels=16).to(device).eval()
    optimizer = torch.optim.SGD(encoder.head.parameters(), lr=0.1, momentum=0.9)
    label = torch.arange(len(clips), device=device) % NUM_CLASS

    def run() -> Tensor:
        x = textbook.stack(clips, device)
        with torch.no_grad():
            feature = encoder.pool(encoder.maps(x), len(x))
        return update(optimizer, F.cross_entropy(encoder.head(feature), label))

    return run
