"""The order of an array's axes: m bodies, t frames, v joints, c channels."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from feeder.recordings.recording import RecordingError

DEFAULT_ORDERS = {3: "tvc", 4: "mtvc"}
# An axis of another order is taken for bodies if it is at most FEW_BODIES, and for frames if at least SOME_FRAMES.
FEW_BODIES = 4
SOME_FRAMES = 8


def check_axes(axes: str) -> str:
    """`axes`, checked. Raises ValueError if they are not t, v, c and perhaps m."""
    if "".join(sorted(axes)) not in ("ctv", "cmtv"):
        raise ValueError(
            f"axes are {axes!r}; give t, v, c, and m if there is an axis of bodies, in the array's order, such as vct"
        )
    return axes


def arrange(
    values: np.ndarray, *, num_joint: int, num_channels: Sequence[int], axes: str | None = None
) -> tuple[np.ndarray, str | None]:
    """An array as tracks (M, T, V, C), a view of it; and a sentence about the order if it was guessed, else None.

    The array is (T, V, C), (M, T, V, C) or (T, M * V * C). Another order must be given in `axes`, or be the only one
    that fits the shape.

    Args:
        values: array with 2 to 4 axes.
        num_joint: V.
        num_channels: possible values of C; the first one that fits is used.
        axes: order of the axes; None to use the one that fits.

    Raises:
        RecordingError: no order fits, or several do.
    """
    if values.size == 0:
        raise _misfit(values, num_joint, num_channels)
    if values.ndim == 2 and axes is None:
        return _of_rows(values, num_joint, num_channels)
    if axes is not None:
        if len(axes) != values.ndim:
            raise RecordingError(
                None, f"shape {values.shape} has {values.ndim} axes, but --axes names {axes!r}"
            )
        if not _fits(values.shape, axes, num_joint, num_channels):
            sizes = ", ".join(f"{axis} {size}" for axis, size in zip(axes, values.shape, strict=True))
            raise RecordingError(
                None, f"with --axes {axes} there are {sizes}; needed are {_needed(num_joint, num_channels)}"
            )
        return _as_tracks(values, axes), None
    if values.ndim not in DEFAULT_ORDERS:
        raise _misfit(values, num_joint, num_channels)
    default = DEFAULT_ORDERS[values.ndim]
    for count in num_channels:
        is_default = _fits(values.shape, default, num_joint, [count])
        if is_default and not _is_unlikely(values.shape):
            return _as_tracks(values, default), None
        found = [
            "".join(order)
            for order in permutations(default)
            if _fits(values.shape, order, num_joint, [count])
        ]
        sure = [order for order in found if order != default and _is_sure(values.shape, order)]
        if is_default and not sure:
            return _as_tracks(values, default), None
        if len(sure) == 1:
            order = ", ".join(sure[0].upper())
            return _as_tracks(values, sure[0]), f"axes of shape {values.shape} are taken to be ({order})"
        if len(sure) > 1:
            raise RecordingError(
                None,
                f"shape {values.shape} may be {' or '.join(sure)}; name its axes with --axes",
            )
    raise _misfit(values, num_joint, num_channels)


def _of_rows(
    values: np.ndarray, num_joint: int, num_channels: Sequence[int]
) -> tuple[np.ndarray, str | None]:
    for count in num_channels:
        if values.shape[1] % (num_joint * count) == 0:
            tracks = values.reshape(len(values), -1, num_joint, count).swapaxes(0, 1)
            row = f"rows of {values.shape[1]} numbers are taken to be {len(tracks)} x {num_joint} joints x {count}"
            return tracks, None if count == num_channels[0] else row
    raise _misfit(values, num_joint, num_channels)


def _fits(shape: Sequence[int], axes: Sequence[str], num_joint: int, num_channels: Sequence[int]) -> bool:
    size = dict(zip(axes, shape, strict=True))
    return size["v"] == num_joint and size["c"] in num_channels


def _is_sure(shape: Sequence[int], axes: Sequence[str]) -> bool:
    size = {"m": 1} | dict(zip(axes, shape, strict=True))
    return size["m"] <= FEW_BODIES and size["t"] >= SOME_FRAMES


def _is_unlikely(shape: Sequence[int]) -> bool:
    """Whether a shape, read as (M, T, V, C), has many bodies and few frames."""
    return len(shape) == 4 and shape[0] >= SOME_FRAMES and shape[1] <= FEW_BODIES


def _as_tracks(values: np.ndarray, axes: str) -> np.ndarray:
    ordered = values.transpose([axes.index(axis) for axis in "mtvc" if axis in axes])
    return ordered if "m" in axes else ordered[None]


def _needed(num_joint: int, num_channels: Sequence[int]) -> str:
    return f"{num_joint} joints v and {' or '.join(map(str, num_channels))} channels c"


def _misfit(values: np.ndarray, num_joint: int, num_channels: Sequence[int]) -> RecordingError:
    width = num_joint * num_channels[0]
    rows = f"; a row has {values.shape[1]} numbers, not {width} for each body" if values.ndim == 2 else ""
    empty = "; it is empty" if values.size == 0 else ""
    return RecordingError(
        None,
        f"shape {values.shape}; needed is (frames, {num_joint}, {num_channels[0]}), or that for each body{rows}{empty}",
    )
