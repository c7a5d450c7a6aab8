"""Views: the gather, the whole pipeline against one clip at a time, and what a bad description is told."""

import numpy as np
import pytest
import torch
from ragged_clips import at, generator, make_clips, to_batch
from test_normalise import clips_with_gaps, slow_align_shoulders

from feeder.augment import AUGMENT, DirectStep
from feeder.normalise import NORMALISE
from feeder.ragged import RaggedBatch, place
from feeder.sampling import SAMPLING, SamplingStep, sample
from feeder.streams import STREAMS
from feeder.views import Base, View, ViewError, make_views
from net.utils.layouts import get_skeleton

NTU = get_skeleton("ntu-rgb+d")
LENGTHS, BODIES = [1, 84, 30, 300], [2, 1, 3, 2]
RESIZE = [{"Resize": {"num_frame": 20}}]


def view(**changes):
    return View(NTU, **{"num_body": 2, "sampling": RESIZE, **changes})


# -- the gather --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 7])
def test_whole_positions_give_the_rows_own_values_to_the_bit(gap):
    clips = make_clips(LENGTHS, BODIES)
    batch = to_batch(clips, gap=gap)
    positions = torch.stack([torch.arange(12.0, dtype=torch.float64) % length for length in LENGTHS])
    tracks = batch.tracks(3)
    found = batch.poses(tracks, positions).numpy()
    assert (
        found.tobytes()
        == np.stack(
            [clips[clip][body][np.arange(12) % LENGTHS[clip]] for clip, body in zip(*tracks, strict=True)]
        ).tobytes()
    )


def test_positions_between_frames_are_interpolated_and_nan_is_empty():
    clips = make_clips(LENGTHS, BODIES)
    batch = to_batch(clips, gap=2)
    share = torch.rand(4, 9, dtype=torch.float64, generator=generator())
    positions = share * (torch.tensor(LENGTHS)[:, None] - 1)
    positions[1, 3] = torch.nan
    tracks = batch.tracks(2)
    found = batch.poses(tracks, positions)
    depth = batch.coordinates(tracks, positions, joints=[8, 4], channel=2)
    for number, (clip, body) in enumerate(zip(*tracks, strict=True)):
        expected = [at(clips[clip][body], position) for position in positions[clip].tolist()]
        np.testing.assert_allclose(found[number], expected, atol=1e-5)
        np.testing.assert_array_equal(depth[number], found[number][:, [8, 4], 2])
    assert not found[2, 3].any()


def test_an_empty_frame_asks_for_no_row():
    # A row beyond the only one would not exist.
    positions = torch.full((1, 2), torch.nan, dtype=torch.float64)
    batch = to_batch(make_clips([1], [1]))
    assert not batch.poses(batch.tracks(1), positions).any()


def test_bodies_beyond_num_body_are_left_out_and_absent_ones_are_zero():
    clips = make_clips(LENGTHS, BODIES)
    batch = to_batch(clips)
    for num_body in (1, 2, 3, 4):
        tracks = batch.tracks(num_body)
        poses = batch.poses(tracks, torch.zeros(4, 1, dtype=torch.float64))
        placed = place(poses, tracks, num_clip=4, num_body=num_body)
        assert placed.shape == (4, num_body, 1, 25, 3)
        assert placed.is_contiguous()
        for clip, body in np.ndindex(4, num_body):
            expected = clips[clip][body, 0] if body < BODIES[clip] else np.zeros((25, 3))
            np.testing.assert_array_equal(placed[clip, body, 0], expected)


@pytest.mark.parametrize(("what", "frames", "bodies"), [("frame", 0, 1), ("body", 5, 0)])
def test_a_clip_without_frames_or_bodies_is_refused(what, frames, bodies):
    with pytest.raises(ValueError, match=f"clip 1 of the batch has no {what}"):
        RaggedBatch(
            torch.zeros(4, 25, 3), torch.tensor([0, 4]), torch.tensor([4, frames]), torch.tensor([1, bodies])
        )


