"""Projection to the picture: a place by hand, noise, lost joints, and what a file keeps."""

import numpy as np
import pytest

from benchmarks import project_2d
from feeder.prepared import open_prepared
from net.utils.layouts import get_skeleton


def test_a_place_by_hand():
    # A metre to the picture's left and half a metre up, two metres away: 262.5 pixels left, 131.25 up.
    tracks = np.array([[[[1, 0.5, 2], [0, 0, 0], [1, 1, 0.05]]]])
    expected = [[-262.5 / 480, -131.25 / 480], [0, 0], [0, 0]]
    np.testing.assert_allclose(project_2d.project(tracks)[0, 0], expected)


def test_lost_joints_and_noise():
    skeleton = get_skeleton("kinect-v1")
    tracks = np.random.default_rng(0).normal([0, 0, 3], 0.3, (1, 50, 20, 3))
    random = np.random.default_rng(1)
    made = np.stack([project_2d.estimate(tracks, skeleton, random) for _ in range(400)])
    lost = (made == 0).all(-1)
    assert ((made[..., 2] == 0) == lost).all() and made[..., 2].max() <= 1
    assert lost.mean() == pytest.approx(0.1 + 0.2 * 0.9 * (10 / 50) * (4 / 20), abs=0.003)
    off = (made[..., :2] - project_2d.project(tracks))[~lost] * 480
    assert off.std() == pytest.approx(4, rel=0.01) and abs(off.mean()) < 0.02
    # Of a fifth of the clips one limb is lost throughout ten frames.
    hidden = [
        any(
            each[0, begin : begin + 10, limb].all()
            for limb in project_2d.limbs(skeleton)
            for begin in range(41)
        )
        for each in lost
    ]
    assert np.mean(hidden) == pytest.approx(0.2, abs=0.05)


def test_short_gaps_are_filled_as_in_every_preparation():
    straight = np.linspace(1, 2, 30)[None, :, None, None] + np.zeros((1, 30, 20, 3))
    lost = straight.copy()
    lost[:, 10:15, 3], lost[:, 10:25, 4] = 0, 0
    filled = project_2d.fill_short_gaps(lost.astype(np.float32))
    np.testing.assert_allclose(filled[0, 10:15, 3, :2], straight[0, 10:15, 3, :2], rtol=1e-6)
    assert (filled[0, 10:15, 3, 2] == 0).all() and (filled[0, 10:25, 4] == 0).all()


def test_the_command_keeps_clips_labels_and_splits(tiny_data, tmp_path):
    out = tmp_path / "flat.h5"
    assert project_2d.main(["--data", str(tiny_data), "--out", str(out)]) == 0
    before, after = open_prepared(tiny_data), open_prepared(out)
    assert (after.channels, after.unit) == ("xyc", "picture")
    for key in ("name", "label", "num_frame", "num_body", "start"):
        assert (getattr(before, key) == getattr(after, key)).all()
    assert before.splits.keys() == after.splits.keys() and before.keys.keys() == after.keys.keys()
    content = out.read_bytes()
    assert project_2d.main(["--data", str(tiny_data), "--out", str(out), "--overwrite"]) == 0
    assert len(out.read_bytes()) == len(content) and (open_prepared(out).joints == after.joints).all()
