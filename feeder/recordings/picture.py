"""Coordinates in the picture: x to the right, y down. C channels: x, y and perhaps confidence."""

import numpy as np

from feeder.recordings.recording import RecordingError
from net.utils.channels import joints_there

# Shares of the picture are from 0 to 1, or little more if a joint is outside; pixels are larger.
MAX_SHARE = 2.0


def to_picture(poses: np.ndarray, width: float, height: float) -> np.ndarray:
    """Poses (..., V, C) in pixels as ((x - width / 2) / height, (y - height / 2) / height), float32.

    All channels of absent joints (all zeros, or confidence 0) become zero. For shares of a picture of unknown size,
    give 1 x 1.

    Raises:
        RecordingError: the width or the height is not above 0 and finite.
    """
    if not (0 < width < np.inf and 0 < height < np.inf):
        raise RecordingError(None, f"the picture is {width}x{height}; give its width and height in pixels")
    moved = np.array(poses, np.float32)
    moved[..., :2] = (poses[..., :2] - np.array([width, height]) / 2) / height
    moved[~_seen(poses)] = 0
    return moved


def _seen(poses: np.ndarray) -> np.ndarray:
    """Joints of poses (..., V, C) that are present: (..., V) bool; if there is a confidence, it decides alone."""
    return joints_there(poses[..., 2:] if poses.shape[-1] == 3 else poses)


def place_in_picture(poses: np.ndarray, size: tuple[int, int] | None) -> tuple[np.ndarray, str]:
    """Poses (..., V, C) in heights of the picture from its middle, unit "picture"; pixels of unknown size stay, "px".

    All channels of absent joints become zero, see `to_picture`.

    Args:
        poses: in pixels; or in shares of the width and the height, if all are below 2.
        size: (width, height) of the picture in pixels; None if it is not known.

    Raises:
        RecordingError: see `to_picture`.
    """
    shares = np.abs(poses[..., :2]).max(initial=0) < MAX_SHARE
    if size is not None:
        pixels = poses.copy()
        pixels[..., :2] *= size if shares else 1
        return to_picture(pixels, *size), "picture"
    if shares:
        return to_picture(poses, 1, 1), "picture"
    return np.where(_seen(poses)[..., None], poses, 0).astype(np.float32), "px"
