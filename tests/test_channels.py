"""What the numbers of a joint say."""

import numpy as np
import pytest
import torch

from net.utils.channels import bodies_there, has_confidence, in_plane, joints_there


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["NumPy", "torch"])
def test_a_joint_is_there_where_a_number_of_it_is_not_0(kind):
    poses = kind([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]], [[0.0, -2.0, 0.0], [0.0, float("nan"), 0.0]]])
    assert joints_there(poses).tolist() == [[False, True], [True, True]]


def test_a_body_is_there_where_a_joint_is():
    poses = np.zeros((2, 3, 4, 3), np.float32)
    poses[1, 2, 3, 0] = -1
    assert bodies_there(poses).tolist() == [[False, False, False], [False, False, True]]


def test_letters_of_channels():
    assert [has_confidence(channels) for channels in ("xyz", "xy", "xyc")] == [False, False, True]
    assert [in_plane(channels) for channels in ("xyz", "xy", "xyc")] == [False, True, True]
