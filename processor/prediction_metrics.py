"""Evaluation of predicted poses: errors at each horizon, and the simplest predictions as baselines.

N clips, M bodies, T frames seen, P predicted frames, V joints, C coordinates (metres).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from net.future import unit_poses
from net.utils.channels import joints_there
from net.utils.clip import Clip
from net.utils.layouts import CONSTANT_JOINTS, COPIED_JOINTS
from net.utils.skeleton import Skeleton
from processor.metrics import OVERALL

MILLIMETRES = 1000.0
NETWORK = "network"
# Names of what the errors that papers report are made of.
PUBLISHED, PUBLISHED_COUNT = "published_", "published_count"


def zero_velocity(seen: Tensor, count: int) -> Tensor:
    """The last frame of (N, M, T, V, C), repeated `count` times: (N, M, P, V, C)."""
    return seen[:, :, -1:].expand(-1, -1, count, -1, -1)


def constant_velocity(seen: Tensor, count: int) -> Tensor:
    """The last frame of (N, M, T, V, C), continued with its velocity: (N, M, P, V, C).

    A joint that is absent from the frame before stays where it is, and so do all joints of a clip of one frame.
    """
    if seen.shape[2] < 2:
        return zero_velocity(seen, count)
    last, before = seen[:, :, -1:], seen[:, :, -2:-1]
    known = joints_there(before)[..., None]
    step = torch.arange(1, count + 1, device=seen.device).view(-1, 1, 1)
    return last + step * (last - before) * known


# Predictions that a network must be better than.
BASELINES = {"zero_velocity": zero_velocity, "constant_velocity": constant_velocity}


def roll_out(forecast: Callable[[Clip], Tensor], seen: Clip, count: int) -> Tensor:
    """Predict `count` frames, (N, C, P, V, M); beyond those of one call the network continues from its own output.

    Args:
        forecast: from a clip of T frames to the next ones (N, C, P', V, M).
        seen: T frames; bodies that are present in the last frame are present in the predicted ones.
        count: P.
    """
    frames, present = seen
    num_frame = frames.shape[2]
    while frames.shape[2] < num_frame + count:
        following = forecast(Clip(frames, present).frames(-num_frame, None)).to(frames)
        frames = torch.cat((frames, following), 2)
        present = torch.cat((present, present[:, :, -1:].expand(-1, -1, following.shape[2])), 2)
    return frames[:, :, num_frame : num_frame + count]


def as_recorded(moved: Tensor, normalised: Tensor, turn: Tensor | None, last: Tensor) -> Tensor:
    """Predicted poses (B, P, V, C) in the coordinates of the recording.

    Undoes the normalisation of the last frame seen. Joints that are absent from that frame are 0.

    Args:
        moved: predicted poses (B, P, V, C) in the coordinates of a view.
        normalised: the last frame seen, (B, V, C), in the coordinates of the view.
        turn: (B, C, C), the rotation of that frame by the normalisation; None if it does not rotate.
        last: that frame, (B, V, C), as recorded.
    """
    if turn is not None:  # the inverse of a rotation is its transpose, here applied to rows
        moved, normalised = moved @ turn[:, None], normalised @ turn
    there = joints_there(last)[..., None]
    # Origin of the view in the recording: the mean over all joints reduces the rounding error of each.
    origin = ((last - normalised) * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
    return (moved + origin[:, None]) * there[:, None]


def total_error(predicted: Tensor, future: Tensor, scored: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of the joints' errors in mm at each horizon, (N, P).

    Args:
        predicted: (N, M, P, V, C) in metres.
        future: the true poses, (N, M, P, V, C) in metres.
        scored: (N, M, P, V) bool, joints that count.
        weight: (V,), how often each joint counts; None for once.
    """
    counts = scored if weight is None else scored * weight
    return ((predicted - future).norm(dim=-1) * counts).sum((1, 3)) * MILLIMETRES


def published_weight(skeleton: Skeleton) -> Tensor | None:
    """How often papers count the error of each joint, (V,); None for a layout that they have no rules for.

    They take constant joints from the truth, and copied joints from the joint that they equal (Mao et al., ICCV 2019).
    The mean is over all V joints. So the weights are 0 for both kinds, and for a joint 1 more than it has copies.
    """
    constant, copied = CONSTANT_JOINTS.get(skeleton.name), COPIED_JOINTS.get(skeleton.name)
    if constant is None or copied is None:
        return None
    times = Counter(copied.values())
    exact = {*constant, *copied}
    return torch.tensor([0.0 if joint in exact else 1.0 + times[joint] for joint in skeleton.joints])


def summed_errors(
    predictions: Mapping[str, Tensor], future: Tensor, scored: Tensor, weight: Tensor | None
) -> dict[str, Tensor]:
    """What an `error_table` is made of, each (N, P): the sums of errors in mm by predictor, and `count`, of joints.

    Args:
        predictions: by predictor, (N, M, P, V, C) in metres.
        future: see `total_error`.
        scored: see `total_error`.
        weight: of `published_weight`; with it there are the sums and the count for papers, too.
    """
    sums = {"count": scored.sum((1, 3))}
    sums |= {name: total_error(each, future, scored) for name, each in predictions.items()}
    if weight is not None:
        sums[PUBLISHED_COUNT] = scored.any(3).sum(1) * len(weight)
        for name, each in predictions.items():
            sums[f"{PUBLISHED}{name}"] = total_error(each, future, scored, weight)
    return sums


def mpjpe(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean per-joint position error at each horizon, (P,), from sums and counts (n, P); NaN without joints."""
    error, joints = total.sum(0, dtype=np.float64), count.sum(0)
    return np.divide(error, joints, out=np.full(len(joints), np.nan), where=joints > 0)


def mpjpe_table(
    totals: Mapping[str, np.ndarray],
    count: np.ndarray,
    label: np.ndarray,
    class_names: Sequence[str],
    *,
    horizons: Sequence[int],
    frame_rate: float,
) -> pd.DataFrame:
    """Table of the MPJPE in mm: a row for each action that has clips (and overall), predictor and horizon.

    Args:
        totals: for each predictor, sums of errors (n, P) in mm.
        count: (n, P) joints.
        label: (n,).
        class_names: one per class.
        horizons: frames, from 1 to P.
        frame_rate: frames per second; NaN where unknown, the column `ms` is then NaN too.
    """
    groups = [(OVERALL, np.ones(len(label), bool)), *((class_names[k], label == k) for k in np.unique(label))]
    rows = []
    for action, chosen in groups:
        for name, total in totals.items():
            error = mpjpe(total[chosen], count[chosen])
            for horizon in horizons:
                ms = 1000 * horizon / frame_rate
                rows.append([action, int(chosen.sum()), name, horizon, ms, error[horizon - 1]])
    return pd.DataFrame(rows, columns=["action", "clips", "predictor", "frames", "ms", "mpjpe_mm"])


def error_table(
    sums: Mapping[str, np.ndarray],
    label: np.ndarray,
    class_names: Sequence[str],
    *,
    horizons: Sequence[int],
    frame_rate: float,
) -> pd.DataFrame:
    """An `mpjpe_table` of `summed_errors`, with the column `published_mm` where the sums for papers are there."""
    totals = {name: sums[name] for name in (NETWORK, *BASELINES) if name in sums}
    table = mpjpe_table(totals, sums["count"], label, class_names, horizons=horizons, frame_rate=frame_rate)
    if PUBLISHED_COUNT not in sums:
        return table
    return table.merge(published_table(sums, label, class_names, horizons=horizons), how="left")


def published_table(
    sums: Mapping[str, np.ndarray], label: np.ndarray, class_names: Sequence[str], *, horizons: Sequence[int]
) -> pd.DataFrame:
    """Errors in mm as papers report them: action, predictor, frames, `published_mm`; see `published_weight`.

    The error of all actions is the mean over the actions. Arguments as for `error_table`.
    """
    totals = {
        name: sums[f"{PUBLISHED}{name}"] for name in (NETWORK, *BASELINES) if f"{PUBLISHED}{name}" in sums
    }
    count = sums[PUBLISHED_COUNT]
    table = mpjpe_table(totals, count, label, class_names, horizons=horizons, frame_rate=float("nan"))
    of_actions = table[table["action"] != OVERALL]
    means = of_actions.groupby(["predictor", "frames"], as_index=False, sort=False)["mpjpe_mm"].mean()
    whole = pd.concat([means.assign(action=OVERALL), of_actions])
    return whole[["action", "predictor", "frames", "mpjpe_mm"]].rename(columns={"mpjpe_mm": "published_mm"})


def published_metrics(
    sums: Mapping[str, np.ndarray], label: np.ndarray, horizons: Sequence[int]
) -> dict[str, float]:
    """The network's error as papers report it, at each horizon; empty without the sums for papers."""
    if PUBLISHED_COUNT not in sums:
        return {}
    names = [str(each) for each in range(label.max() + 1)]
    table = published_table(sums, label, names, horizons=horizons)
    overall = table[(table["action"] == OVERALL) & (table["predictor"] == NETWORK)]
    errors = zip(overall["frames"], overall["published_mm"], strict=True)
    return {f"published_mpjpe_{horizon}": float(error) for horizon, error in errors}


def distances_by_action(poses: Tensor, label: Tensor) -> tuple[float, float]:
    """Mean distances between predictions of two clips: of the same action, and of different actions.

    Each prediction is centred and scaled to length 1, so that place and size do not count. NaN without such pairs.

    Args:
        poses: (n, P, V, C).
        label: (n,).
    """
    unit = unit_poses(poses)
    total, count = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    # In parts: all distances at once may not fit into memory.
    for start in range(0, len(unit), 1024):
        distance = torch.cdist(unit[start : start + 1024], unit)
        alike = label[start : start + 1024, None] == label
        itself = torch.arange(start, start + len(distance))[:, None] == torch.arange(len(unit))
        for index, pairs in enumerate((alike & ~itself, ~alike)):
            total[index] += distance[pairs].double().sum()
            count[index] += pairs.sum()
    same, other = (total / count).tolist()
    return same, other