# -- the pipeline ------------------------------------------------------------------------------------------


def test_a_view_is_a_view_of_memory_that_is_channels_last():
    made = view()(to_batch(make_clips(LENGTHS, BODIES)), generator())
    assert made.shape == (4, 3, 20, 25, 2)
    assert made.permute(0, 4, 2, 3, 1).is_contiguous()
    assert view().num_frame == 20
    assert (
        view(sampling=[{"Resize": {"num_frame": 20}}, {"Crop": {"num_frame": 8}}, "Reverse"]).num_frame == 8
    )


def test_normal_view_of_aimclr_is_what_its_steps_do_to_each_clip():
    clips = make_clips([1, 84, 30, 90], [1, 2, 2, 1])
    sampling = [{"Resize": {"num_frame": 50}}, "TemporalCrop"]
    made = view(sampling=sampling, normalise="align_shoulders", augment=["Shear"])(
        to_batch(clips), generator(9)
    )
    draws = generator(9)
    starts = (torch.rand(4, dtype=torch.float64, generator=draws) * 17).long().tolist()
    shear = (torch.rand(4, 3, 3, generator=draws) - 0.5).double().numpy()
    for clip, start, matrix, found in zip(clips, starts, shear, made, strict=True):
        frames = slow_align_shoulders(clip, 50)
        frames = np.concatenate([frames[:, :8][:, ::-1], frames, frames[:, -8:][:, ::-1]], 1)[
            :, start : start + 50
        ]
        np.fill_diagonal(matrix, 1)
        expected = frames @ matrix.T
        np.testing.assert_allclose(found.permute(3, 1, 2, 0)[: len(clip)], expected, atol=3e-5)
        assert not found[..., len(clip) :].any()


EXTREME = {
    "sampling": [{"Resize": {"num_frame": 50}}, "TemporalCrop", "Reverse"],
    "normalise": "align_shoulders",
    "augment": ["Shear", "Flip", "RotateMainAxis", "GaussianNoise", "TemporalBlur", "AxisMask"],
}


def test_the_generator_alone_decides():
    batch = to_batch(make_clips(LENGTHS, BODIES))
    extreme = view(**EXTREME)
    made = extreme(batch, generator(1))
    assert torch.equal(made, extreme(batch, generator(1)))
    assert not torch.equal(made, extreme(batch, generator(2)))
    shared = generator(1)
    first, second = extreme(batch, shared), extreme(batch, shared)
    assert torch.equal(first, made)
    assert not torch.equal(first, second)


def test_rows_are_not_changed_and_where_they_lie_does_not_matter():
    clips = make_clips(LENGTHS, BODIES)
    batch = to_batch(clips)
    before = batch.rows.clone()
    made = view(**EXTREME)(batch, generator(1))
    assert torch.equal(batch.rows, before)
    assert torch.equal(made, view(**EXTREME)(to_batch(clips, gap=5), generator(1)))


@pytest.mark.parametrize("first", [name for name in SAMPLING if name not in ("TemporalCrop", "Reverse")])
def test_a_clip_of_one_frame_can_be_sampled_by_every_step(first):
    (clip,) = make_clips([1], [1])
    ratios = {"min_ratio": 0.5, "max_ratio": 1.0} if first == "RandomResizedCrop" else {}
    made = view(sampling=[{first: {"num_frame": 6, **ratios}}, "TemporalCrop", "Reverse"], num_body=1)
    found = made(to_batch([clip]), generator()).permute(0, 4, 2, 3, 1)
    np.testing.assert_array_equal(found[0, 0], np.repeat(clip[0], 6, 0))


