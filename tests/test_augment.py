"""Augmentations: what they draw, what they do to one clip, and that fusing them changes nothing."""

import math

import numpy as np
import pytest
import torch
from ragged_clips import generator

from feeder.augment import (
    AUGMENT,
    AxisMask,
    Flip,
    GaussianNoise,
    JointMask,
    LinearStep,
    Rotate,
    RotateMainAxis,
    Scale,
    Shear,
    TemporalBlur,
    UnitBox,
    augment,
    rotations,
)
from net.utils.layouts import get_skeleton

NTU = get_skeleton("ntu-rgb+d")
CLIP = torch.tensor([0, 0, 1, 2, 2, 3])  # tracks of four clips, two of which have two bodies
NUM_CLIP, NUM_FRAME = 4, 20


def make_poses(seed=0):
    poses = torch.randn(len(CLIP), NUM_FRAME, 25, 3, generator=generator(seed))
    poses[1, 4:9] = 0
    poses[3, 0] = 0
    return poses


def run(poses, steps, *, seed=0, matrix=None, clip=CLIP, num_clip=NUM_CLIP, channels="xyz"):
    steps = steps if isinstance(steps, list) else [steps]
    return augment(
        poses.clone(),
        steps,
        clip=clip,
        num_clip=num_clip,
        swap=NTU.swap,
        generator=generator(seed),
        matrix=matrix,
        channels=channels,
    )


def drawn(step, num_clip=2000, seed=0):
    return step.draw(num_clip, 3, generator(seed))


# -- what is drawn -----------------------------------------------------------------------------------------


def test_defaults_are_the_published_values():
    assert Shear().amplitude == 0.5
    assert Rotate().max_angle.tolist() == pytest.approx([0.3] * 3)
    assert (GaussianNoise().std, GaussianNoise().p, Flip().p, AxisMask().p) == (0.01, 0.5, 0.5, 0.5)
    blur = TemporalBlur()
    assert (blur.p, blur.num_tap, blur.min_sigma, blur.max_sigma) == (0.5, 15, 0.1, 2.0)


def test_shear_draws_everything_off_the_diagonal():
    matrix = drawn(Shear(0.5)).matrix
    diagonal = torch.eye(3, dtype=torch.bool)
    assert (matrix[:, diagonal] == 1).all()
    for place in matrix[:, ~diagonal].T:
        assert place.min() < -0.49
        assert place.max() > 0.49
        assert place.abs().max() <= 0.5
        assert abs(place.mean()) < 0.03


def angles_of(matrix):
    """About x, y, z of Rz Ry Rx in the sense of `rotations`, by hand from its elements."""
    y = np.arcsin(matrix[:, 2, 0])
    return np.stack(
        [np.arctan2(-matrix[:, 2, 1], matrix[:, 2, 2]), y, np.arctan2(-matrix[:, 1, 0], matrix[:, 0, 0])], 1
    )


