"""Parses frames in lines of JSON, which a pose estimator can pipe in.

V joints, M bodies, C channels.
"""

from typing import Any

import numpy as np

from feeder.recordings.json_files import parse_json
from feeder.recordings.recording import RecordingError
from net.utils.channels import num_coordinate


def parse_frame(line: bytes, *, num_joint: int, channels: str, scale: float) -> np.ndarray:
    """The bodies (M, V, C) float32 of a frame; M may be 0.

    A line is one body, `[[x, y, z], ...]` with an item for each joint, or a list of bodies. `[]` is an empty frame. A
    joint that was not seen is `null`, and becomes 0.

    Args:
        line: the text.
        num_joint: V.
        channels: of a joint, see `Recording`.
        scale: factor of the coordinates, such as their unit in metres; confidence is not scaled.

    Raises:
        RecordingError: the line has another form, or a coordinate is NaN or infinite.
    """
    content = parse_json(line)
    if not isinstance(content, list):
        raise RecordingError(None, f"a frame is a list of joints or of bodies, not {_kind(content)}")
    bodies = [content] if content and all(map(_is_joint, content)) else content
    num_channel = len(channels)
    unseen = [0.0] * num_channel
    frame = np.zeros((len(bodies), num_joint, num_channel), np.float64)
    for number, body in enumerate(bodies):
        if not isinstance(body, list) or len(body) != num_joint:
            found = f"{len(body)} joints" if isinstance(body, list) else _kind(body)
            raise RecordingError(None, f"body {number} has {found}; needed are {num_joint}")
        for joint, place in enumerate(body):
            values = unseen if place is None else place
            if not _is_joint(values) or len(values) != num_channel:
                raise RecordingError(
                    None,
                    f"joint {joint} of body {number} is not {num_channel} numbers, or null where it was not seen",
                )
            try:
                frame[number, joint] = values
            except OverflowError:
                raise RecordingError(None, f"joint {joint} of body {number} is too large a number") from None
    with np.errstate(over="ignore"):
        frame[..., : num_coordinate(channels)] *= scale
        poses = frame.astype(np.float32)
    if not np.isfinite(poses).all():
        raise RecordingError(None, "a coordinate is NaN, infinite or too large; write null for a joint")
    return poses


def _is_joint(value: Any) -> bool:
    numbers = isinstance(value, list) and value and all(type(each) in (int, float) for each in value)
    return value is None or bool(numbers)


def _kind(value: Any) -> str:
    return {dict: "an object", str: "text", bool: "a truth value", type(None): "null"}.get(
        type(value), "a number"
    )
