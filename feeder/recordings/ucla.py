"""Reads files of Northwestern-UCLA Multiview Action 3D.

A file is JSON: {"file_name", "skeletons": [T][20][3], "label": 1 to 10}. The joints are those of Kinect v1, in metres.
A frame without a skeleton is an empty list.
"""

from typing import Any

import numpy as np

from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton

LAYOUT = "kinect-v1"


def poses_of(content: Any) -> np.ndarray:
    """Poses (T, 20, 3) float32 of a file's content; frames without a skeleton are kept, as zeros.

    Raises:
        RecordingError: the content is not of the format, or holds no skeleton.
    """
    if not isinstance(content, dict) or not isinstance(content.get("skeletons"), list):
        raise RecordingError(None, 'not an object with a list "skeletons"')
    if not content["skeletons"]:
        raise RecordingError(None, "no frames")
    num_joint = get_skeleton(LAYOUT).num_joint
    empty = [[0.0, 0.0, 0.0]] * num_joint
    frames = [frame or empty for frame in content["skeletons"]]
    for number, frame in enumerate(frames, 1):
        if not isinstance(frame, list) or len(frame) != num_joint:
            raise RecordingError(None, f"frame {number} of {len(frames)} does not hold {num_joint} joints")
    try:
        with np.errstate(over="ignore"):
            poses = np.array(frames, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise RecordingError(None, "a joint is not three numbers") from None
    if poses.shape != (len(frames), num_joint, 3):
        raise RecordingError(None, "a joint is not three numbers")
    if not np.isfinite(poses).all():
        raise RecordingError(None, "a coordinate is NaN, infinite or missing")
    if not poses.any():
        raise RecordingError(None, f"none of the {len(frames)} frames has a skeleton")
    return poses
