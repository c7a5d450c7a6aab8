"""Which bones of poses are drawn, and in which colours: a hue for each body, dark on its left and light on its right.

M bodies, V joints, B bones of a skeleton.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb

from net.utils.skeleton import Skeleton

# Of bodies, in their order; more of them begin again.
HUES = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
CENTRE, LEFT, RIGHT = 0, 1, 2
# What the hue is mixed with on a side, and how much of it.
MIXED = {CENTRE: (0.0, 0.0), LEFT: (0.0, 0.45), RIGHT: (1.0, 0.45)}
# Opacity of a bone without any confidence.
FAINTEST = 0.15


def bone_sides(skeleton: Skeleton) -> np.ndarray:
    """(B,) int: `LEFT` or `RIGHT` where the bone's outer joint has a mirror image and a name that says its side."""
    return np.array([_side(skeleton, joint) for joint, _ in skeleton.bones], int)


def _side(skeleton: Skeleton, joint: int) -> int:
    if skeleton.swap[joint] == joint:
        return CENTRE
    name, other = (skeleton.joints[each].lower() for each in (joint, skeleton.swap[joint]))
    # Names of a pair differ in what says the side: left and right, or l and r.
    first, second = next(((a, b) for a, b in zip(name, other, strict=False) if a != b), ("", ""))
    return {("l", "r"): LEFT, ("r", "l"): RIGHT}.get((first, second), CENTRE)


def palette(hues: Sequence[str] = HUES) -> np.ndarray:
    """Colours (hues, 3 sides, red green blue), 0 to 1."""
    mixed, share = np.array([MIXED[side] for side in (CENTRE, LEFT, RIGHT)]).T[..., None]
    return (1 - share) * np.array([to_rgb(hue) for hue in hues])[:, None] + share * mixed


def opacity(confidence: np.ndarray) -> np.ndarray:
    """How opaque what has a confidence (any shape) is drawn: `FAINTEST` at 0, 1 at 1 and above."""
    return FAINTEST + (1 - FAINTEST) * np.nan_to_num(confidence).clip(0, 1)


def drawn_bones(
    poses: np.ndarray, there: np.ndarray, skeleton: Skeleton, confidence: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n, 2, 2) and colours (n, 4) of the bones of all bodies whose joints are both there.

    Args:
        poses: (M, V, 2).
        there: (M, V) bool.
        skeleton: whose bones are drawn.
        confidence: (M, V), 0 to 1; a bone is as faint as the less confident of its ends.
    """
    bones = np.array(skeleton.bones, int).reshape(-1, 2)
    drawn = there[:, bones].all(2)  # (M, B)
    hue = np.arange(len(poses)) % len(HUES)
    colours = np.ones((*drawn.shape, 4))
    colours[..., :3] = palette()[hue][:, bone_sides(skeleton)]
    if confidence is not None:
        colours[..., 3] = opacity(confidence[:, bones].min(2))
    return poses[:, bones][drawn], colours[drawn]
