"""Normalisations against slow per-clip code and against what the published preprocessing made."""

import dataclasses

import numpy as np
import pytest
import torch
from ragged_clips import generator, make_clips, resized, to_batch

from benchmarks.textbook.views import align_shoulders
from feeder.normalise import NORMALISE
from feeder.sampling import RandomResizedCrop, sample
from feeder.views import View, ViewError
from net.utils.layouts import get_skeleton

NTU = get_skeleton("ntu-rgb+d")
LENGTHS, BODIES = [1, 5, 12, 30, 6], [1, 2, 2, 1, 2]


def normalised(clips, name, *, sampling, skeleton=NTU, num_body=2, seed=0, channels="xyz"):
    """(N, M, T, V, C) as NumPy."""
    view = View(skeleton, num_body=num_body, sampling=sampling, normalise=name, channels=channels)
    return view(to_batch(clips, gap=3), generator(seed)).permute(0, 4, 2, 3, 1).numpy()


def clips_with_gaps():
    """Clips of which bodies, frames and joints are missing here and there."""
    clips = make_clips(LENGTHS, BODIES)
    clips[1][0, 0] = 0  # the first body comes in frame 1
    clips[1][1, 2] = 0
    clips[2][0, 5:8] = 0
    clips[2][1, :, 3] = 0
    clips[3][0, 0] = clips[3][0, 1] = 0
    clips[4][0] = 0  # the first body never comes
    return clips


def spine_of_first_frame(clip):
    for pose in clip[0]:
        if pose.any():
            return pose[NTU.spine]
    return clip[0, 0, NTU.spine]


def where_first_is(clip, frame, joint=NTU.spine):
    """Where a joint of the first body is, or was last, or will come, or the origin."""
    seen = [each for each in range(clip.shape[1]) if clip[0, each, joint].any()]
    return clip[0, max((each for each in seen if each <= frame), default=min(seen, default=0)), joint]


def slow_centre(clip, centre_of):
    """Minus `centre_of(t)`, but where a joint is absent."""
    out = np.zeros_like(clip)
    for body, frame, joint in np.ndindex(clip.shape[:3]):
        if clip[body, frame, joint].any():
            out[body, frame, joint] = clip[body, frame, joint] - centre_of(frame)
    return out


def slow_turn(line, axis):
    """Rotation by the angle between line and axis about their normal: a quaternion's matrix."""
    normal = np.cross(line, axis)
    if np.abs(normal).sum() < 1e-6:
        return np.eye(3)
    angle = np.arccos(np.dot(line, axis) / np.linalg.norm(line))
    w, (x, y, z) = np.cos(angle / 2), np.sin(angle / 2) * normal / np.linalg.norm(normal)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def slow_align_torso(clip):
    out = slow_centre(clip, lambda frame: where_first_is(clip, frame)).astype(float)
    first = next((pose for pose in clip[0] if pose.any()), clip[0, 0]).astype(float)
    for axis, upper, lower in ((np.array([0, 0, 1]), 1, 0), (np.array([1, 0, 0]), 8, 4)):
        turn = slow_turn(first[upper] - first[lower], axis)
        out, first = out @ turn.T, first @ turn.T
    return out


def slow_align_shoulders(clip, num_frame):
    made = np.stack([resized(track.astype(float), num_frame) for track in clip])
    aligned = align_shoulders(made.transpose(3, 1, 2, 0))
    return aligned.transpose(3, 1, 2, 0)