@pytest.mark.parametrize("normalise", NORMALISE)
def test_poses_stay_on_their_device(normalise):
    """Poses without values stand for an accelerator: mixing devices, or looking at a pose, would raise."""
    batch = to_batch(make_clips(LENGTHS, BODIES))
    elsewhere = RaggedBatch(batch.rows.to("meta"), batch.start, batch.num_frame, batch.num_body)
    # A noise generator needs a real device.
    steps = [step for step in AUGMENT if step not in ("GaussianNoise", "Scale")]
    sampling = [{"Pad": {"num_frame": 40, "mode": "zero"}}, {"Resize": {"num_frame": 17}}]
    made = view(sampling=sampling, normalise=normalise, augment=steps, stream="bone_motion")
    cropped = view(sampling=[*sampling, "TemporalCrop"], normalise=normalise, augment=["AxisMask"])
    for found in (made.show(elsewhere, generator()), *make_views([made, cropped], elsewhere, generator())):
        assert found.x.device.type == found.present.device.type == "meta"
        assert found.x.shape == (4, 3, 17, 25, 2)
        assert found.present.shape == (4, 2, 17)


# -- several views of one batch ----------------------------------------------------------------------------

CROPPED = [*RESIZE, "TemporalCrop"]


def shared_and_alone(views, batch):
    """Views made together, and one after another by the same draws; both draw the same."""
    together, one_by_one = generator(3), generator(3)
    made = make_views(views, batch, together)
    expected = [each.show(batch, one_by_one) for each in views]
    assert torch.equal(together.get_state(), one_by_one.get_state())
    return zip(made, expected, strict=True)


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("num_body", [1, 2, 3])
@pytest.mark.parametrize("mode", ["repeat", "zero"])
def test_views_made_together_are_the_views_made_alone(normalise, num_body, mode):
    pad = {"Pad": {"num_frame": 18, "mode": mode}}
    part = {"RandomResizedCrop": {"num_frame": 20, "min_ratio": 0.5, "max_ratio": 1.0}}
    described = [
        {"sampling": CROPPED, "augment": ["Shear"]},
        {"sampling": [pad, "TemporalCrop"], "augment": ["AxisMask"], "stream": "bone"},
        {"sampling": [*CROPPED, "Reverse"], "augment": EXTREME["augment"], "stream": "motion"},
        {"sampling": [part, "TemporalCrop"], "augment": ["Flip"]},
        {"sampling": [{"Resize": {"num_frame": 21}}]},
        {"sampling": [*CROPPED, {"Resize": {"num_frame": 9}}], "stream": "bone_motion"},
        {"sampling": [pad, "Reverse"], "augment": ["UnitBox", "JointMask"]},
        {"sampling": [*RESIZE, {"Crop": {"num_frame": 5}}, {"Resize": {"num_frame": 9}}]},
        {"sampling": [*RESIZE, {"Crop": {"num_frame": 5}}, {"Resize": {"num_frame": 9}}, "Reverse"]},
        {"sampling": [*RESIZE, {"Crop": {"num_frame": 9, "where": "random"}}]},
        {"sampling": RESIZE, "augment": ["GaussianNoise"]},
        {"sampling": RESIZE},
        {"sampling": CROPPED, "normalise": "none"},
    ]
    views = [view(**{"normalise": normalise, "num_body": num_body, **each}) for each in described]
    for made, expected in shared_and_alone(views, to_batch(clips_with_gaps(), gap=3)):
        assert made.x.permute(0, 4, 2, 3, 1).is_contiguous()
        torch.testing.assert_close(made.x, expected.x, atol=5e-5, rtol=1e-5)
        assert torch.equal(made.present, expected.present)


@pytest.mark.parametrize("stream", STREAMS)
def test_views_that_share_change_nothing_of_each_other(stream):
    plain, changed = (view(stream=stream, augment=augment) for augment in ([], ["Shear", "GaussianNoise"]))
    batch = to_batch(make_clips(LENGTHS, BODIES))
    before = batch.rows.clone()
    for made, expected in shared_and_alone([plain, changed, plain, changed, plain], batch):
        torch.testing.assert_close(made.x, expected.x, atol=1e-5, rtol=1e-5)
    assert torch.equal(batch.rows, before)
    first, second = make_views([plain, plain], batch, generator())
    first.x.zero_()
    assert second.x.any()


