"""Figures of a run: training curves, confusion matrix, anticipation, errors and poses of a prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from net.utils.channels import joints_there
from net.utils.skeleton import Skeleton
from processor.fonts import legible
from processor.metrics import CLASSIFICATION_METRICS
from torchlight.files import atomic_write

POSE_COLOURS = {"true": "tab:gray", "predicted": "tab:red"}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def whole_numbers() -> MaxNLocator:
    """Ticks at whole numbers only, for epochs or frames."""
    return MaxNLocator(integer=True, min_n_ticks=1)


def shorten(name: str, length: int) -> str:
    """The name, cut to at most `length` characters."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def curves_of(metrics: pd.DataFrame) -> list[tuple[list[str], str]]:
    """Columns of `metrics.csv` to draw together, with a title: the losses; the accuracies, or the errors of poses."""
    names = [str(column) for column in metrics]
    losses = [name for name in names if name.endswith("loss")]
    accuracies = [name for name in names if name.endswith(tuple(CLASSIFICATION_METRICS))]
    errors = [name for name in names if name.endswith("mpjpe")]
    shown = [(losses, "loss"), (accuracies or errors, "accuracy" if accuracies else "error in mm")]
    return [each for each in shown if each[0]]


def save_curves(metrics: pd.DataFrame, path: Path) -> None:
    """Plot `metrics.csv` over the epochs: losses on the left, accuracies (or errors of poses) on the right."""
    shown = curves_of(metrics)
    figure = Figure(figsize=(5 * len(shown), 4), layout="constrained")
    for axes, (columns, title) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for column in columns:
            rows = metrics[["epoch", column]].dropna()
            axes.plot(rows["epoch"], rows[column], label=column, marker="." if len(rows) < 3 else None)
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(whole_numbers())
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save_figure(figure, path)


def seen_classes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes (k,) that occur in a confusion matrix, their submatrix (k, k), and its rows as shares.

    With all classes the picture would be mostly empty where the test has, say, 15 of 60 classes.
    """
    seen = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    matrix = matrix[np.ix_(seen, seen)]
    return seen, matrix, matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def save_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix of the classes that occur, as row shares; up to 20 classes get numbers in the cells."""
    seen, matrix, share = seen_classes(matrix)
    side = float(np.clip(0.3 * len(seen) + 3, 5, 24))
    with legible(class_names) as names:
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        # Names can be long: a label map joins the names of the classes that it merges.
        shown = [shorten(names[label], 40) for label in seen]
        axes.set_xticks(range(len(seen)), shown, rotation=90, fontsize=7)
        axes.set_yticks(range(len(seen)), shown, fontsize=7)
        axes.set(xlabel="predicted", ylabel="true")
        for row, column in np.argwhere(matrix > 0) if len(seen) <= 20 else ():
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=7, color=colour)
        save_figure(figure, path)


