"""Every step in time against what it does to one clip, frame by frame."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ragged_clips import at, generator, make_clips, resized, to_batch

from feeder.sampling import (
    SAMPLING,
    Crop,
    Pad,
    RandomResizedCrop,
    Resize,
    Reverse,
    TemporalCrop,
    UniformSample,
    fixed_part,
    sample,
)
from feeder.views import View
from net.utils.layouts import get_skeleton

LENGTHS = [1, 2, 7, 50, 84, 300]
NUM_FRAME = torch.tensor(LENGTHS)


def rows(steps, lengths=LENGTHS, seed=0):
    return sample(steps, torch.tensor(lengths), generator(seed)).numpy()


@pytest.mark.parametrize("size", [1, 16, 50, 301])
def test_resize_is_what_torch_does_to_the_clip(size):
    for length, found in zip(LENGTHS, rows([Resize(size)]), strict=True):
        (clip,) = make_clips([length], [1])
        expected = F.interpolate(
            torch.from_numpy(clip[0].reshape(length, -1).T.astype(float))[None],
            size=size,
            mode="linear",
            align_corners=False,
        )[0].T.reshape(size, *clip.shape[2:])
        np.testing.assert_allclose([at(clip[0], p) for p in found], expected, atol=1e-5)
        np.testing.assert_allclose(resized(clip[0], size), expected, atol=1e-5)


def test_resize_to_its_own_length_takes_the_frames_as_they_are():
    for length in (1, 3, 50, 97, 1000):
        np.testing.assert_array_equal(rows([Resize(length)], [length])[0], np.arange(length))


@pytest.mark.parametrize("size", [1, 30, 300])
def test_pad_repeats_or_leaves_empty_and_cuts(size):
    for length, repeated, empty in zip(LENGTHS, rows([Pad(size)]), rows([Pad(size, "zero")]), strict=True):
        for frame in range(size):
            assert repeated[frame] == frame % length
            assert empty[frame] == frame if frame < length else np.isnan(empty[frame])


def test_crop_takes_frames_in_a_row_and_repeats_short_clips():
    size = 20
    for where in ("center", "random", "start"):
        seen = {tuple(row) for seed in range(80) for row in rows([Crop(size, where)], [30], seed)}
        starts = sorted(int(row[0]) for row in seen)
        assert starts == {"center": [5], "random": list(range(11)), "start": [0]}[where]
        assert all(row == tuple(range(int(row[0]), int(row[0]) + size)) for row in seen)
        for length in (1, 7, 20):
            expected = [frame % length for frame in range(size)]
            assert rows([Crop(size, where)], [length])[0].tolist() == expected


def test_centred_crop_resizes_what_is_left_after_cutting_both_ends_alike():
    step = RandomResizedCrop(64, 0.95, 0.95, center=True)
    for length, found in zip([*LENGTHS, 40, 41], rows([step], [*LENGTHS, 40, 41]), strict=True):
        cut = int((1 - 0.95) * length / 2)
        (clip,) = make_clips([length], [1])
        expected = resized(clip[0, cut : length - cut], 64)
        np.testing.assert_allclose([at(clip[0], p) for p in found], expected, atol=1e-5)


def test_random_crop_lies_inside_and_has_lengths_and_places_of_the_whole_range():
    # Resized to 2 frames, a part of n frames from s shows itself: half-pixel centres n/4 and 3n/4.
    first, last = rows([RandomResizedCrop(2, 0.5, 1.0)], [100] * 4000).T
    part = (last - first) * 2
    start = first + 0.5 - part / 4
    np.testing.assert_allclose(part, part.round(), atol=1e-9)
    np.testing.assert_allclose(start, start.round(), atol=1e-9)
    assert set(part.round()) == set(range(50, 100))
    assert (start.round() >= 0).all()
    assert (start + part).max() == pytest.approx(100)
    short = part.round() == 50
    assert start[short].max() > 40 > 10 > start[short].min()


def test_random_crop_keeps_min_frame_where_the_clip_has_them():
    first, last = rows([RandomResizedCrop(2, 0.5, 0.5, min_frame=64)], [100, 300, 40]).T
    np.testing.assert_allclose((last - first) * 2, [64, 150, 40])
    first, last = rows([RandomResizedCrop(2, 0.01, 0.01)], [150]).T
    assert first == last  # a single frame
    first, last = rows([RandomResizedCrop(2, 0.5, 0.5, min_frame=64, center=True)], [100, 300, 40]).T
    np.testing.assert_allclose((last - first) * 2, [64, 150, 40])
    np.testing.assert_allclose(first + last, [99, 299, 39])  # about the middle


def test_min_frame_leaves_a_short_clip_room_for_the_frames_ahead():
    # 12 of 16 frames are shown: where a clip has no 64 and as many again ahead, three quarters of it are enough.
    step = RandomResizedCrop(12, 0.5, 0.5, min_frame=64, num_ahead=4)
    for length, part in ((40, 30), (80, 60), (100, 64), (300, 150), (1, 1)):
        positions = rows([step], [length] * 60)
        pace = (positions[:, 1] - positions[:, 0])[0]
        assert pace * 12 == pytest.approx(part if part > 1 else 0)
        present = set((~np.isnan(positions[:, 12:])).sum(1))
        assert present == ({0} if length == 1 else {0, 1, 2, 3, 4})


def test_random_crop_with_a_fixed_ratio_of_one_is_resize():
    np.testing.assert_array_equal(rows([RandomResizedCrop(20, 1.0, 1.0)]), rows([Resize(20)]))


def test_frames_ahead_follow_a_crop_at_its_pace_until_the_clip_ends():
    lengths = [100] * 200 + [7, 1]
    plain = rows([RandomResizedCrop(8, 0.3, 1.0)], lengths)
    longer = rows([RandomResizedCrop(8, 0.3, 1.0, num_ahead=5)], lengths)
    assert longer.shape[1] == 13
    np.testing.assert_array_equal(longer[:, :8], plain)  # what is seen is what it was
    whole = plain[:200]
    pace = (whole[:, 7] - whole[:, 3]) / 4
    expected = whole[:, 7:] + np.arange(1, 6) * pace[:, None]
    ends = expected > 99
    assert 0 < ends.mean() < 1
    np.testing.assert_array_equal(np.isnan(longer[:200, 8:]), ends)
    np.testing.assert_allclose(longer[:200, 8:][~ends], expected[~ends])
    assert np.isnan(longer[-1, 8:]).all()
    with pytest.raises(ValueError, match="num_ahead is -1"):
        RandomResizedCrop(8, 0.3, 1.0, num_ahead=-1)


def test_uniform_sample_takes_one_frame_of_each_part():
    size = 8
    for length, middle in zip(LENGTHS, rows([UniformSample(size, random=False)]), strict=True):
        assert middle.tolist() == [int((part + 0.5) * length / size) for part in range(size)]
    drawn = rows([UniformSample(size)], [80] * 300)
    assert (drawn == drawn.round()).all()
    for part in range(size):
        assert set(drawn[:, part]) == set(range(part * 10, part * 10 + 10))
    short = rows([UniformSample(size)], [3] * 50)
    assert (np.diff(short) >= 0).all()
    assert set(short.ravel()) == {0, 1, 2}


@pytest.mark.parametrize(("length", "ratio"), [(50, 6), (5, 6), (1, 6), (12, 1)])
def test_temporal_crop_is_a_window_of_the_reflected_clip(length, ratio):
    padding = length // ratio
    frames = list(range(length))
    mirrored = [*frames[:padding][::-1], *frames, *(frames[-padding:][::-1] if padding else [])]
    windows = {tuple(mirrored[shift : shift + length]) for shift in range(2 * padding + 1)}
    seen = {tuple(row) for row in rows([Resize(length), TemporalCrop(ratio)], [length] * 600)}
    assert seen == windows


def test_reverse_turns_some_clips_round():
    forward = list(range(9))
    seen = rows([Resize(9), Reverse(0.5)], [9] * 200).tolist()
    assert all(row in (forward, forward[::-1]) for row in seen)
    assert 60 < seen.count(forward) < 140
    assert rows([Resize(9), Reverse(0.0)], [9] * 50).tolist() == [forward] * 50
    assert rows([Resize(9), Reverse(1.0)], [9] * 50).tolist() == [forward[::-1]] * 50


def test_steps_compose_as_if_each_acted_on_the_frames_of_the_one_before():
    for length in LENGTHS:
        found = rows([Resize(40), Crop(30), Resize(21), Reverse(1.0)], [length])[0]
        # Of a clip whose frame t shows t + 1: making frames twice and indexing once agree on what is straight.
        straight = 1 + np.arange(length, dtype=float)[:, None, None]
        expected = resized(resized(straight, 40)[5:35], 21)[::-1, 0, 0] - 1
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_empty_frames_stay_empty_and_whole_neighbours_stay_whole():
    found = rows([Pad(6, "zero"), Crop(4)], [3, 9])
    np.testing.assert_array_equal(found, [[1, 2, np.nan, np.nan], [1, 2, 3, 4]])
    between = rows([Pad(4, "zero"), Resize(8)], [2])[0]
    assert np.isnan(between[4:]).all()
    assert not np.isnan(between[:3]).any()


@pytest.mark.parametrize(
    "steps",
    [
        [Resize(50), TemporalCrop(), Reverse()],
        [Pad(300), Crop(100, "random")],
        [RandomResizedCrop(64, 0.01, 1.0)],
        [RandomResizedCrop(64, 0.01, 1.0, center=True)],
        [UniformSample(48)],
        [Crop(16, "random")],
    ],
)
def test_positions_lie_inside_every_clip_and_repeat_with_the_seed(steps):
    lengths = LENGTHS * 50
    found = rows(steps, lengths)
    assert (found >= 0).all()
    assert (found <= np.array(lengths)[:, None] - 1).all()
    np.testing.assert_array_equal(found, rows(steps, lengths))


STEPS = [
    Resize(20),
    Pad(20),
    Pad(20, "zero"),
    *(Crop(20, where) for where in ("center", "random", "start")),
    RandomResizedCrop(20, 0.5, 1.0),
    RandomResizedCrop(20, 0.5, 1.0, center=True),
    UniformSample(20),
    UniformSample(20, random=False),
    TemporalCrop(),
    Reverse(),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_says_whether_it_draws_and_whether_it_takes_whole_frames(step):
    draws = generator()
    positions = step(torch.full((400,), 30), draws)
    assert step.draws != torch.equal(draws.get_state(), generator().get_state())
    if step.takes_whole_frames:
        assert step.num_frame is None
        assert positions.shape == (400, 30)
        assert torch.equal(positions, positions.floor())
    assert step.takes_whole_frames == (type(step) in (TemporalCrop, Reverse))


def test_steps_of_one_class_and_the_same_arguments_are_equal():
    assert Resize(20) == Resize(20)
    assert {Crop(4), Crop(4, "center"), Crop(4, "start")} == {Crop(4), Crop(4, "start")}
    assert len(set(STEPS)) == len(STEPS)
    assert Resize(20) != Resize(21)
    assert Resize(20) != type("Other", (Resize,), {})(20)


def test_the_fixed_part_ends_where_a_step_draws_and_is_none_if_not_all_others_take_whole_frames():
    middle = [Resize(50), Crop(20)]
    assert fixed_part(middle) == tuple(middle)
    assert fixed_part([*middle, TemporalCrop(), Reverse()]) == tuple(middle)
    assert fixed_part([Resize(50), TemporalCrop(), Resize(20)]) == ()
    assert fixed_part([Resize(50), Crop(20, "random")]) == ()
    assert fixed_part([UniformSample(20), Reverse()]) == ()


@pytest.mark.parametrize(
    ("step", "args", "said"),
    [
        ("Resize", {"num_frame": 0}, "num_frame is 0"),
        ("Pad", {"num_frame": 4, "mode": "mirror"}, "'repeat' or 'zero'"),
        ("Crop", {"num_frame": 4, "where": "end"}, "'center', 'random' or 'start'"),
        ("RandomResizedCrop", {"num_frame": 4, "min_ratio": 0.0, "max_ratio": 1.0}, "0 < min_ratio"),
        ("RandomResizedCrop", {"num_frame": 4, "min_ratio": 0.9, "max_ratio": 0.5}, "0.9 to 0.5"),
        (
            "RandomResizedCrop",
            {"num_frame": 4, "min_ratio": 0.5, "max_ratio": 1.0, "min_frame": 0},
            "min_frame",
        ),
        ("TemporalCrop", {"padding_ratio": 0}, "padding_ratio is 0"),
        ("Reverse", {"p": 1.5}, "p is 1.5"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(step, args, said):
    with pytest.raises(ValueError, match=said):
        SAMPLING[step](**args)


def test_a_body_that_comes_or_leaves_is_whole_or_not_there():
    still = np.ones((2, 40, 25, 3), np.float32)
    still[0, :7] = still[1, 30:] = 0
    steps = [{"RandomResizedCrop": {"num_frame": 16, "min_ratio": 0.5, "max_ratio": 1.0}}]
    view = View(get_skeleton("ntu-rgb+d"), num_body=2, sampling=steps)
    seen = view(to_batch([still] * 50), generator(0))
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert all(0 < float(seen[..., body].mean()) < 1 for body in (0, 1))