def test_what_views_have_in_common_is_made_once(monkeypatch):
    made, make = [], Base.make
    monkeypatch.setattr(Base, "make", lambda base, batch: made.append(base) or make(base, batch))
    batch = to_batch(make_clips(LENGTHS, BODIES))

    def made_for(*described):
        made.clear()
        make_views([view(**each) for each in described], batch, generator())
        return len(made)

    normal, bone = {"sampling": CROPPED}, {"sampling": RESIZE, "stream": "bone", "augment": ["Flip"]}
    drawn = {"sampling": [{"UniformSample": {"num_frame": 20}}]}
    assert made_for(normal, normal, {**EXTREME, "sampling": CROPPED, "normalise": "none"}) == 1
    assert made_for(normal, bone, drawn, drawn) == 1
    other = [{"Resize": {"num_frame": 21}}, "Reverse"]
    assert made_for(normal, {"sampling": other}, bone, {"sampling": other}) == 2
    for alone in (
        [normal],
        [normal, {"sampling": other}],
        [normal, {**bone, "normalise": "align_torso"}],
        [normal, {**bone, "num_body": 1}],
        [drawn, drawn],
    ):
        assert made_for(*alone) == 0


def test_views_of_clips_of_another_layout_are_refused_together():
    with pytest.raises(ValueError, match="clips have 20 joints"):
        make_views([view(), view()], to_batch(make_clips([5], [1], num_joint=20)), generator())


FRAMES_DRAWN = [
    [{"Crop": {"num_frame": 6, "where": "random"}}],
    [{"RandomResizedCrop": {"num_frame": 9, "min_ratio": 0.2, "max_ratio": 0.9}}, "Reverse"],
    [*CROPPED, "Reverse"],
    [{"UniformSample": {"num_frame": 12}}],
]


@pytest.mark.parametrize("sampling", FRAMES_DRAWN, ids=str)
@pytest.mark.parametrize("others", [[], [{"normalise": "none"}], [{"normalise": "align_shoulders"}]], ids=str)
def test_a_view_of_the_same_frames_takes_those_of_the_first(sampling, others):
    """Whether the first, or the second, shares what it is made of with another view, or not."""
    batch = to_batch(make_clips(LENGTHS, BODIES), gap=2)
    first = view(sampling=sampling, augment=["Shear"], normalise="align_shoulders")
    plain, same = (view(sampling=sampling, same_frames=same) for same in (False, True))
    more = [view(sampling=CROPPED if sampling[:1] == RESIZE else sampling, **each) for each in others]
    # What a view of these draws takes alone.
    expected = plain(batch, generator(5))
    _, found, *_ = make_views([first, same, *more], batch, generator(5))
    torch.testing.assert_close(found.x, expected, atol=1e-5, rtol=1e-5)
    _, drawn, *_ = make_views([first, plain, *more], batch, generator(5))
    assert not torch.allclose(drawn.x, expected, atol=1e-3)


