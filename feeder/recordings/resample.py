"""Another frame rate for a recording."""

import math

import numpy as np
import torch

from feeder.ragged import RaggedBatch


def resample(tracks: np.ndarray, frame_rate: float | None, wanted: float | None) -> np.ndarray:
    """Tracks (M, T, V, C) at another frame rate by linear interpolation; as they are where a rate is not known.

    Frame k is that at time k / wanted, as long as the recording goes on, so that no frame depends on later ones than
    its neighbours. Between a frame in which a body is and one in which it is not, the nearer one counts.
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
