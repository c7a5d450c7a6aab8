"""Resamples recordings to another frame rate."""

import math

import numpy as np
import torch

from feeder.ragged import RaggedBatch


def resample(tracks: np.ndarray, frame_rate: float | None, wanted: float | None) -> np.ndarray:
    """Tracks (M, T', V, C) at the frame rate `wanted`, by linear interpolation; unchanged if a rate is not known.

    Frame k is at time k / wanted, up to the end of the recording. So a frame depends only on the two frames around it.
    Between a frame with a body and a frame without it, the nearer one is used.
    """
    known = [rate is not None and math.isfinite(rate) for rate in (frame_rate, wanted)]
    if not all(known) or frame_rate == wanted:
        return tracks
    assert frame_rate is not None
    assert wanted is not None
    num_frame = tracks.shape[1]
    count = int((num_frame - 1) * wanted / frame_rate + 1e-6) + 1
    positions = (torch.arange(count, dtype=torch.float64) * frame_rate / wanted).clamp(max=num_frame - 1)
    batch = RaggedBatch.of_tracks([torch.from_numpy(tracks)])
    return batch.poses(batch.tracks(len(tracks)), positions[None]).numpy()
