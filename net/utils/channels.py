"""The channels of a joint, one letter each: coordinates first, then perhaps a confidence, as in "xyc".

An absent joint is 0 in all channels. This module does not import torch, which takes seconds: preparation uses it.
"""

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray[Any, Any]", "Tensor")

# The confidence, c, is from 0 to 1, and 0 for a joint that was not seen.
CHANNELS = ("xyz", "xy", "xyc")
CONFIDENCE = "c"


def num_coordinate(channels: str) -> int:
    """D, the number of coordinates among the C channels."""
    return len(channels.rstrip(CONFIDENCE))


def num_predictable(channels: str | None, in_channels: int) -> int:
    """D, the number of channels that a network with C = `in_channels` can predict: its coordinates.

    channels: names of the C; None if all of them are coordinates.

    Raises ValueError if `channels` has more or fewer letters than C.
    """
    if channels is None:
        return in_channels
    if len(channels) != in_channels:
        raise ValueError(f"channels is {channels!r}, but in_channels is {in_channels}; make them agree")
    return num_coordinate(channels)


def has_confidence(channels: str) -> bool:
    """Whether the last channel is a confidence."""
    return channels.endswith(CONFIDENCE)


def joints_there(joints: Array) -> Array:
    """Which joints (..., C), of NumPy or torch, are present: (...) bool."""
    return (joints != 0).any(-1)


def bodies_there(poses: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Which poses (..., V, C) have a present joint: (...) bool."""
    found: np.ndarray[Any, Any] = (poses != 0).any((-2, -1))
    return found


def in_plane(channels: str) -> bool:
    """Whether the coordinates are positions in a picture, without depth."""
    return "z" not in channels
