"""Random clips in the forms that benchmarks are given: ragged rows, padded arrays, prepared files, loaders."""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch

from benchmarks.ntu import BODIES, LAYOUT, NUM_CLASS
from feeder.feeder import Feeder
from feeder.loader import Batch, Loader
from feeder.prepared import PreparedWriter
from feeder.ragged import RaggedBatch
from feeder.views import View
from net.utils.layouts import get_skeleton

# From the first number to below the second: 84 frames on average.
NUM_FRAME = (64, 105)


def repeat(bodies: Sequence[int], num_clip: int) -> list[int]:
    """How many bodies each clip has: `bodies` over and over."""
    return [bodies[clip % len(bodies)] for clip in range(num_clip)]


def random_ragged(num_body: Sequence[int], device: torch.device) -> RaggedBatch:
    """Random clips of 84 frames on average, one for each number of bodies."""
    generator = np.random.default_rng(0)
    num_frame = generator.integers(*NUM_FRAME, len(num_body))
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
    rows, arrays = clips.rows.cpu().numpy(), []
    for clip in range(num_clip):
        start, length, bodies = (int(each[clip]) for each in (clips.start, clips.num_frame, clips.num_body))
        tracks = np.zeros((2, length, 25, 3), np.float32)
        tracks[:bodies] = rows[start : start + bodies * length].reshape(bodies, length, 25, 3)
        arrays.append(tracks.transpose(3, 1, 2, 0))
    return arrays


def random_feeder(path: Path, num_clip: int, num_frame: tuple[int, int] = NUM_FRAME) -> Feeder:
    """Random clips in a prepared file; `num_frame` is from the first number to below the second."""
    rng = np.random.default_rng(0)
    low, high = num_frame
    tracks = rng.standard_normal((2, high, 25, 3)).astype(np.float32)
    with PreparedWriter(
        path,
        skeleton=get_skeleton(LAYOUT),
        class_names=[str(number) for number in range(NUM_CLASS)],
        frame_rate=30.0,
        bodies="random",
        source="benchmark",
    ) as writer:
        lengths = rng.integers(low, high, num_clip).tolist()
        for clip, (length, num_body) in enumerate(zip(lengths, repeat(BODIES, num_clip), strict=True)):
            writer.append(f"clip{clip}", clip % NUM_CLASS, tracks[:num_body, :length])
        writer.finish({"xsub": {"train": range(num_clip), "val": []}})
    return Feeder(path, "xsub", part="train", layout=LAYOUT, num_class=NUM_CLASS, val_fraction=0.0)


def device_loader(
    feeder: Feeder, views: Sequence[View], device: torch.device, *, batch_size: int, shuffle: bool
) -> Loader:
    """Batches of clips that are all in the device's memory; a shuffled loader drops the last, smaller batch."""
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


def endless_batches(
    num_clip: int, views: Sequence[View], device: torch.device, *, batch_size: int
) -> Iterator[Batch]:
    """Batches of random clips in the device's memory, epoch after epoch."""
    with tempfile.TemporaryDirectory() as folder:
        feeder = random_feeder(Path(folder, "clips.h5"), num_clip)
        loader = device_loader(feeder, views, device, batch_size=batch_size, shuffle=True)
    for epoch in count():
        loader.set_epoch(epoch)
        yield from loader.iterate()
