"""Places in the picture: x to the right, y down. C channels: x, y and perhaps confidence."""

import numpy as np

from feeder.recordings.recording import RecordingError
from net.utils.channels import joints_there

# A body in pixels spans more; shares of the picture are from 0 to 1, or little beyond where a joint is outside.
MAX_SHARE = 2.0


def to_picture(poses: np.ndarray, width: float, height: float) -> np.ndarray:
    """Poses (..., V, C) in pixels as ((x - width / 2) / height, (y - height / 2) / height), float32.

    Joints that are absent, all zeros or of confidence 0, become zeros throughout. Shares of a picture of unknown size
    are pixels of one that is 1 x 1.

    Raises:
        RecordingError: a picture without size.
    """
    if not (0 < width < np.inf and 0 < height < np.inf):
        raise RecordingError(None, f"the picture is {width}x{height}; give its width and height in pixels")
    moved = np.array(poses, np.float32)
    moved[..., :2] = (poses[..., :2] - np.array([width, height]) / 2) / height
    moved[~_seen(poses)] = 0
    return moved


def _seen(poses: np.ndarray) -> np.ndarray:
    """Which joints of poses (..., V, C) are there and, where there is a confidence, have one above 0: (..., V) bool."""
    return joints_there(poses[..., 2:] if poses.shape[-1] == 3 else poses)


def place_in_picture(poses: np.ndarray, size: tuple[int, int] | None) -> tuple[np.ndarray, str]:
    """Poses (..., V, C) in pixels or in shares of the picture, and their unit: "picture", or "px" for plain pixels.

    Joints that are absent become zeros throughout, see `to_picture`.

    Args:
        poses: pixels, or shares of the width and the height where none is 2 or more.
        size: (width, height) of the picture; None where it is not known.

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
