"""Joints of one layout computed from those of another, so that weights for one layout can be used on another.

V joints of the source layout, V' joints of the target layout, C channels.
"""

import numpy as np

from net.utils.channels import has_confidence, joints_there
from net.utils.skeleton import Skeleton

_SHOULDERS = ("left shoulder", "right shoulder")
_HIPS = ("left hip", "right hip")

# target layout -> source layout -> target joint -> source joints, whose mean it is. A target joint that is not listed
# is the source joint of the same name.
MAPS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "coco": {"openpose": {}, "body_25": {}, "body_25b": {}, "mediapipe": {}},
    "openpose": {
        "coco": {"neck": _SHOULDERS},
        "body_25": {},
        "body_25b": {"neck": _SHOULDERS},
        "mediapipe": {"neck": _SHOULDERS},
    },
    "kinect-v1": {"ntu-rgb+d": {}},
    "ntu-rgb+d": {
        "kinect-v1": {
            "neck": ("shoulder centre", "head"),
            "left hand tip": ("left hand",),
            "left thumb": ("left hand",),
            "right hand tip": ("right hand",),
            "right thumb": ("right hand",),
        },
        "mediapipe": {
            "hip centre": _HIPS,
            "spine": _HIPS + _SHOULDERS,
            "shoulder centre": _SHOULDERS,
            "neck": (*_SHOULDERS, "mouth left", "mouth right"),
            "head": ("left ear", "right ear"),
            "left hand": ("left wrist", "left index", "left pinky"),
            "right hand": ("right wrist", "right index", "right pinky"),
            "left hand tip": ("left index",),
            "right hand tip": ("right index",),
            "left foot": ("left foot index",),
            "right foot": ("right foot index",),
        },
    },
}


def joint_map(source: Skeleton, target: Skeleton) -> tuple[tuple[int, ...], ...]:
    """For each of the V' joints of `target`, the indices of the joints of `source` whose mean it is.

    For layouts that are not in `MAPS`, left and right joints and the nose are the joints of the same name. Joints of
    the trunk cannot be computed then: each layout places them differently.

    Raises:
        ValueError: a joint cannot be computed from the joints of `source`.
    """
    if source.joints == target.joints:
        return tuple((joint,) for joint in range(target.num_joint))
    table = MAPS.get(target.name, {}).get(source.name)
    found = []
    for joint in target.joints:
        names = _of_same_name(joint) if table is None else table.get(joint, (joint,))
        if not names or not set(names) <= set(source.joints):
            raise ValueError(
                f"layout {source.name!r} has no joints to compute {joint!r} of {target.name!r} from; {_known(source)}"
            )
        found.append(tuple(source.joints.index(name) for name in names))
    return tuple(found)


def map_joints(poses: np.ndarray, mapping: tuple[tuple[int, ...], ...], channels: str) -> np.ndarray:
    """Poses (..., V', C) of the target layout, from poses (..., V, C) and the `mapping` of `joint_map`.

    A target joint is 0 (absent) if one of its source joints is absent. Its confidence is the lowest of the source
    joints. The axes stay as they are.
    """
    mapped = np.zeros((*poses.shape[:-2], len(mapping), poses.shape[-1]), poses.dtype)
    for joint, sources in enumerate(mapping):  # some tens of joints, each for all frames at once
        parts = poses[..., list(sources), :]
        mean = parts.mean(-2)
        if has_confidence(channels):
            mean[..., -1] = parts[..., -1].min(-1)
        mapped[..., joint, :] = np.where(joints_there(parts).all(-1, keepdims=True), mean, 0)
    return mapped


def _of_same_name(joint: str) -> tuple[str, ...]:
    return (joint,) if "left" in joint or "right" in joint or joint == "nose" else ()


def _known(source: Skeleton) -> str:
    targets = [target for target, sources in MAPS.items() if source.name in sources]
    return (
        f"it can be mapped to {', '.join(targets)}" if targets else "it cannot be mapped to any other layout"
    )
