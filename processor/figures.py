"""Pictures of a run: training curves and the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.figure import Figure


def save_curves(metrics: pd.DataFrame, path: Path) -> None:
    """Losses on the left, accuracies on the right, over epochs, from the rows of `metrics.csv`."""
    names = [str(column) for column in metrics]
    losses = [name for name in names if name.endswith("loss")]
    accuracies = [name for name in names if name.endswith(("top1", "top5", "mean_class"))]
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, columns, title in zip(
        figure.subplots(1, 2), (losses, accuracies), ("loss", "accuracy"), strict=True
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
