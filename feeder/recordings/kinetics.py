"""Reads files of Kinetics-skeleton: OpenPose's output on videos, published with ST-GCN (Yan et al., AAAI 2018).

A file is JSON: {"data": [{"frame_index": 1 on, "skeleton": [{"pose": [x, y of 18 joints], "score": [18]}, ...]}, ...]};
x and y are shares of the picture's width and height, 0 where a joint was not seen. Bodies come in any order.
"""

from typing import Any

import numpy as np

from feeder.recordings.picture import to_picture
from feeder.recordings.recording import RecordingError

LAYOUT = "openpose"
NUM_JOINT = 18
NUM_BODY = 2
MAX_FRAME = 100_000
MAX_SHARE = 10.0  # largest coordinate, as a share of the picture; pixels are more


def tracks_of(content: Any) -> np.ndarray:
    """Tracks (M, T, 18, 3) float32 of a file's content: x, y from the picture's middle, confidence.

    The two bodies with the highest sums of scores in each frame are kept, the highest first, as in ST-GCN.

    Raises:
        RecordingError: the content is not of the format, or has no body.
    """
    frames = content.get("data") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise RecordingError(None, 'not an object with a list "data" of frames')
    indices, found = zip(*(_frame(frame, number) for number, frame in enumerate(frames, 1)), strict=True)
    if len(set(indices)) < len(frames):
        raise RecordingError(None, "two frames have one frame_index")
    bodies = [body for some in found for body in some]
    if not bodies:
        raise RecordingError(None, f"none of the {len(frames)} frames has a body")
    poses = _poses(bodies)
    frame = np.repeat(np.array(indices) - 1, list(map(len, found)))
    order = np.lexsort((-poses[..., 2].sum(1), frame))
    slot = np.arange(len(order)) - np.searchsorted(frame[order], frame[order])
    chosen = slot < NUM_BODY
    tracks = np.zeros((int(slot[chosen].max()) + 1, max(indices), NUM_JOINT, 3), np.float32)
    tracks[slot[chosen], frame[order][chosen]] = to_picture(poses[order][chosen], 1, 1)
    if not tracks.any():
        raise RecordingError(None, "no joint of any body was seen")
    return tracks


def _frame(frame: Any, number: int) -> tuple[int, list[Any]]:
    """Index, from 1, and bodies of a frame; `number` is for messages."""
    index = frame.get("frame_index") if isinstance(frame, dict) else None
    if type(index) is not int or not 1 <= index <= MAX_FRAME:
        raise RecordingError(
            None, f"frame {number} has no frame_index that is a whole number from 1 to {MAX_FRAME:,}"
        )
    bodies = frame.get("skeleton")
    if not isinstance(bodies, list) or not all(isinstance(body, dict) for body in bodies):
        raise RecordingError(None, f'frame {number} has no list "skeleton" of bodies')
    return index, bodies


def _poses(bodies: list[dict[str, Any]]) -> np.ndarray:
    """Poses (B, 18, 3) of bodies: x, y as shares, confidence."""
    try:
        place = np.array([body.get("pose") for body in bodies], np.float64)
        score = np.array([body.get("score") for body in bodies], np.float64)
    except (ValueError, TypeError, OverflowError):
        raise RecordingError(
            None, "a pose or a score is not a list of as many numbers as the others"
        ) from None
    if place.shape != (len(bodies), 2 * NUM_JOINT) or score.shape != (len(bodies), NUM_JOINT):
        raise RecordingError(
            None,
            f"poses and scores have shapes {place.shape[1:]}, {score.shape[1:]}; needed are {2 * NUM_JOINT} numbers, x "
            f"and y of {NUM_JOINT} joints, and {NUM_JOINT} scores",
        )
    poses = np.concatenate([place.reshape(-1, NUM_JOINT, 2), score[..., None]], -1)
    if not np.isfinite(poses).all():
        raise RecordingError(None, "a number is NaN or infinite")
    if np.abs(place).max() > MAX_SHARE:
        raise RecordingError(None, "a pose has coordinates like pixels; needed are shares of the picture")
    return poses
