"""A sheet of poses: a row for each clip, some of its frames from left to right."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from processor.bones import drawn_bones
from processor.figures import orient, plane_of, save_figure, shorten
from processor.fonts import legible
from processor.shown import Shown, joints_there

# Letters of a clip's name and title beside its row, and lines of them.
LETTERS, LINES = 26, 4
# Clips of a sheet; matplotlib draws no picture that is much higher.
MOST_ROWS = 200


def draw_sheet(clips: Sequence[Shown], path: Path, *, num_column: int = 7) -> None:
    """Draw poses of clips, seen by the camera; what a body is coloured by is said in `processor.bones`.

    Args:
        clips: one or more, at most `MOST_ROWS`.
        path: the picture.
        num_column: frames that are drawn of each clip, evenly from its first to its last, of as many as there are.
    """
    texts = [text for clip in clips for text in (clip.name, clip.title)]
    with legible(texts) as shown:
        figure = Figure(figsize=(1.6 * num_column + 2.2, 1.9 * len(clips) + 0.2), layout="constrained")
        grid = figure.subplots(
            len(clips), num_column + 1, squeeze=False, width_ratios=[1.2, *[1] * num_column]
        )
        for number, (row, clip) in enumerate(zip(grid, clips, strict=True)):
            for axes in row:
                axes.set_axis_off()
            lines = [line for text in shown[2 * number : 2 * number + 2] for line in wrapped(text)]
            row[0].text(1, 0.5, "\n".join(lines), fontsize=8, ha="right", va="center")
            num_frame = clip.tracks.shape[1]
            frames = np.unique(np.linspace(0, num_frame - 1, num_column).round().astype(int))
            plane = plane_of(clip.up)
            there = joints_there(clip.tracks)
            seen = clip.tracks[..., plane][there] if there.any() else np.zeros((1, 2))
            # All frames of a clip in one scale, so that steps and jumps show.
            centre, half = (seen.max(0) + seen.min(0)) / 2, 0.55 * max(np.ptp(seen, axis=0).max(), 1e-6)
            for axes, frame in zip(row[1:], frames.tolist(), strict=False):
                confidence = None if clip.confidence is None else clip.confidence[:, frame]
                pose = clip.tracks[:, frame][..., plane]
                ends, colours = drawn_bones(pose, there[:, frame], clip.skeleton, confidence)
                axes.add_collection(LineCollection(list(ends), colors=colours, linewidths=1.6))
                axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
                axes.set_aspect("equal")
                orient(axes, plane, clip.tracks.shape[3])
                axes.set_title(f"{frame}", fontsize=7, color="gray", pad=1)
        figure.supxlabel(
            "above each pose: the frame; dark: left side, light: right side", fontsize=7, color="gray"
        )
        save_figure(figure, path)


def wrapped(text: str) -> list[str]:
    """A text in lines that fit beside a row."""
    return textwrap.wrap(shorten(text, LETTERS * LINES), LETTERS)
