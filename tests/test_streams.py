"""Streams of a hand-made skeleton and of random poses, joint by joint."""

import numpy as np
import pytest
import torch
from ragged_clips import generator, make_clips, to_batch

from feeder.streams import STREAMS
from feeder.views import View
from net.utils.layouts import LAYOUTS, get_skeleton


def slow_flat(poses, parents, name):
    """Of poses (B, T, V, x, y and confidence), one number at a time."""
    out = poses.copy()
    if "bone" in name:
        for joint, parent in enumerate(parents):
            out[:, :, joint] = slow_way(poses[:, :, parent], poses[:, :, joint])
    if "motion" in name:
        still = np.zeros_like(out[:, :1])
        out = np.concatenate([slow_way(out[:, :-1], out[:, 1:]), still], 1)
    return out


def slow_way(begin, end):
    way = np.zeros_like(end)
    for place in np.ndindex(end.shape[:-1]):
        if begin[place].any() and end[place].any():
            way[place][:2] = end[place][:2] - begin[place][:2]
            way[place][2] = min(begin[place][2], end[place][2])
    return way


@pytest.mark.parametrize("name", STREAMS)
def test_in_the_picture_a_difference_has_the_smaller_confidence(name):
    parents = get_skeleton("coco").parents
    poses = torch.rand(3, 6, len(parents), 3, generator=generator())
    poses[torch.rand(poses.shape[:3], generator=generator(1)) < 0.2] = 0
    poses[1, 2:4] = 0
    poses[2, 3, 5:9, 2] = 0  # a gap that was filled: a place without confidence
    expected = slow_flat(poses.numpy(), parents, name)
    np.testing.assert_allclose(STREAMS[name](poses, parents, "xyc"), expected, atol=1e-6)
    # Without confidence there is nothing to tell a joint that was not seen by.
    plain = STREAMS[name](poses[..., :2], parents, "xy")
    np.testing.assert_allclose(plain, slow(poses[..., :2].numpy(), parents, name), atol=1e-6)


def slow(poses, parents, name):
    out = poses.copy()
    if "bone" in name:
        out = np.stack([poses[:, :, joint] - poses[:, :, parent] for joint, parent in enumerate(parents)], 2)
    if "motion" in name:
        still = np.zeros_like(out[:, :1])
        out = np.concatenate([out[:, 1:] - out[:, :-1], still], 1)
    return out


def test_two_joints_by_hand():
    # The root stands at 1, then 2; its child at 4, then 7.
    poses, parents = torch.tensor([[[1.0], [4.0]], [[2.0], [7.0]]]), (0, 0)
    made = {name: stream(poses, parents).squeeze(-1).tolist() for name, stream in STREAMS.items()}
    assert made == {
        "joint": [[1, 4], [2, 7]],
        "bone": [[0, 3], [0, 5]],
        "motion": [[1, 3], [0, 0]],
        "bone_motion": [[0, 2], [0, 0]],
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", STREAMS)
def test_equals_loops_over_joints(layout, name):
    parents = get_skeleton(layout).parents
    poses = torch.randn(3, 6, len(parents), 3, generator=generator())
    np.testing.assert_allclose(STREAMS[name](poses, parents), slow(poses.numpy(), parents, name), atol=1e-6)
    assert not STREAMS[name](poses[:, :1], parents)[:, -1].any() or "motion" not in name


def test_bones_are_those_of_ctr_gcn():
    """Pairs of CTR-GCN, counted from 1: joint 2 hangs on 21, hand tips on thumbs, thumbs on hands."""
    parents = get_skeleton("ntu-rgb+d").parents
    expected = [2, 21, 21, 3, 21, 5, 6, 7, 21, 9, 10, 11, 1, 13, 14, 15, 1, 17, 18, 19, 21, 23, 8, 25, 12]
    assert [parent + 1 for parent in parents] == expected


@pytest.mark.parametrize("name", STREAMS)
def test_views_that_differ_in_the_stream_show_the_same_skeletons(name):
    skeleton = get_skeleton("ntu-rgb+d")
    batch = to_batch(make_clips([12, 30, 1], [1, 2, 2]))
    sampling = [{"RandomResizedCrop": {"num_frame": 10, "min_ratio": 0.5, "max_ratio": 1.0}}, "Reverse"]
    made = {
        stream: View(
            skeleton,
            num_body=2,
            sampling=sampling,
            normalise="center_first_frame",
            augment=["Shear", "Flip", "GaussianNoise", "Rotate"],
            stream=stream,
        )(batch, generator(4))
        for stream in ("joint", name)
    }
    joints = made["joint"].permute(0, 4, 2, 3, 1).flatten(0, 1).numpy()
    expected = slow(joints, skeleton.parents, name)
    found = made[name].permute(0, 4, 2, 3, 1).flatten(0, 1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