def slow_rotation(x, y, z):
    """Each turn written out."""
    about_x = [[1, 0, 0], [0, math.cos(x), math.sin(x)], [0, -math.sin(x), math.cos(x)]]
    about_y = [[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]]
    about_z = [[math.cos(z), math.sin(z), 0], [-math.sin(z), math.cos(z), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def test_rotations_turn_about_x_then_y_then_z():
    angle = torch.tensor([[0.3, -0.7, 1.1], [math.pi / 2, 0, 0], [0, 0, 0], [0.1, 0.2, -0.3]])
    for matrix, each in zip(rotations(angle), angle.tolist(), strict=True):
        np.testing.assert_allclose(matrix, slow_rotation(*each), atol=1e-6)
    quarter = rotations(torch.tensor([[math.pi / 2, 0, 0]]))[0]
    np.testing.assert_allclose(quarter @ torch.tensor([0.0, 1, 0]), [0, 0, -1], atol=1e-6)


@pytest.mark.parametrize(("given", "largest"), [(0.3, [0.3, 0.3, 0.3]), ([0.1, 1.0, 0.0], [0.1, 1.0, 0.0])])
def test_rotate_draws_both_senses_up_to_the_largest_angle(given, largest):
    matrix = drawn(Rotate(given)).matrix.double().numpy()
    np.testing.assert_allclose(
        matrix @ matrix.transpose(0, 2, 1), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-6
    )
    for angle, limit in zip(angles_of(matrix).T, largest, strict=True):
        assert np.abs(angle).max() <= limit + 1e-6
        assert angle.max() >= 0.98 * limit
        assert angle.min() <= -0.98 * limit


def test_rotate_main_axis_turns_one_axis_far_and_the_others_little():
    angle = np.degrees(angles_of(drawn(RotateMainAxis()).matrix.double().numpy()))
    assert angle.min() > -0.01
    assert angle.max() == pytest.approx(30, abs=0.3)
    for main in range(3):
        mine = angle[angle[:, main] > 1.01]
        assert 500 < len(mine) < 800
        assert np.delete(mine, main, 1).max() == pytest.approx(1, abs=0.05)


def test_scale_draws_one_factor_or_one_per_axis():
    factor = torch.diagonal(drawn(Scale(0.8, 1.25)).matrix, dim1=1, dim2=2)
    assert (factor == factor[:, :1]).all()
    assert 0.8 <= factor.min() < 0.81
    assert 1.24 < factor.max() <= 1.25
    per_axis = torch.diagonal(drawn(Scale(0.8, 1.25, per_axis=True)).matrix, dim1=1, dim2=2)
    assert (per_axis != per_axis[:, :1])[:, 1:].all()


def test_flip_happens_with_its_probability_and_mirrors_only_when_told():
    plain, mirrored = drawn(Flip(0.3)), drawn(Flip(0.3, mirror=True))
    assert plain.matrix is None
    assert abs(plain.swap.float().mean() - 0.3) < 0.04
    sign = torch.where(mirrored.swap, -1.0, 1.0)
    expected = torch.diag_embed(torch.stack((sign, torch.ones(2000), torch.ones(2000)), 1))
    assert torch.equal(mirrored.matrix, expected)


def test_axis_mask_zeroes_one_axis_of_some_clips():
    kept = torch.diagonal(drawn(AxisMask(0.6)).matrix, dim1=1, dim2=2)
    masked = 3 - kept.sum(1)
    assert set(masked.tolist()) == {0, 1}
    assert abs(masked.mean() - 0.6) < 0.04
    assert ((1 - kept).sum(0) > 300).all()


def test_probabilities_of_zero_and_one_are_never_and_always():
    for p in (0.0, 1.0):
        assert (drawn(Flip(p)).swap == bool(p)).all()
        assert (torch.diagonal(drawn(AxisMask(p)).matrix, dim1=1, dim2=2).sum(1) == 3 - p).all()


# -- what is done ------------------------------------------------------------------------------------------


def slow(poses, step, seed=0):
    """A linear step as loops over tracks, frames and joints."""
    matrix, swap = step.draw(NUM_CLIP, 3, generator(seed))
    out = np.zeros(poses.shape)
    for track, frame, joint in np.ndindex(poses.shape[:3]):
        clip = CLIP[track]
        source = NTU.swap[joint] if swap is not None and swap[clip] else joint
        pose = poses[track, frame, source].double().numpy()
        out[track, frame, joint] = pose if matrix is None else matrix[clip].double().numpy() @ pose
    return out


LINEAR = [Shear(0.5), Rotate(1.0), RotateMainAxis(), Scale(0.8, 1.2), Flip(), Flip(mirror=True), AxisMask()]


@pytest.mark.parametrize("step", LINEAR, ids=lambda step: type(step).__name__)
def test_linear_step_changes_every_joint_of_a_clip_alike(step):
    for seed in range(3):
        poses = make_poses(seed)
        np.testing.assert_allclose(run(poses, step, seed=seed), slow(poses, step, seed), atol=1e-5)


def test_linear_steps_fused_are_the_steps_one_by_one():
    poses, steps = make_poses(), [*LINEAR, Flip(1.0), Shear(0.2)]
    shared, one_by_one, expected = generator(7), poses.clone(), poses.numpy()
    for step in steps:
        state = shared.get_state()
        one_by_one = augment(
            one_by_one, [step], clip=CLIP, num_clip=NUM_CLIP, swap=NTU.swap, generator=shared
        )
        replay = torch.Generator()
        replay.set_state(state)
        matrix, swap = step.draw(NUM_CLIP, 3, replay)
        expected = np.stack(
            [
                (track[:, list(NTU.swap)] if swap is not None and swap[clip] else track)
                @ (np.eye(3) if matrix is None else matrix[clip].double().numpy().T)
                for track, clip in zip(expected, CLIP, strict=True)
            ]
        )
    fused = run(poses, steps, seed=7)
    np.testing.assert_allclose(fused, one_by_one, atol=1e-5)
    np.testing.assert_allclose(fused, expected, atol=1e-5)


def test_fused_and_direct_steps_keep_their_order():
    poses = make_poses()
    steps = [
        Shear(0.5),
        Flip(),
        GaussianNoise(0.1),
        Rotate(0.5),
        Flip(),
        TemporalBlur(),
        AxisMask(),
        JointMask(0.2),
    ]
    shared, one_by_one = generator(11), poses.clone()
    for step in steps:
        one_by_one = augment(
            one_by_one, [step], clip=CLIP, num_clip=NUM_CLIP, swap=NTU.swap, generator=shared
        )
    np.testing.assert_allclose(run(poses, steps, seed=11), one_by_one, atol=1e-5)


@pytest.mark.parametrize("num_matrix", [1, NUM_FRAME])
@pytest.mark.parametrize("steps", [[], [Shear(0.5)], [AxisMask(0.5)], [JointMask(0.3), Shear(0.5)]])
def test_a_matrix_from_before_is_applied_first(num_matrix, steps):
    poses = make_poses()
    matrix = torch.randn(len(CLIP), num_matrix, 3, 3, generator=generator(5))
    first = torch.einsum("btij,btvj->btvi", matrix.expand(-1, NUM_FRAME, -1, -1), poses)
    np.testing.assert_allclose(run(poses, steps, matrix=matrix), run(first, steps), atol=1e-5)


def test_noise_has_its_deviation_on_the_clips_it_meets_and_none_on_empty_frames():
    clip = torch.arange(400).repeat_interleave(2)
    poses = torch.ones(800, 6, 25, 3)
    poses[:, 2] = 0
    change = run(poses, GaussianNoise(0.02, 0.25), clip=clip, num_clip=400) - poses
    met = change.flatten(1).any(1)
    assert torch.equal(met[::2], met[1::2])
    assert abs(met.float().mean() - 0.25) < 0.07
    assert not change[:, 2].any()
    noise = change[met][:, [0, 1, 3, 4, 5]]
    assert abs(noise.std() - 0.02) < 1e-4
    assert abs(noise.mean()) < 1e-4
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(change, run(poses, GaussianNoise(0.02, 0.25), clip=clip, num_clip=400) - poses)


@pytest.mark.parametrize("unit_sum", [True, False])
@pytest.mark.parametrize("num_tap", [1, 5, 15])
def test_blur_is_a_weighted_mean_over_the_frames_that_are_there(unit_sum, num_tap):
    poses, step = make_poses(), TemporalBlur(0.6, num_tap=num_tap, unit_sum=unit_sum)
    found = run(poses, step, seed=2)
    draws = generator(2)
    sigma = (0.1 + 1.9 * torch.rand(NUM_CLIP, generator=draws)).tolist()
    happens = (torch.rand(NUM_CLIP, generator=draws) < 0.6).tolist()
    assert {True, False} == set(happens)
    for track, clip in enumerate(CLIP.tolist()):
        frames = poses[track].double().numpy()
        for frame in range(NUM_FRAME):
            expected, total = np.zeros((25, 3)), 0.0
            for other in range(max(0, frame - num_tap // 2), min(NUM_FRAME, frame + num_tap // 2 + 1)):
                if frames[other].any():
                    weight = math.exp(-((frame - other) ** 2) / (2 * sigma[clip] ** 2))
                    expected, total = expected + weight * frames[other], total + weight
            if not happens[clip]:
                expected = frames[frame]
            elif not frames[frame].any():
                expected = np.zeros((25, 3))
            elif unit_sum:
                expected = expected / total
            np.testing.assert_allclose(found[track, frame], expected, atol=1e-5)


def test_joint_mask_takes_joints_of_a_clip_away_in_all_frames_and_bodies():
    poses = make_poses() + 10
    changed = run(poses, JointMask(0.3))
    gone = (changed == 0).all(-1).all(1)
    assert torch.equal(changed, poses * ~gone[:, None, :, None])
    assert torch.equal(gone[0], gone[1])
    assert not torch.equal(gone[0], gone[2])
    assert abs(gone.float().mean() - 0.3) < 0.12
    assert not (run(poses, JointMask(0.0)) == 0).any()


def test_unit_box_spans_each_axis_with_the_joints_of_all_bodies_of_a_clip():
    poses = make_poses() * torch.tensor([1.0, 3.0, 0.2]) + 5
    poses[1, 4:9] = 0
    poses[0, 0, 1] = 0  # the joint that the clip is centred on
    poses[5, ..., 2] = 0.4  # a clip that is flat in z
    found = run(poses, UnitBox())
    for clip in range(NUM_CLIP):
        tracks = clip == CLIP
        present = poses[tracks].any((2, 3), keepdim=True).expand(-1, -1, 25, 1).flatten()
        joints, boxed = poses[tracks].reshape(-1, 3), found[tracks].reshape(-1, 3)
        assert not boxed[~present].any()
        low, high = joints[present].amin(0), joints[present].amax(0)
        half = (high - low) / 2
        half[half == 0] = 1
        torch.testing.assert_close(boxed[present], (joints[present] - (low + high) / 2) / half)
    assert not found[5, ..., 2].any()


def test_unit_box_around_the_frames_seen_is_that_of_a_shorter_view():
    poses = make_poses()
    poses[5, :6] = 0  # nobody is there at first: the rest stays as it is
    later = poses.clone()
    later[:, 6:] *= 7
    found = run(later.clone(), UnitBox(num_seen=6))
    torch.testing.assert_close(found[:5, :6], run(poses[:, :6].clone(), UnitBox())[:5])
    torch.testing.assert_close(found[5], later[5])
    assert found[:5, 6:].abs().max() > 3
    with pytest.raises(ValueError, match="num_seen is 0"):
        UnitBox(num_seen=0)


def test_unit_box_leaves_an_empty_clip_empty():
    poses = make_poses()
    poses[2] = 0
    assert not run(poses, UnitBox())[2].any()


@pytest.mark.parametrize("step", AUGMENT.values(), ids=lambda step: step.__name__)
def test_empty_frames_stay_empty_and_draws_repeat(step):
    step = step(0.8, 1.2) if step is Scale else step()
    poses = make_poses()
    for seed in range(4):
        changed = run(poses, step, seed=seed)
        assert not changed[1, 4:9].any()
        assert not changed[3, 0].any()
        assert torch.equal(changed, run(poses, step, seed=seed))


# -- in the picture ----------------------------------------------------------------------------------------

FLAT = [
    *(Rotate(0.3), Rotate([0, 0, 0.5]), Scale(0.5, 2.0), Scale(0.5, 2.0, per_axis=True)),
    *(Flip(mirror=True), Flip(1.0), AxisMask(1.0), GaussianNoise(p=1.0), TemporalBlur(p=1.0), UnitBox()),
    TemporalBlur(p=1.0, unit_sum=False),
]


def make_flat(channels):
    """Poses in pixels, with joints that were not seen."""
    poses = make_poses() * 50 + 300
    poses[..., 2] = torch.rand(poses.shape[:3], generator=generator(1)) * 0.8 + 0.2
    poses[torch.rand(poses.shape[:3], generator=generator(2)) < 0.2] = 0
    poses[1, 4:9] = 0
    return poses[..., : len(channels)].clone()


@pytest.mark.parametrize("step", FLAT, ids=lambda step: type(step).__name__)
def test_confidence_goes_with_its_joint_and_joints_that_were_not_seen_stay_zero(step):
    assert step.out_of_plane() is None
    poses = make_flat("xyc")
    made, plain = run(poses, step, channels="xyc"), run(make_flat("xy"), step, channels="xy")
    assert torch.equal(made[..., :2], plain)
    confidence = poses[..., 2]
    if isinstance(step, Flip):
        swap = drawn_flags(step)[CLIP][:, None, None]
        confidence = torch.where(swap, confidence[..., list(NTU.swap)], confidence)
    assert torch.equal(made[..., 2], confidence)
    assert not made[confidence == 0].any()
    assert (made[..., :2] - poses[..., :2]).abs().max() > 1e-3


def drawn_flags(step):
    return step.draw(NUM_CLIP, 2, generator()).swap


def test_in_the_picture_bodies_turn_about_the_viewing_axis():
    poses = make_flat("xyc")
    made = run(poses, Rotate([0, 0, 3.0]), channels="xyc")
    length, turned = (torch.view_as_complex(each[..., :2].contiguous()) for each in (poses, made))
    seen = poses[..., 2] > 0
    torch.testing.assert_close(turned.abs(), length.abs())
    angles = [(turned[track] / length[track])[seen[track]] for track in range(len(CLIP))]
    for each in angles:
        torch.testing.assert_close(each, each[:1].expand_as(each), atol=1e-5, rtol=0)
    assert len({round(float(each[0].angle()), 3) for each in angles}) == NUM_CLIP


@pytest.mark.parametrize("channels", ["xy", "xyc"])
@pytest.mark.parametrize("num_seen", [None, 3])
def test_a_unit_box_in_the_picture_is_around_seen_joints_and_keeps_shapes(channels, num_seen):
    poses = make_flat(channels)
    made = run(poses, UnitBox(num_seen), channels=channels)
    for clip in range(NUM_CLIP):
        tracks = (clip == CLIP).nonzero()[:, 0]
        of_clip = poses[tracks]
        seen = of_clip.numpy().any(-1)
        places = of_clip.numpy()[..., :2]
        within = places[:, :num_seen][seen[:, :num_seen]]
        low, high = within.min(0), within.max(0)
        expected = (places - (low + high) / 2) / ((high - low).max() / 2) * seen[..., None]
        np.testing.assert_allclose(made[tracks][..., :2], expected, atol=1e-5)


def test_blur_in_the_picture_is_over_the_frames_where_a_joint_was_seen():
    poses = make_flat("xyc")
    step = TemporalBlur(p=1.0, num_tap=5, min_sigma=1.0, max_sigma=1.0)
    made = run(poses, step, channels="xyc")
    for track, frame, joint in np.ndindex(*poses.shape[:3]):
        if not poses[track, frame, joint].any():
            continue
        total, weights = 0.0, 0.0
        for other in range(max(0, frame - 2), min(NUM_FRAME, frame + 3)):
            if poses[track, other, joint].any():
                weight = math.exp(-((other - frame) ** 2) / 2)
                total, weights = total + weight * poses[track, other, joint, :2], weights + weight
        torch.testing.assert_close(made[track, frame, joint, :2], total / weights, atol=1e-3, rtol=0)


@pytest.mark.parametrize("step", [Shear(0.5), Rotate([0.1, 0, 0.3]), Rotate([0, 0.1, 0.3]), RotateMainAxis()])
def test_steps_that_need_depth_say_so(step):
    assert step.out_of_plane()


@pytest.mark.parametrize(
    ("step", "args", "said"),
    [
        ("Shear", {"amplitude": -0.5}, "amplitude is -0.5"),
        ("Rotate", {"max_angle": [0.1, 0.2]}, "three for x, y and z"),
        ("Rotate", {"max_angle": [0.1, -0.2, 0.3]}, "max_angle is -0.2"),
        ("RotateMainAxis", {"other_angle": -1.0}, "other_angle is -1.0"),
        ("Scale", {"min_factor": 0.0, "max_factor": 1.0}, "0 < min_factor"),
        ("Scale", {"min_factor": 1.2, "max_factor": 1.0}, "1.2 to 1.0"),
        ("Flip", {"p": 2.0}, "p is 2.0"),
        ("AxisMask", {"p": -0.1}, "p is -0.1"),
        ("JointMask", {"p": 1.1}, "p is 1.1"),
        ("GaussianNoise", {"std": -1.0}, "std is -1.0"),
        ("GaussianNoise", {"p": 1.5}, "p is 1.5"),
        ("TemporalBlur", {"num_tap": 4}, "num_tap is 4"),
        ("TemporalBlur", {"min_sigma": 0.0}, "0 < min_sigma"),
        ("TemporalBlur", {"p": 7.0}, "p is 7.0"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(step, args, said):
    with pytest.raises(ValueError, match=said):
        AUGMENT[step](**args)


def test_the_table_holds_linear_and_direct_steps():
    linear = {name for name, step in AUGMENT.items() if issubclass(step, LinearStep)}
    assert linear == {"Shear", "Rotate", "RotateMainAxis", "Scale", "Flip", "AxisMask"}
