"""What the numbers of a joint are, a letter each: coordinates first, then perhaps a confidence, as in "xyc".

A joint that is not there is 0 in all of them. Preparation imports this, and does not load torch, which takes seconds.
"""

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray[Any, Any]", "Tensor")

# Confidence, c, is from 0 to 1; it is 0 for a joint that was not seen.
CHANNELS = ("xyz", "xy", "xyc")
CONFIDENCE = "c"


def num_coordinate(channels: str) -> int:
    """D, how many of the C channels are coordinates."""
    return len(channels.rstrip(CONFIDENCE))


def num_predictable(channels: str | None, in_channels: int) -> int:
    """D of a network that takes C = `in_channels`: its coordinates, which alone are predicted.

    channels: what the C are; None if all of them are coordinates.

    Raises ValueError: there are not as many.
    """
    if channels is None:
        return in_channels
    if len(channels) != in_channels:
        raise ValueError(f"channels is {channels!r}, but in_channels is {in_channels}; make them agree")
    return num_coordinate(channels)


def has_confidence(channels: str) -> bool:
    """Whether the last number of a joint is its confidence."""
    return channels.endswith(CONFIDENCE)


def joints_there(joints: Array) -> Array:
    """Which joints (..., C), of NumPy or torch, are there: (...) bool."""
    return (joints != 0).any(-1)


def bodies_there(poses: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Which of the poses (..., V, C) have a joint that is there: (...) bool."""
    found: np.ndarray[Any, Any] = (poses != 0).any((-2, -1))
    return found


def in_plane(channels: str) -> bool:
    """Whether joints are places in a picture."""
    return "z" not in channels
