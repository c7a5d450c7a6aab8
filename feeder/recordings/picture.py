"""Joints in a picture: x right, y down, and where it is known the confidence, which is 0 for a joint not seen.

C is 2 (x, y) or 3 (x, y, confidence).
"""

import numpy as np

from feeder.recordings.recording import RecordingError

NUM_COORDINATE = 2


def of_pixels(poses: np.ndarray, width: float, height: float) -> np.ndarray:
    """Poses (..., C) float32 of poses in pixels: from the picture's middle, in shares of its height.

    Args:
        poses: (..., C), of any type.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Raises:
        RecordingError: the picture has no size.
    """
    if not (0 < width < np.inf and 0 < height < np.inf):
        raise RecordingError(None, f"the picture is {width} x {height} pixels; both are needed above 0")
    return _moved(poses, np.array([width, height]) / 2, height)


def of_shares(poses: np.ndarray) -> np.ndarray:
    """Poses (..., C) float32 of poses in shares of a picture of unknown size: from its middle."""
    return _moved(poses, np.array([0.5, 0.5]), 1.0)


def _moved(poses: np.ndarray, middle: np.ndarray, scale: float) -> np.ndarray:
    moved = np.array(poses, np.float32)
    moved[..., :NUM_COORDINATE] = (poses[..., :NUM_COORDINATE] - middle) / scale
    seen = (poses[..., NUM_COORDINATE:] if poses.shape[-1] > NUM_COORDINATE else poses) != 0
    moved[~seen.any(-1)] = 0
    return moved
