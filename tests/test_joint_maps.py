"""Joints of one layout from those of another: hand-made poses, round trips, nothing mirrored, refusals by name."""

import dataclasses

import numpy as np
import pytest

from net.utils.joint_maps import MAPS, joint_map, map_joints
from net.utils.layouts import LAYOUTS, get_skeleton

PAIRS = [(source, target) for target, sources in MAPS.items() for source in sources]


def person(layout: str) -> np.ndarray:
    """(V, 3): somebody who faces Kinect's camera. x is to the picture's left, where their right side is."""
    heights = {"ankle": 0.1, "foot": 0.05, "toe": 0.05, "heel": 0.05, "knee": 0.5, "hip": 0.9, "spine": 1.1}
    heights |= {"pelvis": 0.9, "wrist": 0.8, "hand": 0.75, "thumb": 0.75, "pinky": 0.75, "index": 0.75}
    heights |= {"elbow": 1.1, "shoulder": 1.4, "thorax": 1.4, "neck": 1.5, "head": 1.7, "foot index": 0.05}
    heights |= {"nose": 1.65, "eye": 1.7, "ear": 1.68, "mouth": 1.6}
    pose = []
    for joint in get_skeleton(layout).joints:
        # The longest word that fits: "foot index" before "index".
        height = heights[max((word for word in heights if word in joint), key=len)]
        side = -0.2 if "left" in joint else 0.2 if "right" in joint else 0.0
        pose.append((side, height, 3.0))
    return np.array(pose, np.float32)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_head_up_left_left(source: str, target: str) -> None:
    skeleton = get_skeleton(target)
    found = map_joints(person(source), joint_map(get_skeleton(source), skeleton), "xyz")
    expected = person(target)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=0.11)
    for joint, name in enumerate(skeleton.joints):
        if "left" in name:
            assert found[joint, 0] < found[skeleton.swap[joint], 0]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_mirrored_pose_is_mapped_to_the_mirrored_pose(source: str, target: str) -> None:
    """Left is made from left, right from right, and in the same way."""
    one, other = get_skeleton(source), get_skeleton(target)
    pose = np.random.default_rng(0).standard_normal((4, one.num_joint, 3)).astype(np.float32)
    mapping = joint_map(one, other)
    found = map_joints(pose[:, list(one.swap)], mapping, "xyz")
    np.testing.assert_allclose(found, map_joints(pose, mapping, "xyz")[:, list(other.swap)], atol=1e-6)


def test_a_round_trip_of_kinect_joints() -> None:
    first, second = get_skeleton("kinect-v1"), get_skeleton("ntu-rgb+d")
    pose = np.random.default_rng(1).standard_normal((2, 5, 20, 3)).astype(np.float32)
    there = map_joints(pose, joint_map(first, second), "xyz")
    assert there.shape == (2, 5, 25, 3)
    np.testing.assert_array_equal(map_joints(there, joint_map(second, first), "xyz"), pose)


def test_means_confidence_and_absence() -> None:
    coco, openpose = get_skeleton("coco"), get_skeleton("openpose")
    left, right = coco.joints.index("left shoulder"), coco.joints.index("right shoulder")
    poses = np.ones((3, 17, 3), np.float32)
    poses[:, left], poses[:, right] = (2, 4, 0.5), (4, 8, 0.9)
    poses[1, left] = 0  # not there
    poses[2, left, 2] = 0  # not seen, but interpolated
    neck = map_joints(poses, joint_map(coco, openpose), "xyc")[:, openpose.joints.index("neck")]
    np.testing.assert_allclose(neck, [(3, 6, 0.5), (0, 0, 0), (3, 6, 0)])


@pytest.mark.parametrize(
    ("source", "target", "joint"),
    [
        ("ntu-rgb+d", "mediapipe", "nose"),
        ("ntu-rgb+d", "coco", "nose"),
        ("h36m", "ntu-rgb+d", "hip centre"),
        ("openpose", "body_25", "neck"),
        ("body_25", "mediapipe", "left eye inner"),
    ],
)
def test_a_joint_that_cannot_be_made_is_named(source: str, target: str, joint: str) -> None:
    with pytest.raises(ValueError, match=joint):
        joint_map(get_skeleton(source), get_skeleton(target))


def test_one_layout_under_two_names() -> None:
    coco = get_skeleton("coco")
    assert joint_map(dataclasses.replace(coco, name="mine"), coco) == tuple((v,) for v in range(17))


@pytest.mark.parametrize(
    ("name", "count"), [("body_25", 25), ("body_25b", 25), ("mediapipe", 33), ("h36m", 17)]
)
def test_new_layouts(name: str, count: int) -> None:
    skeleton = LAYOUTS[name]
    assert skeleton.num_joint == count
    for joint, other in enumerate(skeleton.swap):
        assert ("left" in skeleton.joints[joint]) == ("right" in skeleton.joints[other])
        # Bones are mirrored with their joints.
        assert skeleton.swap[skeleton.parents[joint]] == skeleton.parents[other]
    assert skeleton.shoulders is not None
    assert skeleton.joints[skeleton.shoulders[0]] == "right shoulder"
