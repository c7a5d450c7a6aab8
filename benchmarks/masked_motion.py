"""Benchmark: training steps of masked motion, at the size for a thousand clips and at the published size."""

import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.ntu import LAYOUT, NUM_CLIP
from benchmarks.report import Row
from benchmarks.steps import fast_precisions, sgd_step
from benchmarks.textbook import masked_motion as textbook
from benchmarks.timing import duration, ratio, time_interleaved
from net import transformer
from net.masked_motion import MaskedMotion
from net.utils.clip import Batch, Clip
from net.utils.layouts import get_skeleton

# Epochs of the published pre-training.
NUM_EPOCH = 400


class Size(NamedTuple):
    """Of the clips, the encoder, the decoder and the mask."""

    layout: str
    num_frame: int
    num_clip: int
    patch: int
    width: int
    depth: int
    num_head: int
    mlp_ratio: float
    decoder_width: int
    decoder_depth: int
    mask_ratio: float


SIZES = {
    "masked motion, 32 frames, 8 a token, width 128, depth 4, 25 % visible": Size(
        "kinect-v1", 32, 32, 8, 128, 4, 4, 2.0, 64, 1, 0.75
    ),
    "masked motion, 120 frames, 4 a token, width 256, depth 8, 10 % visible": Size(
        LAYOUT, 120, 8, 4, 256, 8, 8, 4.0, 256, 5, 0.9
    ),
}


def masked_motion(rounds: int, device: torch.device) -> Iterator[Row]:
    """Forward pass, backward pass and step of the optimizer; the textbook encodes all tokens, in fp32."""
    for name, size in SIZES.items():
        yield from step(name, size, rounds, device)


def step(name: str, size: Size, rounds: int, device: torch.device) -> Iterator[Row]:
    """Rows of one size; and, at the published one, how long pre-training takes at that rate."""
    torch.manual_seed(0)
    num_joint = get_skeleton(size.layout).num_joint
    x = torch.randn(size.num_clip, 1, size.num_frame, num_joint, 3).permute(0, 4, 2, 3, 1).to(device)
    clip = torch.arange(size.num_clip, device=device)
    batch = Batch([Clip.of(x)], None, clip, clip, torch.ones_like(clip), torch.Generator().manual_seed(0))
    work: dict[str, Callable[[], object]] = {"textbook": _textbook_step(size, num_joint, x)}
    for precision, dtype in fast_precisions(device).items():
        work[precision] = _our_step(size, batch, dtype)
    seconds = time_interleaved(work, rounds)
    for key, each in seconds.items():
        rate = size.num_clip / statistics.median(each)
        beside = "" if key == "textbook" else f"{ratio(seconds['textbook'], each):.2f}"
        whole = duration(NUM_EPOCH * NUM_CLIP / rate) if size.layout == LAYOUT else ""
        yield Row(
            f"{name}, {key}",
            f"{rate:,.1f}",
            beside,
            whole and f"{whole} for {NUM_EPOCH} epochs of NTU-60, one body a clip",
        )


def _our_step(size: Size, batch: Batch, dtype: torch.dtype) -> Callable[[], object]:
    encoder = transformer.Model(
        layout=size.layout,
        patch=size.patch,
        max_frame=size.num_frame,
        width=size.width,
        depth=size.depth,
        num_head=size.num_head,
        mlp_ratio=size.mlp_ratio,
    )
    method = MaskedMotion(
        encoder,
        mask_ratio=size.mask_ratio,
        decoder_width=size.decoder_width,
        decoder_depth=size.decoder_depth,
        decoder_head=size.num_head,
    ).to(batch.label.device)
    return sgd_step(method, lambda given: method(given, ("motion",)).losses, lambda: batch, dtype)


def _textbook_step(size: Size, num_joint: int, x: Tensor) -> Callable[[], object]:
    chosen = {name: value for name, value in size._asdict().items() if name not in ("layout", "num_clip")}
    network = textbook.MaskedMotion(num_joint=num_joint, **chosen).to(x.device)
    contiguous = x.contiguous()
    return sgd_step(network, lambda given: {"motion": network(given)}, lambda: contiguous, torch.float32)