SLOW = {
    "none": lambda clip, size: clip,
    "center_first_frame": lambda clip, size: slow_centre(clip, lambda frame: spine_of_first_frame(clip)),
    "center_per_frame": lambda clip, size: slow_centre(clip, lambda frame: where_first_is(clip, frame)),
    "align_torso": lambda clip, size: slow_align_torso(clip),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("clips", [make_clips(LENGTHS, BODIES), clips_with_gaps()], ids=["whole", "gaps"])
def test_centres_and_turns_raw_frames_then_resizes(name, clips):
    found = normalised(clips, name, sampling=[{"Resize": {"num_frame": 16}}])
    for clip, made in zip(clips, found, strict=True):
        for body, track in enumerate(SLOW[name](clip, 16)):
            np.testing.assert_allclose(made[body], resized(track.astype(float), 16), atol=2e-5)
        assert not made[len(clip) :].any()


@pytest.mark.parametrize("name", ["center_per_frame", "align_torso"])
def test_nobody_jumps_when_the_first_body_leaves_or_comes_late(name):
    (clip,) = make_clips([12], [2])
    clip[:] = clip[:, :1] + [1.5, 0.2, 3.0]  # nobody moves, some metres from the camera
    whole, gaps = clip.copy(), clip.copy()
    gaps[0, :2] = gaps[0, 5:8] = gaps[0, 10:] = 0
    gaps[0, 3, NTU.spine] = 0
    made = [normalised([each], name, sampling=[{"Resize": {"num_frame": 12}}])[0] for each in (whole, gaps)]
    np.testing.assert_allclose(made[1][1], made[0][1], atol=1e-6)
    assert np.abs(np.diff(made[1][1], axis=0)).max() < 1e-6


@pytest.mark.parametrize("name", SLOW)
def test_absent_joints_stay_zero_on_whole_frames(name):
    clips = clips_with_gaps()
    found = normalised(clips, name, sampling=[{"Pad": {"num_frame": 30, "mode": "zero"}}])
    for clip, made in zip(clips, found, strict=True):
        expected = SLOW[name](clip, 30)
        np.testing.assert_allclose(made[: len(clip), : clip.shape[1]], expected, atol=1e-5)
        absent = ~clip.any(-1)
        assert not made[: len(clip), : clip.shape[1]][absent].any()
        assert not made[:, clip.shape[1] :].any()


def test_align_shoulders_resizes_then_turns_each_frame():
    clips = clips_with_gaps()
    found = normalised(clips, "align_shoulders", sampling=[{"Resize": {"num_frame": 16}}])
    for clip, made in zip(clips, found, strict=True):
        np.testing.assert_allclose(made[: len(clip)], slow_align_shoulders(clip, 16), atol=2e-5)


def test_shoulders_of_a_turned_body_come_parallel_to_x():
    (clip,) = make_clips([20], [1])
    clip[0, :, 8] = clip[0, :, 4] + [0.1, 0.05, 0.3]
    (made,) = normalised([clip], "align_shoulders", sampling=[{"Resize": {"num_frame": 10}}], num_body=1)
    line = made[0, :, 8] - made[0, :, 4]
    assert np.abs(line[:, 2]).max() < 0.03 * np.abs(line[:, 0]).min()
    assert (line[:, 0] > 0).all()
    np.testing.assert_array_equal(made[0, :, 20], 0)


@pytest.mark.parametrize(("depths", "size"), [([0.1], 2), ([-0.1], 2), ([1, -0.1, 1], 1), ([1, -0.1, 1], 3)])
def test_sense_of_the_turn_is_the_sum_over_the_clip_at_the_views_length(depths, size):
    (clip,) = make_clips([len(depths)], [1])
    clip[0, :, 8] = clip[0, :, 4] + np.array([[0.3, 0, depth] for depth in depths])
    (made,) = normalised([clip], "align_shoulders", sampling=[{"Resize": {"num_frame": size}}], num_body=1)
    np.testing.assert_allclose(made, slow_align_shoulders(clip, size), atol=2e-5)


@pytest.mark.parametrize("name", NORMALISE)
def test_a_crop_shows_what_the_whole_clip_shows_there(name):
    """The reference pose and sense are the clip's, whatever frames a view takes."""
    clips = clips_with_gaps()
    whole = normalised(clips, name, sampling=[{"Pad": {"num_frame": 30}}])
    crop = [{"Pad": {"num_frame": 30}}, {"Crop": {"num_frame": 30, "where": "random"}}, "TemporalCrop"]
    positions = sample(View(NTU, num_body=2, sampling=crop).sampling, torch.tensor(LENGTHS), generator(3))
    cropped = normalised(clips, name, sampling=crop, seed=3)
    for number, length in enumerate(LENGTHS):
        for frame, position in enumerate(positions[number].long().tolist()):
            assert position < length
            np.testing.assert_array_equal(cropped[number, :, frame], whole[number, :, position])


def test_aligned_once_torso_is_upright_and_shoulders_point_to_x():
    # With shoulders at right angles to the torso, both hold at once.
    (clip,) = make_clips([4], [1])
    turn = slow_turn(np.array([0.3, -0.5, 0.4]), np.array([0, 0, 1.0]))
    clip[0, 0, 0], clip[0, 0, 1] = [0, 0, 3], np.array([0, 0, 3]) + turn @ [0, 0, 0.5]
    clip[0, 0, 4], clip[0, 0, 8] = [0.2, 0.1, 2.9], np.array([0.2, 0.1, 2.9]) + turn @ [0, 0.4, 0]
    (made,) = normalised([clip], "align_torso", sampling=[{"Pad": {"num_frame": 1}}], num_body=1)
    pose = made[0, 0]
    np.testing.assert_allclose(pose[1], 0, atol=1e-6)
    np.testing.assert_allclose(pose[0], [0, 0, -0.5], atol=1e-5)
    np.testing.assert_allclose(pose[8] - pose[4], [0.4, 0, 0], atol=1e-5)


def test_lines_that_point_the_right_way_or_have_no_length_are_left():
    (clip,) = make_clips([2], [1])
    clip[0, :, 0], clip[0, :, 1] = [0, 0, 2], [0, 0, 2.5]
    clip[0, :, 4] = clip[0, :, 8] = [0.1, 0.2, 2]
    (made,) = normalised([clip], "align_torso", sampling=[{"Pad": {"num_frame": 2}}], num_body=1)
    np.testing.assert_allclose(made[0], clip[0] - clip[0, :, 1:2], atol=1e-6)


def test_works_for_kinect_v1_and_says_what_a_layout_lacks():
    kinect = get_skeleton("kinect-v1")
    clips = make_clips(LENGTHS, BODIES, num_joint=20)
    for name in NORMALISE:
        made = normalised(clips, name, sampling=[{"Resize": {"num_frame": 8}}], skeleton=kinect)
        assert np.isfinite(made).all()
    bare = dataclasses.replace(kinect, torso=None, shoulders=None)
    with pytest.raises(ValueError, match=r"align_torso needs torso and shoulders.*'kinect-v1'"):
        View(bare, num_body=1, sampling=[{"Resize": {"num_frame": 8}}], normalise="align_torso")
    with pytest.raises(ValueError, match="align_shoulders needs shoulders"):
        View(bare, num_body=1, sampling=[{"Resize": {"num_frame": 8}}], normalise="align_shoulders")


@pytest.mark.parametrize("channels", ["xy", "xyc"])
@pytest.mark.parametrize("name", ["align_torso", "align_shoulders"])
def test_turning_flat_clips_is_refused(name, channels):
    with pytest.raises(ViewError, match=f"{name} .*{channels}") as refused:
        View(NTU, num_body=2, sampling=[{"Pad": {"num_frame": 4}}], normalise=name, channels=channels)
    assert [problem.key for problem in refused.value.problems] == ["normalise"]


def test_clips_of_other_channels_than_the_views_are_refused():
    with pytest.raises(ValueError, match=r"2 channels.*'xyz'.*data.channels"):
        flat = [clip[..., :2] for clip in make_clips([4], [1])]
        normalised(flat, "none", sampling=[{"Pad": {"num_frame": 4}}])


@pytest.mark.parametrize("channels", ["xy", "xyc"])
@pytest.mark.parametrize("name", ["none", "center_first_frame", "center_per_frame"])
def test_in_the_picture_coordinates_alone_are_moved_and_joints_come_and_go(name, channels):
    clips = flat_clips(channels)
    found = normalised(clips, name, sampling=[{"Resize": {"num_frame": 16}}], channels=channels)
    for clip, made in zip(clips, found, strict=True):
        expected = clip.copy()
        expected[..., :2] = SLOW[name](clip[..., :2], 16)
        if channels == "xyc":  # else the joint that is the origin is as one that was not seen
            np.testing.assert_allclose(made[: len(clip)], slow_resize(expected, 16), atol=2e-4)
            assert (made[..., 2] >= 0).all()
        elif name == "none":
            np.testing.assert_allclose(made[: len(clip)], slow_resize(expected, 16), atol=2e-4)
        assert not made[len(clip) :].any()


def flat_clips(channels):
    """Clips in pixels, with joints that were not seen."""
    random = np.random.default_rng(1)
    clips = [100 * clip + 300 for clip in make_clips(LENGTHS, BODIES)]
    for clip in clips:
        clip[..., 2] = random.uniform(0.2, 1, clip.shape[:3])
        clip[random.uniform(size=clip.shape[:3]) < 0.2] = 0
        clip[0, :, 1] = [320, 240, 0.5]  # the first body's spine is there, or centring has nothing to go by
    clips[2][0, 5:8] = 0
    return [clip[..., : len(channels)].copy() for clip in clips]


def slow_resize(clip, num_frame):
    """Resized joint by joint: between a frame with it and one without, the nearer frame counts."""
    out = np.zeros((len(clip), num_frame, *clip.shape[2:]))
    last = clip.shape[1] - 1
    for number in range(num_frame):
        position = min(max((number + 0.5) * (last + 1) / num_frame - 0.5, 0), last)
        before = int(np.floor(position))
        share, after = position - before, min(before + 1, last)
        for body, joint in np.ndindex(len(clip), clip.shape[2]):
            a, b = clip[body, before, joint], clip[body, after, joint]
            empty = not clip[body, before].any() or not clip[body, after].any()
            nearer = empty or not a.any() or not b.any()
            out[body, number, joint] = (b if share > 0.5 else a) if nearer else a + share * (b - a)
    return out


def published(arrays, kind):
    """(name, (M, T, V, C) without absent bodies) of each raw file."""
    for name in arrays["names"]:
        tracks = arrays[f"{name}/{kind}"].transpose(3, 1, 2, 0)
        last = max(body for body in range(len(tracks)) if tracks[body].any())
        yield name, np.ascontiguousarray(tracks[: last + 1])


def test_equals_fifty_frames_that_aimclr_made(reference):
    arrays = reference("ntu_preprocess.npz")
    clips = [clip for _, clip in published(arrays, "first_two_bodies")]
    made = normalised(clips, "align_shoulders", sampling=[{"Resize": {"num_frame": 50}}])
    np.testing.assert_allclose(made.transpose(0, 4, 2, 3, 1), arrays["frame50_position"], atol=1e-5)


def test_displacement_equals_motion_that_aimclr_made(reference):
    arrays = reference("ntu_preprocess.npz")
    clips = [clip for _, clip in published(arrays, "first_two_bodies")]
    view = View(NTU, num_body=2, sampling=[{"Resize": {"num_frame": 50}}])
    made = view(to_batch(clips, gap=2).displacement(), generator())
    np.testing.assert_allclose(made.numpy(), arrays["frame50_motion"], atol=1e-5)


def test_equals_as_gcn_pre_normalisation(reference):
    """The published file holds the tracks in order of their spread: the sum of x's, y's and z's deviation."""
    arrays = reference("ntu_preprocess.npz")
    clips = dict(published(arrays, "first_two_bodies"))
    compared = 0
    for name, expected in published(arrays, "energy_two_bodies_normalised"):
        clip = clips[name]
        spread = [sum(track[track.any((1, 2))].std((0, 1))) for track in clip]
        clip = clip[np.argsort(spread)[::-1]]
        (made,) = normalised([clip], "align_torso", sampling=[{"Pad": {"num_frame": clip.shape[1]}}])
        np.testing.assert_allclose(made[: len(expected)], expected, atol=1e-5, err_msg=name)
        compared += 1
    assert compared == len(arrays["names"])


def test_random_parts_are_centred_on_the_clips_first_frame():
    clips = make_clips(LENGTHS, BODIES)
    steps = [{"RandomResizedCrop": {"num_frame": 8, "min_ratio": 0.3, "max_ratio": 0.6}}]
    positions = sample([RandomResizedCrop(8, 0.3, 0.6)], torch.tensor(LENGTHS), generator(5))
    plain = to_batch(clips)
    made = normalised(clips, "center_first_frame", sampling=steps, seed=5)
    raw = plain.poses(plain.tracks(2), positions).numpy()
    present = [(clip, body) for clip, bodies in enumerate(BODIES) for body in range(bodies)]
    for track, (clip, body) in enumerate(present):
        np.testing.assert_allclose(made[clip, body], raw[track] - clips[clip][0, 0, 1], atol=1e-5)