def test_a_view_of_the_same_frames_is_augmented_by_draws_of_its_own():
    batch = to_batch(make_clips(LENGTHS, BODIES))
    described = {"sampling": FRAMES_DRAWN[0], "augment": ["Shear"]}
    first, same = view(**described), view(**described, same_frames=True)
    made, again, third = (shown.x for shown in make_views([first, same, same], batch, generator(2)))
    torch.testing.assert_close(made, first(batch, generator(2)))
    assert not torch.allclose(made, again, atol=1e-3)
    assert not torch.allclose(again, third, atol=1e-3)
    # It draws no frames, and goes on where the first view stopped.
    draws = generator(2)
    first(batch, draws)
    shear = view(sampling=[{"Crop": {"num_frame": 6}}], augment=["Shear"])
    frames = generator(2)
    torch.testing.assert_close(again, same.show(batch, draws, frames=frames).x)
    state = draws.get_state()
    draws = generator(2)
    first(batch, draws)
    shear(batch, draws)
    assert torch.equal(draws.get_state(), state)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_view():
    clips = make_clips(LENGTHS, BODIES)
    batch = to_batch(clips)
    on_device = RaggedBatch(batch.rows.cuda(), batch.start, batch.num_frame, batch.num_body)
    for normalise in NORMALISE:
        steps = [step for step in EXTREME["augment"] if step != "GaussianNoise"]
        made = view(**{**EXTREME, "normalise": normalise, "augment": steps, "stream": "bone_motion"})
        expected, found = made(batch, generator(1)), made(on_device, generator(1))
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)
        for together, alone in shared_and_alone([made, made], on_device):
            torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    noisy = view(augment=[{"GaussianNoise": {"std": 0.1, "p": 1.0}}])
    change = noisy(on_device, generator()) - view()(on_device, generator())
    assert abs(change[1, ..., 0].std() - 0.1) < 0.01


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("normalise", NORMALISE)
def test_making_a_view_never_waits_for_cuda(normalise):
    batch = to_batch(make_clips(LENGTHS, BODIES))
    on_device = RaggedBatch(batch.rows.cuda(), batch.start, batch.num_frame, batch.num_body)
    made = view(**{**EXTREME, "normalise": normalise, "stream": "bone_motion"})
    plain = view(**{**EXTREME, "augment": ["AxisMask"], "normalise": normalise})
    make_views([made, made, plain], on_device, generator())  # constants are sent once
    torch.cuda.set_sync_debug_mode("error")
    try:
        made(on_device, generator(1))
        make_views([made, made, plain], on_device, generator(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# -- what a bad description is told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampling": ["Resise"]}, r"sampling\.0: 'Resise' is unknown; did you mean 'Resize'\?"),
        ({"sampling": []}, "sampling: begins with nothing.*Resize, Pad, Crop, RandomResizedCrop"),
        ({"sampling": ["TemporalCrop"]}, "begins with TemporalCrop"),
        ({"sampling": {"Resize": {"num_frame": 3}}}, "sampling: is .*; give a list"),
        ({"sampling": [{"Resize": {"num_frames": 3}}]}, r"sampling\.0\.Resize\.num_frames: .*'num_frame'"),
        ({"sampling": [{"Resize": {"num_frame": "3"}}]}, r"Resize\.num_frame: is '3' \(str\); expected int"),
        ({"sampling": ["Resize"]}, r"Resize\.num_frame: .*\.Resize needs"),
        ({"sampling": [{"Resize": {"num_frame": -3}}]}, r"sampling\.0\.Resize: num_frame is -3"),
        ({"sampling": [{"Resize": 50}]}, r"sampling\.0\.Resize: is 50; give"),
        ({"augment": [{"Shear": None, "Flip": None}]}, r"augment\.0: is .*; write Name or"),
        ({"augment": [5]}, r"augment\.0: is 5; write Name or"),
        ({"augment": ["Sheer"]}, "did you mean 'Shear'"),
        (
            {"normalise": "align_shoulder"},
            "normalise: 'align_shoulder' is unknown; did you mean 'align_shoulders'",
        ),
        ({"stream": "bones"}, "stream: 'bones' is unknown; did you mean 'bone'"),
        ({"num_body": 0}, "num_body: is 0"),
    ],
)
def test_a_bad_description_is_refused_with_the_nearest_name(changes, said):
    with pytest.raises(ValueError, match=said):
        view(**changes)


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError, match=r"Resize.*Sheer.*center_frist.*bones"):
        view(sampling=[{"Resize": {}}], augment=["Sheer"], normalise="center_frist_frame", stream="bones")


def test_frames_ahead_come_last():
    ahead = {"RandomResizedCrop": {"num_frame": 8, "min_ratio": 0.5, "max_ratio": 1.0, "num_ahead": 3}}
    described = view(sampling=[{"Pad": {"num_frame": 20}}, ahead])
    assert (described.num_frame, described.num_ahead) == (11, 3)
    assert view().num_ahead == 0
    with pytest.raises(ViewError, match=r"sampling.0.num_ahead: "):
        view(sampling=[ahead, {"Resize": {"num_frame": 8}}])


