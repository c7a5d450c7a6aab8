"""Bones to draw and their colours: a hue for each body, darker on its left side, lighter on its right.

M bodies, V joints, B bones of a skeleton.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb

from net.utils.skeleton import Skeleton

# Hues of the bodies, in order; further bodies start again with the first hue.
HUES = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
CENTRE, LEFT, RIGHT = 0, 1, 2
# For each side: grey level (0 black, 1 white) that is mixed into the hue, and its share.
MIXED = {CENTRE: (0.0, 0.0), LEFT: (0.0, 0.45), RIGHT: (1.0, 0.45)}
# Opacity of a bone without any confidence.
FAINTEST = 0.15


def bone_sides(skeleton: Skeleton) -> np.ndarray:
    """Side of each bone, (B,) int: `LEFT`, `RIGHT`, or `CENTRE`.

    A bone has a side if its outer joint has a mirror image and the names of the two joints tell left from right.
    """
    return np.array([_side(skeleton, joint) for joint, _ in skeleton.bones], int)


def _side(skeleton: Skeleton, joint: int) -> int:
    if skeleton.swap[joint] == joint:
        return CENTRE
    name, other = (skeleton.joints[each].lower() for each in (joint, skeleton.swap[joint]))
    # Names of a mirrored pair differ first at the word of the side: left and right, or l and r.
    first, second = next(((a, b) for a, b in zip(name, other, strict=False) if a != b), ("", ""))
    return {("l", "r"): LEFT, ("r", "l"): RIGHT}.get((first, second), CENTRE)


def palette(hues: Sequence[str] = HUES) -> np.ndarray:
    """Colours (hues, 3 sides, red green blue), 0 to 1."""
    mixed, share = np.array([MIXED[side] for side in (CENTRE, LEFT, RIGHT)]).T[..., None]
    return (1 - share) * np.array([to_rgb(hue) for hue in hues])[:, None] + share * mixed


def opacity(confidence: np.ndarray) -> np.ndarray:
    """Opacity for a confidence (any shape): `FAINTEST` at 0, rising to 1 at 1 and above."""
    return FAINTEST + (1 - FAINTEST) * np.nan_to_num(confidence).clip(0, 1)


def drawn_bones(
    poses: np.ndarray, there: np.ndarray, skeleton: Skeleton, confidence: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n, 2, 2) and colours (n, 4) of the bones of all bodies; bones with a missing joint are left out.

    Args:
        poses: (M, V, 2).
        there: (M, V) bool, which joints are present.
        skeleton: defines the bones.
        confidence: (M, V), 0 to 1; the lower confidence of its two ends sets the opacity of a bone.
    """
    bones = np.array(skeleton.bones, int).reshape(-1, 2)
    drawn = there[:, bones].all(2)  # (M, B)
    hue = np.arange(len(poses)) % len(HUES)
    colours = np.ones((*drawn.shape, 4))
    colours[..., :3] = palette()[hue][:, bone_sides(skeleton)]
    if confidence is not None:
        colours[..., 3] = opacity(confidence[:, bones].min(2))
    return poses[:, bones][drawn], colours[drawn]
