"""Benchmark: views of a batch of clips."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch

import main as command
from feeder.ragged import RaggedBatch
from feeder.views import View, make_views
from net.utils.layouts import get_skeleton
from tools import textbook
from tools.contest import LAYOUT, ROOT, Row, ratio, take_turns


def aimclr_views() -> list[View]:
    """Query, key and extreme view, as the config of pre-training has them."""
    leaf = ROOT / "config" / "ntu" / "pretrain_aimclr.yaml"
    config = command.read_config(command.parse(["pretrain", "-c", str(leaf)]))
    return [View(get_skeleton(LAYOUT), num_body=2, **asdict(view)) for view in config.views]


def ragged(num_body: Sequence[int], device: torch.device) -> RaggedBatch:
    """Random clips of 64 to 104 frames, 84 on average, one for each number of bodies."""
    generator = np.random.default_rng(0)
    num_frame = generator.integers(64, 105, len(num_body))
    size = num_frame * np.asarray(num_body)
    rows = torch.from_numpy(generator.standard_normal((size.sum(), 25, 3)).astype(np.float32))
    return RaggedBatch(
        rows=rows.to(device),
        start=torch.from_numpy(np.cumsum(size) - size),
        num_frame=torch.from_numpy(num_frame),
        num_body=torch.tensor(num_body),
    )


def padded(clips: RaggedBatch, num_clip: int) -> list[np.ndarray]:
    """The first clips as other projects hold them: (C, T, V, 2) each, zero where a body is absent."""
    rows, made = clips.rows.cpu().numpy(), []
    for clip in range(num_clip):
        start, length, bodies = (int(each[clip]) for each in (clips.start, clips.num_frame, clips.num_body))
        tracks = np.zeros((2, length, 25, 3), np.float32)
        tracks[:bodies] = rows[start : start + bodies * length].reshape(bodies, length, 25, 3)
        made.append(tracks.transpose(3, 1, 2, 0))
    return made


def aligned(clip: np.ndarray) -> np.ndarray:
    """What its authors leave of a clip (C, T, V, M) to each epoch: resized and turned once, and stored."""
    return textbook.align_shoulders(textbook.resize(clip, 50))


def batch(rounds: int, device: torch.device) -> Iterator[Row]:
    """AimCLR's normal view and all three of 256 clips: 50 frames x 25 joints x 2 bodies, from 84 on average.

    The textbook does the same work clip by clip; and what its authors leave to each epoch.
    """
    clips = ragged([2] * 256, device)
    views, generator = aimclr_views(), torch.Generator().manual_seed(0)
    yield from _views_beside(
        "AimCLR's normal view", clips, views[:1], textbook.normal_view, generator, rounds
    )
    yield from _views_beside("AimCLR's three views", clips, views, textbook.aimclr_views, generator, rounds)


def _views_beside(
    what: str,
    clips: RaggedBatch,
    views: Sequence[View],
    usual: Callable[[np.ndarray], object],
    generator: torch.Generator,
    rounds: int,
) -> Iterator[Row]:
    """Rows of some views beside the textbook's of an aligned clip."""
    raw = padded(clips, 16)
    stored = [aligned(clip) for clip in raw]
    work: Mapping[str, Callable[[], object]] = {
        "textbook": lambda: [usual(aligned(clip)) for clip in raw],
        "textbook, clips resized and aligned before": lambda: [usual(clip) for clip in stored],
    }
    seconds = take_turns({"ours": lambda: make_views(views, clips, generator), **work}, 3 * rounds)
    fast = [s / len(clips) for s in seconds["ours"]]
    slow = {name: [s / len(raw) for s in seconds[name]] for name in work}
    yield Row(what, f"{1 / statistics.median(fast):,.0f}", f"{ratio(slow['textbook'], fast):.1f}")
    for name, each in slow.items():
        beside = "" if name == "textbook" else f"{ratio(slow['textbook'], each):.1f}"
        yield Row(f"{what}, {name}", f"{1 / statistics.median(each):,.0f}", beside)
