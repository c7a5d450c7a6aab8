"""Places in the picture: x to the right, y down. C channels: x, y and perhaps confidence."""

import numpy as np

from feeder.recordings.recording import RecordingError


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
    shown = poses[..., 2:] if poses.shape[-1] == 3 else poses
    moved[~(shown != 0).any(-1)] = 0
    return moved
