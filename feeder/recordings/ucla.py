"""Reads files of Northwestern-UCLA Multiview Action 3D.

A file is JSON: {"file_name", "skeletons": [T][20][3], "label": 1 to 10}. The joints are those of Kinect v1, in metres.
A frame without a skeleton is an empty list.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton

LAYOUT = "kinect-v1"
# Largest JSON file; reading takes about ten times as much memory. 12,000 frames of 40 detections are 210 MB.
MAX_BYTES = 1 << 28


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RecordingError: the file is not JSON, or too large.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise RecordingError(
            None, f"larger than {MAX_BYTES >> 20} MiB; cut it, or write its poses as an array (.npy)"
        )
    return parse_json(path.read_bytes())


def parse_json(data: bytes) -> Any:
    """The content of JSON text.

    Raises:
        RecordingError: the text is not JSON.
    """
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise RecordingError(error.lineno, f"not JSON: {error.msg}") from None
    except (
        ValueError,
        RecursionError,
    ):  # bytes that are not text, a number with too many digits, too deep lists
        raise RecordingError(None, "not JSON") from None


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
