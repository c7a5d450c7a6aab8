"""Joints of CMU motion capture from the rotations of its skeleton, as papers on pose prediction compute them.

T frames, V = 38 joints of layout `cmu`. The place and the rotation of the body are left out: the hip centre is the
origin, x is to the body's left, y up, z to its front; metres.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from net.utils.layouts import LAYOUTS

SKELETON = LAYOUTS["cmu"]
ROOT = 0

# Of each joint from its parent, in the frame of the parent, in metres.
OFFSETS = 1e-3 * np.array(
    [
        (0.0, 0.0, 0.0),  # hip centre
        (0.0, 0.0, 0.0),  # left leg
        (115.9718, -126.1974, 43.7339),
        (181.804, -499.5032, 0.0),
        (174.4652, -479.339, 0.0),
        (13.7928, -37.8952, 150.2067),
        (0.0, 0.0, 77.8743),
        (0.0, 0.0, 0.0),  # right leg
        (-112.749, -126.1974, 43.7332),
        (-181.6514, -499.0839, 0.0),
        (-172.746, -474.6168, 0.0),
        (-16.1168, -44.2806, 149.3576),
        (0.0, 0.0, 78.0983),
        (0.0, 0.0, 0.0),  # trunk
        (1.3727, 143.815, -9.8784),
        (0.7147, 144.5052, -4.1447),
        (0.0, 0.0, 0.0),  # neck
        (0.4991, 109.6977, 10.4776),
        (2.4003, 109.2287, -7.0042),
        (0.9135, 113.792, -3.6855),
        (0.0, 0.0, 0.0),  # left arm
        (247.9435, 63.3052, -12.1548),
        (340.5591, 0.0, 0.0),
        (234.8878, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (46.2819, 0.0, 0.0),
        (37.3142, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (37.884, 0.0, 37.884),
        (0.0, 0.0, 0.0),  # right arm
        (-244.8614, 53.1958, -22.8312),
        (-351.8543, 0.0, 0.0),
        (-235.5017, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (-51.1287, 0.0, 0.0),
        (-41.2209, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (-41.8502, 0.0, 41.8502),
    ]
)


def joint_positions(rotation_vectors: np.ndarray) -> np.ndarray:
    """Positions (T, V, 3) in metres from rotation vectors (exponential maps) (T, V, 3) in radians.

    Poses are row vectors, so a rotation stands to the right: R_i <- R_i R_parent, p_i = offset_i R_parent + p_parent.
    Joints that hang on the root keep p_i = offset_i and their own R_i, because the root's rotation is left out.
    """
    local = Rotation.from_rotvec(rotation_vectors.reshape(-1, 3)).as_matrix()
    turn = local.reshape(*rotation_vectors.shape, 3)
    position = np.broadcast_to(OFFSETS, rotation_vectors.shape).copy()
    for joint, parent in SKELETON.bones:  # parents come before their children
        if parent != ROOT:
            position[:, joint] = OFFSETS[joint] @ turn[:, parent] + position[:, parent]
            turn[:, joint] = turn[:, joint] @ turn[:, parent]
    return position
