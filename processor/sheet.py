"""A sheet of poses: a row for each clip, with some of its frames from left to right."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from net.utils.channels import joints_there
from processor.bones import drawn_bones
from processor.displayed import Shown
from processor.figures import directions, plane_of, save_figure, shorten
from processor.fonts import legible

# Width of a clip's name and title in letters, and their largest number of lines.
LETTERS, LINES = 26, 4
# Height of a row, width of a column, and width of the names on the left, in units in which a pose has size 2.
ROW, COLUMN, MARGIN = 2.6, 2.15, 3.0
# Inches in a unit.
INCH = 0.75
# Largest number of clips of a sheet; matplotlib cannot draw much higher pictures.
MOST_ROWS = 200


def draw_sheet(clips: Sequence[Shown], path: Path, *, num_column: int = 7) -> None:
    """Draw poses of clips, as the camera sees them; `processor.bones` explains the colours.

    Args:
        clips: one or more, at most `MOST_ROWS`.
        path: the picture.
        num_column: largest number of frames of each clip, evenly spaced from the first to the last.
    """
    ends: list[np.ndarray] = []
    colours: list[np.ndarray] = []
    with legible([text for clip in clips for text in (clip.name, clip.title)]) as shown:
        width, height = COLUMN * num_column + MARGIN, ROW * len(clips)
        figure = Figure(figsize=(INCH * width, INCH * height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(-MARGIN, width - MARGIN), ylim=(height, 0))
        for number, clip in enumerate(clips):
            middle = (number + 0.5) * ROW
            lines = [line for text in shown[2 * number : 2 * number + 2] for line in wrapped(text)]
            axes.text(-0.1, middle, "\n".join(lines), fontsize=8, ha="right", va="center")
            there, poses = joints_there(clip.tracks), in_boxes(clip)
            num_frame = clip.tracks.shape[1]
            frames = np.unique(np.linspace(0, num_frame - 1, num_column).round().astype(int))
            for column, frame in enumerate(frames.tolist()):
                place = np.array([(column + 0.5) * COLUMN, middle])
                confidence = None if clip.confidence is None else clip.confidence[:, frame]
                found = drawn_bones(poses[:, frame] + place, there[:, frame], clip.skeleton, confidence)
                ends.append(found[0])
                colours.append(found[1])
                axes.text(
                    place[0],
                    middle - ROW / 2 + 0.06,
                    str(frame),
                    fontsize=7,
                    color="gray",
                    ha="center",
                    va="top",
                )
        lines_of_all = LineCollection(
            list(np.concatenate(ends)), colors=np.concatenate(colours).tolist(), linewidths=1.6
        )
        axes.add_collection(lines_of_all, autolim=False)
        legend = "above a pose: its frame; dark: left side, light: right side"
        axes.text(-MARGIN + 0.1, height - 0.05, legend, fontsize=6, color="gray", va="bottom")
        save_figure(figure, path)


def in_boxes(clip: Shown) -> np.ndarray:
    """Poses (M, T, V, 2) in picture coordinates (y down), from -1 to 1; one scale for all frames keeps movements."""
    plane = plane_of(clip.up)
    across, up = directions(plane, clip.tracks.shape[3])
    there = joints_there(clip.tracks)
    poses = clip.tracks[..., plane] * (across, -up)
    seen = poses[there] if there.any() else np.zeros((1, 2))
    low, high = seen.min(0), seen.max(0)
    return (poses - (low + high) / 2) / max((high - low).max() / 2, 1e-6)


def wrapped(text: str) -> list[str]:
    """The lines of a text, wrapped and cut to fit on the left of a row."""
    return textwrap.wrap(shorten(text, LETTERS * LINES), LETTERS)