def draw_anticipation(table: pd.DataFrame, path: Path) -> None:
    """Plot top-1 over the observed share of a clip; the table has columns `observed`, `top1`."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * table["observed"], 100 * table["top1"], marker="o")
    axes.set(xlabel="% of the clip seen", ylabel="top-1 in %", xlim=(0, 102), ylim=(0, 100))
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def draw_foresight(table: pd.DataFrame, path: Path) -> None:
    """Draw when each action is recognised, beside the errors of its predicted poses.

    Args:
        table: a row for each action; columns `recognised` (NaN for never), `seen … %` (shares, 0 to 1), `… ahead` (mm).
        path: the picture.
    """
    shares = 100 * table.filter(like="seen ")
    halves = {
        "right after so much of the clip, in %": (shares, "Blues", "seen "),
        "error in mm, so many frames ahead": (table.filter(like=" ahead"), "Reds", " ahead"),
    }
    widths = [values.shape[1] for values, _, _ in halves.values()]
    with legible([str(name) for name in table.index]) as names:
        figure = Figure(figsize=(0.55 * sum(widths) + 3, 0.3 * len(table) + 1.5), layout="constrained")
        sides = figure.subplots(1, 2, width_ratios=widths, sharey=True)
        for axes, (title, (values, colours, what)) in zip(sides, halves.items(), strict=True):
            axes.imshow(values, cmap=colours, aspect="auto", vmin=0)
            axes.set_title(title, fontsize=9)
            axes.set_xticks(
                range(values.shape[1]), [name.replace(what, "") for name in values.columns], fontsize=8
            )
            middle = np.nanmax(values.to_numpy()) / 2
            for (row, column), value in np.ndenumerate(values.to_numpy()):
                colour = "white" if value > middle else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
        sides[0].set_yticks(range(len(table)), [shorten(names[k], 40) for k in range(len(table))], fontsize=8)
        for row, share in enumerate(table["recognised"]):
            if np.isnan(share):
                continue
            column = list(shares.columns).index(f"seen {100 * share:g} %")
            # A frame around the first share after which the action counts as recognised.
            sides[0].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=1.5))
        save_figure(figure, path)


def draw_errors(table: pd.DataFrame, path: Path) -> None:
    """Plot the error over the horizon, a curve for each predictor.

    The first predictor sets the scale, because the errors of the simplest ones soon become much larger.

    Args:
        table: columns `predictor`, `frames`, `mpjpe_mm`.
        path: the picture.
    """
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    top = None
    for name, rows in table.groupby("predictor", sort=False):
        largest = rows["mpjpe_mm"].max()
        # Dashes show a curve that lies below another.
        style = "-o" if top is None else "--."
        top = top or (2 * largest if largest > 0 else 1)
        axes.plot(rows["frames"], rows["mpjpe_mm"], style, label=str(name).replace("_", " "))
    axes.set(xlabel="frames ahead", ylabel="mean error of a joint in mm", ylim=(0, top))
    axes.xaxis.set_major_locator(whole_numbers())
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def draw_poses(
    arrays: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    skeleton: Skeleton,
    path: Path,
    *,
    num_clip: int = 4,
    num_column: int = 5,
) -> None:
    """Draw true poses (grey) and predicted ones (red) in a `picture_plane`, one action a row.

    Args:
        arrays: `label` (n,), `last` (n, M, V, C), `predicted`, `true` (n, M, P, V, C), `scored` (n, M, P, V).
        class_names: one per class.
        skeleton: defines the bones.
        path: the picture.
        num_clip: largest number of rows; each row has another action.
        num_column: number of columns; the first is the last frame seen, the others are horizons.
    """
    judged = np.flatnonzero(arrays["scored"].any((1, 2, 3)))
    clips = judged[np.unique(arrays["label"][judged], return_index=True)[1]][:num_clip]
    horizons = np.unique(np.linspace(0, arrays["true"].shape[2], num_column).round().astype(int))
    last = arrays["last"][judged]
    plane = picture_plane(last[:, 0], skeleton)
    # Poses that are centred on the spine have it at 0, which otherwise marks an absent joint.
    centred = not last[:, 0, skeleton.spine].any()
    num_row = max(len(clips), 1)
    with legible(class_names) as names:
        figure = Figure(figsize=(2 * len(horizons), 2.4 * num_row + 0.3), layout="constrained")
        grid = figure.subplots(num_row, len(horizons), squeeze=False, sharex="row", sharey="row")
        for axes, horizon in zip(grid[0], horizons, strict=True):
            axes.set_title("last seen" if horizon == 0 else f"+{horizon} frames", fontsize=8)
        for row, clip in zip(grid, clips, strict=False):
            row[0].set_ylabel(shorten(names[arrays["label"][clip]], 24), fontsize=8)
            for axes, horizon in zip(row, horizons, strict=True):
                # Joints that have no true pose at this horizon are not drawn.
                there = arrays["scored"][clip, :, max(horizon - 1, 0)].copy()
                there[0, skeleton.spine] |= centred and there[0].any()
                poses = {name: arrays[name][clip, :, horizon - 1] for name in POSE_COLOURS}
                for name, bodies in poses.items() if horizon else [("true", arrays["last"][clip])]:
                    for pose, joints in zip(bodies[..., plane], there, strict=True):
                        ends = list(seen_bones(pose, joints, skeleton))
                        axes.add_collection(LineCollection(ends, colors=POSE_COLOURS[name], linewidths=1.2))
                axes.autoscale_view()
                axes.set_aspect("equal")
                axes.set_xticks([])
                axes.set_yticks([])
            orient(row[0], plane, last.shape[-1])  # the axes of a row are shared
        lines = [Line2D([], [], color=colour, label=name) for name, colour in POSE_COLOURS.items()]
        figure.legend(handles=lines, loc="outside upper right", ncols=len(lines), fontsize=8)
        save_figure(figure, path)


def draw_future(last: np.ndarray, predicted: np.ndarray, skeleton: Skeleton, path: Path) -> None:
    """Draw the last pose seen (grey) and, next to it, up to five predicted poses (red) over it.

    Args:
        last: (M, V, C); a joint at 0 is not drawn.
        predicted: (M, P, V, C).
        skeleton: defines the bones.
        path: the picture.
    """
    horizons = np.unique(np.linspace(0, predicted.shape[1], 6).round().astype(int))
    plane = picture_plane(last, skeleton)
    figure = Figure(figsize=(2 * len(horizons), 2.7), layout="constrained")
    for axes, horizon in zip(
        figure.subplots(1, len(horizons), sharex=True, sharey=True, squeeze=False)[0], horizons, strict=True
    ):
        axes.set_title("last seen" if horizon == 0 else f"+{horizon} frames", fontsize=8)
        shown = {"true": last} | ({"predicted": predicted[:, horizon - 1]} if horizon else {})
        for name, bodies in shown.items():
            for body in bodies:
                ends = seen_bones(body[:, plane], joints_there(body), skeleton)
                axes.add_collection(LineCollection(list(ends), colors=POSE_COLOURS[name], linewidths=1.4))
        axes.autoscale_view()
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
    orient(axes, plane, last.shape[-1])
    save_figure(figure, path)


def draw_timeline(
    probability: np.ndarray,
    class_names: Sequence[str],
    seconds: np.ndarray,
    path: Path,
    *,
    title: str,
    xlabel: str = "seconds",
    num_class: int = 8,
) -> None:
    """Plot probabilities of classes over the frames of a recording; a coloured bar below shows the likeliest class.

    Args:
        probability: (T, K).
        class_names: K.
        seconds: (T,) times of the frames.
        path: the picture.
        title: of the picture.
        xlabel: of the times.
        num_class: largest number of classes to plot; see `likeliest`.
    """
    best = probability.argmax(1)
    shown = likeliest(probability, num_class)
    with legible(class_names) as names:
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        colours = {int(k): f"C{number}" for number, k in enumerate(shown)}
        for k, colour in colours.items():
            axes.plot(seconds, probability[:, k], color=colour, label=names[k], linewidth=1.4)
            axes.fill_between(
                seconds, -0.08, -0.02, where=best == k, color=colour, step="mid", linewidth=0, alpha=0.9
            )
        axes.set(xlabel=xlabel, ylabel="probability", ylim=(-0.1, 1.02), title=title)
        axes.set_xlim(float(seconds[0]), max(float(seconds[-1]), float(seconds[0]) + 1e-3))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        save_figure(figure, path)


def likeliest(probability: np.ndarray, num_class: int = 8) -> np.ndarray:
    """The `num_class` classes that are likeliest in most frames, from probabilities (T, K), most frames first.

    Where equally many frames count, the class with the higher peak comes first.
    """
    often = np.bincount(probability.argmax(1), minlength=probability.shape[1])
    return np.lexsort((-probability.max(0), -often))[:num_class]


def seen_bones(pose: np.ndarray, there: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Ends (bones, 2, 2) of the bones of a pose (V, 2); `there` (V,) bool says which joints are present."""
    bones = np.array(skeleton.bones, int).reshape(-1, 2)
    return pose[bones[there[bones].all(1)]]


