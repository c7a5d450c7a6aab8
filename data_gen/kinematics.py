"""Forward kinematics of a body of 25 joints, batched over frames, and the bones of this body.

T frames. The axes of a body are those of Kinect camera space when it looks at the camera: x to the body's right, y up,
z to its back; metres.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from net.utils.layouts import LAYOUTS

SKELETON = LAYOUTS["ntu-rgb+d"]
NODE = {joint: index for index, joint in enumerate(SKELETON.joints)}
# The waist is a node, but not a joint: the trunk leans without rotating the hips.
NODE["waist"] = SKELETON.num_joint


class Link(NamedTuple):
    """A node at `offset` (metres) in the frame of its parent; all bones of a `group` have one scale."""

    node: str
    parent: str
    offset: tuple[float, float, float]
    group: str


def _limbs(side: str, sign: int) -> tuple[Link, ...]:
    """Arm and leg of one side; `sign` is +1 for the right, -1 for the left."""
    arm, leg = f"{side} shoulder", f"{side} hip"
    return (
        Link(arm, "shoulder centre", (sign * 0.155, -0.03, 0.0), "shoulders"),
        Link(f"{side} elbow", arm, (0.0, -0.26, 0.0), "arms"),
        Link(f"{side} wrist", f"{side} elbow", (0.0, -0.235, 0.0), "arms"),
        Link(f"{side} hand", f"{side} wrist", (0.0, -0.07, 0.0), "arms"),
        # In the layout the parent of the tip is the thumb; here both move with the palm.
        Link(f"{side} hand tip", f"{side} hand", (0.0, -0.06, 0.0), "arms"),
        Link(f"{side} thumb", f"{side} hand", (-sign * 0.01, -0.01, -0.04), "arms"),
        Link(leg, "hip centre", (sign * 0.075, -0.02, 0.0), "hips"),
        Link(f"{side} knee", leg, (0.0, -0.38, 0.0), "legs"),
        Link(f"{side} ankle", f"{side} knee", (0.0, -0.37, 0.0), "legs"),
        Link(f"{side} foot", f"{side} ankle", (0.0, -0.06, -0.10), "legs"),
    )


SIDES = {"left": -1, "right": 1}
CHAIN = (
    Link("waist", "hip centre", (0.0, 0.0, 0.0), "trunk"),
    Link("spine", "waist", (0.0, 0.27, 0.0), "trunk"),
    Link("shoulder centre", "spine", (0.0, 0.21, 0.0), "trunk"),
    Link("neck", "shoulder centre", (0.0, 0.07, 0.0), "head"),
    Link("head", "neck", (0.0, 0.13, -0.02), "head"),
    *(link for side, sign in SIDES.items() for link in _limbs(side, sign)),
)
BONE_GROUPS = tuple(dict.fromkeys(link.group for link in CHAIN))

# All angles are 0 for a body that stands with hanging arms. Positive angles: lean, bend and nod forward; turn and look
# to the left; tilt to the right.
TRUNK_ANGLES = ("yaw", "lean", "tilt", "bend", "turn", "nod", "look")
LIMB_ANGLES = ("raise", "open", "twist", "elbow", "wrist", "hip", "hip_open", "knee", "ankle")
# Shifts of the whole body along its own axes, in metres.
SHIFTS = ("hop", "forward", "sideways")
CHANNELS = TRUNK_ANGLES + SHIFTS + tuple(f"{side}_{angle}" for side in SIDES for angle in LIMB_ANGLES)

_ANKLES = [NODE[f"{side} ankle"] for side in SIDES]
_FEET = _ANKLES + [NODE[f"{side} foot"] for side in SIDES]


class Body(NamedTuple):
    """Joints over time: position (T, 25, 3) in metres and orientation (T, 25, 3, 3), a rotation."""

    position: np.ndarray
    orientation: np.ndarray


def rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Right-handed rotations (..., 3, 3) about coordinate axis 0, 1 or 2 by `angle` (...) in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*np.shape(angle), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., i, i] = matrix[..., j, j] = cos
    matrix[..., i, j], matrix[..., j, i] = -sin, sin
    return matrix


def forward_kinematics(angle: Mapping[str, np.ndarray], lengths: Mapping[str, float]) -> Body:
    """Joints of one body over time, in the axes of the body at yaw 0.

    The lower foot stands on the floor (y = 0), near the origin. `forward` and `sideways` move the body, `hop` lifts it.

    Args:
        angle: (T,) of each of `CHANNELS`, in radians; in metres for `SHIFTS`.
        lengths: scale of each of `BONE_GROUPS`; 1 is an average adult.
    """
    num_frame = len(angle["yaw"])
    local = _local_rotations(angle)
    position = np.zeros((num_frame, len(NODE), 3))
    orientation = np.empty((num_frame, len(NODE), 3, 3))
    orientation[:, NODE["hip centre"]] = root = rotation(1, angle["yaw"])
    for link in CHAIN:
        node, frame = NODE[link.node], orientation[:, NODE[link.parent]]
        position[:, node] = position[:, NODE[link.parent]] + frame @ (
            lengths[link.group] * np.array(link.offset)
        )
        orientation[:, node] = frame @ local[link.node] if link.node in local else frame
    joints = position[:, : SKELETON.num_joint]
    shift = np.stack([angle["sideways"], angle["hop"], -angle["forward"]], axis=-1)  # (T, 3)
    stance = [link.offset[0] * lengths[link.group] for link in CHAIN if link.node.endswith(" hip")]
    planted = shift[:, None] + np.multiply.outer(stance, [1.0, 0.0, 0.0])  # (T, 2, 3), ankles
    planted = (root[:, None] @ planted[..., None])[..., 0]
    return Body(joints + _onto_floor(joints, planted)[:, None], orientation[:, : SKELETON.num_joint])


def _local_rotations(angle: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rotation (T, 3, 3) of each node relative to its parent; nodes that do not rotate are left out."""
    local = {
        "waist": rotation(2, -angle["tilt"]) @ rotation(0, -angle["lean"]),
        "spine": rotation(0, -angle["bend"]) @ rotation(1, angle["turn"]),
        "neck": rotation(1, angle["look"]) @ rotation(0, -angle["nod"]),
    }
    for side, sign in SIDES.items():
        limb = {name: angle[f"{side}_{name}"] for name in LIMB_ANGLES}
        # The arm rises forward at open = 0 and sideways at 90 degrees; twist rotates it inward about its axis.
        plane, twist = rotation(1, -sign * limb["open"]), rotation(1, sign * limb["twist"])
        local[f"{side} shoulder"] = plane @ rotation(0, limb["raise"]) @ twist
        local[f"{side} elbow"] = rotation(0, limb["elbow"])
        local[f"{side} wrist"] = rotation(0, limb["wrist"])
        local[f"{side} hip"] = rotation(2, sign * limb["hip_open"]) @ rotation(0, limb["hip"])
        local[f"{side} knee"] = rotation(0, -limb["knee"])
        # The foot stays level for all angles of hip and knee; `ankle` is relative to that.
        local[f"{side} ankle"] = rotation(0, limb["knee"] - limb["hip"] + limb["ankle"])
    return local


def _onto_floor(position: np.ndarray, planted: np.ndarray) -> np.ndarray:
    """Shift (T, 3) that moves the lower ankle of a body (T, 25, 3) to its place in `planted` (T, 2, 3)."""
    height = position[:, _ANKLES, 1]  # (T, 2)
    # A soft choice over 3 cm, so that a step does not make the body jump from one foot to the other.
    weight = np.exp((height.min(axis=1, keepdims=True) - height) / 0.03)
    weight /= weight.sum(axis=1, keepdims=True)
    shift = ((planted - position[:, _ANKLES]) * weight[..., None]).sum(axis=1)
    shift[:, 1] = planted[:, 0, 1] - position[:, _FEET, 1].min(axis=1)
    return shift
