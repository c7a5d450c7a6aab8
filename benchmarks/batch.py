"""Benchmark: views of a batch of clips."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch

import main as command
from benchmarks.clips import padded, random_ragged
from benchmarks.ntu import LAYOUT
from benchmarks.report import ROOT, Row
from benchmarks.textbook import views as textbook
from benchmarks.timing import ratio, time_interleaved
from feeder.ragged import RaggedBatch
from feeder.views import View, make_views
from net.utils.layouts import get_skeleton


def aimclr_views() -> list[View]:
    """Query, key and extreme view, as the config of pre-training has them."""
    leaf = ROOT / "config" / "ntu" / "pretrain_aimclr.yaml"
    config = command.read_config(command.parse(["pretrain", "-c", str(leaf)]))
    return [View(get_skeleton(LAYOUT), num_body=2, **asdict(view)) for view in config.views]


def batch(rounds: int, device: torch.device) -> Iterator[Row]:
    """AimCLR's normal view, and its three views, of 256 clips: 50 frames x 25 joints x 2 bodies, from 84 frames.

    The textbook does the same work clip by clip. AimCLR's authors resize and align clips once, and store them;
    a second row of the textbook has the rest of the work alone.
    """
    clips = random_ragged([2] * 256, device)
    views, generator = aimclr_views(), torch.Generator().manual_seed(0)
    yield from _view_rows("AimCLR's normal view", clips, views[:1], textbook.normal_view, generator, rounds)
    yield from _view_rows("AimCLR's three views", clips, views, textbook.aimclr_views, generator, rounds)


def _view_rows(
    what: str,
    clips: RaggedBatch,
    views: Sequence[View],
    textbook_view: Callable[[np.ndarray], object],
    generator: torch.Generator,
    rounds: int,
) -> Iterator[Row]:
    """Rows of our views and of the textbook's; `textbook_view` is given a clip that is resized and aligned."""
    raw = padded(clips, 16)
    stored = [textbook.resize_and_align(clip) for clip in raw]
    work: Mapping[str, Callable[[], object]] = {
        "textbook": lambda: [textbook_view(textbook.resize_and_align(clip)) for clip in raw],
        "textbook, clips resized and aligned before": lambda: [textbook_view(clip) for clip in stored],
    }
    seconds = time_interleaved({"ours": lambda: make_views(views, clips, generator), **work}, 3 * rounds)
    fast = [s / len(clips) for s in seconds["ours"]]
    slow = {name: [s / len(raw) for s in seconds[name]] for name in work}
    yield Row(what, f"{1 / statistics.median(fast):,.0f}", f"{ratio(slow['textbook'], fast):.1f}")
    for name, each in slow.items():
        beside = "" if name == "textbook" else f"{ratio(slow['textbook'], each):.1f}"
        yield Row(f"{what}, {name}", f"{1 / statistics.median(each):,.0f}", beside)