def orient(axes: Axes, plane: list[int], num_channel: int) -> None:
    """Invert axes of a `picture_plane` where needed, so that people stand upright and left is left."""
    across, up = directions(plane, num_channel)
    if across < 0:
        axes.invert_xaxis()
    if up < 0:
        axes.invert_yaxis()


def directions(plane: list[int], num_channel: int) -> tuple[int, int]:
    """Directions (across, up) of the coordinates of a `picture_plane`: 1 if they grow to the right or up, else -1."""
    if num_channel == 2:
        return 1, -1  # y points down
    # The camera looks along z: x points to the picture's left.
    return (-1 if plane == [0, 1] else 1), 1


def picture_plane(poses: np.ndarray, skeleton: Skeleton) -> list[int]:
    """The coordinates to draw across and up, from poses (n, V, C).

    With C = 3, up is the coordinate along which torsos are longest on average. With C = 2 it is y in any case.
    """
    up = 1
    if skeleton.torso is not None and len(poses) and poses.shape[2] == 3:
        lower, upper = skeleton.torso
        up = int(np.abs((poses[:, upper] - poses[:, lower]).mean(0)).argmax())
    return plane_of(up)


def plane_of(up: int) -> list[int]:
    """The coordinates to draw across and up; `up` is the coordinate that points up."""
    return [0 if up else 1, up]