AHEAD = {"RandomResizedCrop": {"num_frame": 8, "min_ratio": 0.2, "max_ratio": 0.3, "num_ahead": 3}}


@pytest.mark.parametrize("stream", STREAMS)
def test_frames_that_are_seen_do_not_depend_on_those_ahead(stream):
    clips = make_clips([60, 60], [1, 2])
    described = view(sampling=[AHEAD], augment=["Rotate", {"UnitBox": {"num_seen": 8}}], stream=stream)
    # Where the crops end, which are drawn before everything else.
    last_seen = sample(described.sampling, torch.tensor([60, 60]), generator())[:, 7]
    later = [clip.copy() for clip in clips]
    for clip, last in zip(later, last_seen.tolist(), strict=True):
        clip[:, int(np.ceil(last)) + 1 :] += 5
    first, second = (described(to_batch(each), generator()) for each in (clips, later))
    assert torch.equal(first[:, :, :8], second[:, :, :8])
    assert not torch.equal(first[:, :, 8:], second[:, :, 8:])


def test_steps_that_look_at_the_frames_ahead_are_refused():
    steps = ["TemporalBlur", "UnitBox", {"UnitBox": {"num_seen": 9}}, {"UnitBox": {"num_seen": 8}}, "Shear"]
    with pytest.raises(ViewError) as refused:
        view(sampling=[AHEAD], augment=steps)
    problems = [str(problem) for problem in refused.value.problems]
    keys = ["augment.0.TemporalBlur", "augment.1.UnitBox", "augment.2.UnitBox"]
    assert [problem.partition(":")[0] for problem in problems] == keys
    assert all("the 8 that are seen" in problem for problem in problems)
    assert all("num_seen: 8" in problem for problem in problems[1:])
    view(augment=steps)  # with nothing ahead


def test_steps_without_arguments_may_be_written_as_yaml_does():
    described = view(augment=["Shear", {"Flip": None}, {"Rotate": {"max_angle": [0.1, 1, 0.1]}}])
    assert [type(step).__name__ for step in described.augment] == ["Shear", "Flip", "Rotate"]


def test_clips_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="clips have 20 joints, layout 'ntu-rgb\\+d' has 25"):
        view()(to_batch(make_clips([5], [1], num_joint=20)), generator())


# -- steps of a package ------------------------------------------------------------------------------------


class Last(SamplingStep):
    """The last frame, again and again."""

    def __init__(self, num_frame: int) -> None:
        self.num_frame = num_frame

    def __call__(self, length, generator):
        return (length.double() - 1)[:, None].expand(-1, self.num_frame)


class Taller(DirectStep):
    """One metre more of y."""

    draws = False

    def apply(self, poses, clip, num_clip, generator, channels):
        poses[..., 1] += 1
        return poses


HERE = __name__


def test_steps_of_a_package_are_named_by_their_paths():
    batch = to_batch(make_clips(LENGTHS, BODIES), gap=2)
    described = {"sampling": [{f"{HERE}.Last": {"num_frame": 4}}], "augment": [f"{HERE}.Taller"]}
    found = view(**described, packages=(HERE,))(batch, generator())
    table = torch.stack([torch.from_numpy(each[0, -1]) for each in make_clips(LENGTHS, BODIES)])
    expected = (table + torch.tensor([0.0, 1, 0])).permute(0, 2, 1)[:, :, None].expand(-1, -1, 4, -1)
    torch.testing.assert_close(found[..., 0], expected)
    for key, before in (("sampling", RESIZE), ("augment", [])):
        for step in (described[key][0], "net.st_gcn.Model"):  # not admitted, and no step
            with pytest.raises(ViewError) as refused:
                view(**{key: [*before, step]})
            assert [problem.key for problem in refused.value.problems] == [f"{key}.{len(before)}"]
