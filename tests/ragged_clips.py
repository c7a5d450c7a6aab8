"""Clips of all shapes for tests of the feeder, and their slow counterparts: one clip, frame, joint at a time."""

from collections.abc import Sequence

import numpy as np
import torch

from feeder.ragged import RaggedBatch


def make_clips(lengths: Sequence[int], bodies: Sequence[int], *, num_joint: int = 25, seed: int = 0):
    """One (M, T, V, 3) float32 array per clip; poses as far from the camera as real ones."""
    rng = np.random.default_rng(seed)
    shapes = [(num_body, length, num_joint, 3) for length, num_body in zip(lengths, bodies, strict=True)]
    return [(rng.standard_normal(shape) * 0.4 + [0.3, 0.1, 3.0]).astype(np.float32) for shape in shapes]


def to_batch(clips: Sequence[np.ndarray], *, gap: int = 0) -> RaggedBatch:
    """The clips end to end, with `gap` foreign rows before each."""
    foreign = np.full((gap, *clips[0].shape[2:]), 1e6, np.float32)
    parts, start, row = [], [], 0
    for clip in clips:
        parts += [foreign, clip.reshape(-1, *clip.shape[2:])]
        start.append(row + gap)
        row += gap + clip.shape[0] * clip.shape[1]
    count = [torch.tensor([clip.shape[axis] for clip in clips]) for axis in (1, 0)]
    return RaggedBatch(torch.from_numpy(np.concatenate(parts)), torch.tensor(start), *count)


def at(track: np.ndarray, position: float) -> np.ndarray:
    """A pose of a track (T, V, C) between two frames, or the nearer one if the other is empty; empty at NaN."""
    if np.isnan(position):
        return np.zeros(track.shape[1:], track.dtype)
    before = int(np.floor(position))
    weight = position - before
    if weight == 0:
        return track[before]
    if track[before].any() != track[before + 1].any():
        return track[before + (weight > 0.5)]
    return (1 - weight) * track[before] + weight * track[before + 1]


def resized(track: np.ndarray, num_frame: int) -> np.ndarray:
    """A track (T, V, C) in `num_frame` frames, linearly, pixel centres at the half."""
    length = len(track)
    centres = [(frame + 0.5) * length / num_frame - 0.5 for frame in range(num_frame)]
    return np.stack([at(track, min(max(centre, 0), length - 1)) for centre in centres])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
