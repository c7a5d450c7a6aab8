"""Draws docs/idea.png, the figure of the README: from recordings with few labels to an action and the next poses.

python docs/draw_idea.py
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_gen.kinematics import SKELETON
from data_gen.performance import draw_subject, perform

GREY, BLUE, RED = "#8a8f98", "#2b6cb0", "#c53030"
# NTU's numbers of the actions, and whether the clip has a label.
CLIPS = ((27, None), (24, None), (23, "hand waving"), (10, None))
ANSWER = (("hand waving", 0.93), ("drink water", 0.04), ("clapping", 0.02))


def poses(action: int, count: int, person: int) -> np.ndarray:
    """`count` poses (count, V, 2) from the middle of a performance, seen from the front."""
    subject = draw_subject(person, seed=3)
    (body,) = perform(action, (subject, subject), np.random.default_rng(person))
    position = body.position - body.position[:, [SKELETON.spine]]
    right, left = SKELETON.shoulders or (0, 0)
    across = position[0, left] - position[0, right]
    angle = np.arctan2(across[2], across[0])
    turned = np.stack(
        [position[..., 0] * np.cos(angle) + position[..., 2] * np.sin(angle), position[..., 1]], -1
    )
    frames = np.linspace(0.3, 0.7, count) * len(turned)
    return turned[frames.astype(int)]


def draw(axes: Axes, pose: np.ndarray, x: float, y: float, size: float, colour: str) -> None:
    """A skeleton (V, 2) with its spine at (x, y); `size` is how large a metre is."""
    placed = np.array([x, y]) + size * pose
    bones = [
        (placed[joint], placed[parent]) for joint, parent in enumerate(SKELETON.parents) if joint != parent
    ]
    axes.add_collection(LineCollection(bones, colors=colour, linewidths=1.6, capstyle="round"))


def box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A box around a text."""
    shape = FancyBboxPatch(
        (x - 0.85, y - 0.34), 1.7, 0.68, boxstyle="round,pad=0.05", fc="white", ec=colour, lw=1.8
    )
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow between two points."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=15, color=GREY, lw=1.5))


def main() -> None:
    """Draw and write the figure."""
    figure = Figure(figsize=(11, 3.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 11), ylim=(0, 3.9))
    axes.axis("off")
    title = {"ha": "center", "fontsize": 12, "fontweight": "bold"}

    axes.text(1.75, 3.6, "recordings, mostly without labels", **title)
    for row, (action, label) in enumerate(CLIPS):
        y = 3.05 - 0.8 * row
        for number, pose in enumerate(poses(action, 5, 11 + row)):
            draw(axes, pose, 0.45 + 0.42 * number, y, 0.37, GREY if label is None else BLUE)
        axes.text(2.5, y, label or "?", va="center", fontsize=11, color=GREY if label is None else BLUE)

    axes.text(5.3, 3.6, "learn", **title)
    box(axes, 5.3, 2.6, "encoder,\ntrained without labels", GREY)
    box(axes, 5.3, 1.0, "adapted with\na few labels", BLUE)
    arrow(axes, (3.6, 2.6), (4.3, 2.6))
    arrow(axes, (5.3, 2.15), (5.3, 1.45))
    arrow(axes, (3.6, 1.4), (4.3, 1.1))
    arrow(axes, (6.3, 1.2), (7.0, 2.3))
    arrow(axes, (6.3, 0.95), (7.0, 0.95))

    axes.text(9.0, 3.6, "answer about a new recording", **title)
    for row, (name, probability) in enumerate(ANSWER):
        y = 3.1 - 0.38 * row
        axes.text(8.35, y, name, ha="right", va="center", fontsize=11)
        axes.barh(y, 2.0 * probability, left=8.5, height=0.22, color=BLUE)
        axes.text(8.56 + 2.0 * probability, y, f"{probability:.2f}", va="center", fontsize=10)
    strip = poses(24, 7, 5)
    for number, pose in enumerate(strip):
        draw(axes, pose, 7.5 + 0.52 * number, 1.1, 0.5, BLUE if number < 4 else RED)
    axes.text(8.28, 0.18, "seen", ha="center", fontsize=11, color=BLUE)
    axes.text(10.1, 0.18, "predicted", ha="center", fontsize=11, color=RED)
    figure.savefig(Path(__file__).with_name("idea.png"), dpi=110)


if __name__ == "__main__":
    main()
