"""Pictures of a run: training curves, the confusion matrix, anticipation, errors and poses of a prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from net.utils.skeleton import Skeleton


def save_curves(metrics: pd.DataFrame, path: Path) -> None:
    """Losses on the left, accuracies (or errors of poses) on the right, over epochs, from the rows of `metrics.csv`."""
    names = [str(column) for column in metrics]
    losses = [name for name in names if name.endswith("loss")]
    accuracies = [name for name in names if name.endswith(("top1", "top5", "mean_class"))]
    errors = [name for name in names if name.endswith("mpjpe")]
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, columns, title in zip(
        figure.subplots(1, 2),
        (losses, accuracies or errors),
        ("loss", "accuracy" if accuracies else "error in mm"),
        strict=True,
    ):
        for column in columns:
            rows = metrics[["epoch", column]].dropna()
            axes.plot(rows["epoch"], rows[column], label=column, marker="." if len(rows) < 3 else None)
        axes.set(xlabel="epoch", title=title)
        axes.grid(alpha=0.3)
        if columns:
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def save_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Confusion matrix as row shares; numbers are written in the cells of up to 20 classes."""
    count = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(count, 1)
    size = len(class_names)
    side = float(np.clip(0.3 * size + 3, 5, 24))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    # A class that others were mapped to carries all their names.
    shown = [shorten(name, 40, placeholder="…") for name in class_names]
    axes.set_xticks(range(size), shown, rotation=90, fontsize=7)
    axes.set_yticks(range(size), shown, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    if size <= 20:
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=7, color=colour)
    figure.savefig(path, dpi=120)


def draw_anticipation(table: pd.DataFrame, path: Path) -> None:
    """Top-1 over the share of a clip that was seen: columns `observed`, `top1`."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * table["observed"], 100 * table["top1"], marker="o")
    axes.set(xlabel="% of the clip seen", ylabel="top-1 in %", xlim=(0, 102), ylim=(0, 100))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def draw_errors(table: pd.DataFrame, path: Path) -> None:
    """Error over the horizon, a curve for each predictor: columns `predictor`, `frames`, `mpjpe_mm`."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for name, rows in table.groupby("predictor", sort=False):
        axes.plot(rows["frames"], rows["mpjpe_mm"], marker="o", label=str(name).replace("_", " "))
    axes.set(xlabel="frames ahead", ylabel="mean error of a joint in mm", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_poses(
    arrays: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    skeleton: Skeleton,
    path: Path,
    *,
    num_clip: int = 4,
    num_column: int = 5,
) -> None:
    """True poses (grey) and predicted ones (red), one action a row, seen along the axis that is not across or up.

    Args:
        arrays: `label` (n,), `name` (n,), `last` (n, M, V, C), `predicted`, `true` (n, M, P, V, C), `scored` (n, M, P, V).
        class_names: one per class.
        skeleton: whose bones are drawn.
        path: the picture.
        num_clip: rows, of as many actions as there are.
        num_column: horizons, the last frame seen first.
    """
    judged = arrays["scored"].any((1, 2, 3))
    _, first = np.unique(np.where(judged, arrays["label"], -1), return_index=True)
    clips = [clip for clip in first if judged[clip]][:num_clip]
    count = arrays["true"].shape[2]
    horizons = np.unique(np.linspace(0, count, num_column).round().astype(int))
    across, up = _picture_axes(arrays["last"][judged, 0], skeleton)
    figure = Figure(figsize=(2.2 * len(horizons), 2.4 * max(len(clips), 1)), layout="constrained")
    grid = figure.subplots(max(len(clips), 1), len(horizons), squeeze=False)
    for row, clip in zip(grid, clips, strict=False):
        bodies = np.flatnonzero(arrays["scored"][clip].any((1, 2)))
        for axes, horizon in zip(row, horizons, strict=True):
            for body in bodies:
                shown = {"0.5": arrays["last"][clip, body]}
                if horizon > 0:
                    shown = {"0.5": arrays["true"][clip, body, horizon - 1]}
                    shown["tab:red"] = arrays["predicted"][clip, body, horizon - 1]
                for colour, pose in shown.items():
                    there = (arrays["last"][clip, body] != 0).any(-1)
                    for bone in skeleton.bones:
                        if there[list(bone)].all():
                            axes.plot(pose[bone, across], pose[bone, up], color=colour, lw=1.2)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title("last seen" if horizon == 0 else f"+{horizon} frames", fontsize=8)
        row[0].set_ylabel(shorten(str(class_names[arrays["label"][clip]]), 24, placeholder="…"), fontsize=8)
    figure.savefig(path, dpi=120)


def _picture_axes(poses: np.ndarray, skeleton: Skeleton) -> tuple[int, int]:
    """The coordinates to draw across and up, from poses (n, V, C): up is the one along which torsos stand."""
    up = 1
    if skeleton.torso is not None and len(poses):
        lower, upper = skeleton.torso
        up = int(np.abs((poses[:, upper] - poses[:, lower]).mean(0)).argmax())
    return (0 if up else 1), up
