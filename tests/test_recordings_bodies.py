"""Choice of bodies: the published outputs on real files, slow references and hand-made cases on others."""

import math

import numpy as np
import pytest
from raw_skeleton import Frames, make_frames, textbook_read, to_text

from feeder.recordings.bodies import CHOICES, denoise, energy, first
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.recording import Recording, RecordingError

NTU = {"spine": 1, "torso": (0, 1), "shoulders": (8, 4)}


def record(frames: Frames) -> Recording:
    return parse_skeleton(to_text(frames, form="{:.9g}"))


def pad(tracks: np.ndarray, num_body: int = 2) -> np.ndarray:
    return np.concatenate([tracks, np.zeros((num_body - len(tracks), *tracks.shape[1:]), np.float32)])


def real_recordings(reference, shared_data) -> list[tuple[dict, str, Recording]]:
    arrays = reference("ntu_preprocess.npz")
    folder = shared_data("ntu_raw")
    return [
        (arrays, str(name), parse_skeleton((folder / f"{name}.skeleton").read_bytes()))
        for name in arrays["names"]
    ]


def test_first_is_st_gcns(reference, shared_data) -> None:
    for arrays, name, recording in real_recordings(reference, shared_data):
        expected = arrays[f"{name}/first_two_bodies"].transpose(3, 1, 2, 0)
        np.testing.assert_allclose(pad(first(recording)), expected, rtol=0, atol=1e-5, err_msg=name)


def test_denoise_is_ctr_gcns(reference, shared_data) -> None:
    for arrays, name, recording in real_recordings(reference, shared_data):
        expected = arrays[f"{name}/denoised"]
        expected = expected.reshape(len(expected), -1, 25, 3).swapaxes(0, 1)
        tracks = denoise(recording)
        assert tracks.shape == expected.shape, name
        np.testing.assert_allclose(tracks, expected, rtol=0, atol=1e-5, err_msg=name)


def turn(vector: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of the angle between two vectors about their cross product."""
    axis = np.cross(vector, towards)
    cosine = vector @ towards / np.linalg.norm(vector) / np.linalg.norm(towards)
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    x, y, z = axis / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * skew @ skew


def upright(tracks: np.ndarray) -> np.ndarray:
    """AS-GCN's normalisation of (2, T, 25, 3), no frame empty: spine at 0, torso to z, shoulders to x."""
    out = tracks.astype(np.float64)
    absent = (out == 0).all((2, 3))
    out -= out[0, :, NTU["spine"]][None, :, None]
    out[absent] = 0
    for (start, end), target in ((NTU["torso"], (0, 0, 1)), (NTU["shoulders"], (1, 0, 0))):
        low, high = out[0, 0, start], out[0, 0, end]
        line = high - low if target[2] else low - high
        out = out @ turn(line, np.array(target, float)).T
    return out


def test_energy_is_as_gcns(reference, shared_data) -> None:
    for arrays, name, recording in real_recordings(reference, shared_data):
        expected = arrays[f"{name}/energy_two_bodies_normalised"].transpose(3, 1, 2, 0)
        np.testing.assert_allclose(upright(pad(energy(recording))), expected, rtol=0, atol=1e-5, err_msg=name)


def slots_of(frames: Frames, num_slot: int) -> np.ndarray:
    out = np.zeros((num_slot, len(frames), 25, 3))
    for t, bodies in enumerate(frames):
        for slot, (_, joints) in enumerate(bodies[:num_slot]):
            out[slot, t] = joints
    return out


def slow_energy(frames: Frames) -> np.ndarray:
    """By slot, in float64, one slot and one axis after the other."""
    slots = slots_of(frames, 4)
    spread = []
    for slot in slots:
        there = [pose for pose in slot if pose.any()]
        spread.append(sum(np.std([pose[:, axis] for pose in there]) for axis in range(3)) if there else 0.0)
    best = sorted(range(4), key=lambda slot: (-spread[slot], -slot))[:2]
    return slots[best]


@pytest.mark.parametrize("seed", range(8))
def test_energy_on_made_up_bodies(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frames = make_frames(generator, [1, *generator.integers(0, 7, 11).tolist()])
    frames = [
        [
            (name, joints * generator.choice([0, 1], p=[0.3, 0.7]) * (1 + slot))
            for slot, (name, joints) in enumerate(f)
        ]
        for f in frames
    ]
    frames[0][0][1][:] = 1
    tracks = energy(record(frames))
    np.testing.assert_allclose(pad(tracks), slow_energy(frames), atol=1e-6)


def still(value: float, spread: float = 0.0) -> np.ndarray:
    """A body (25, 3) with y and z of one value; its spread is that of its x, about 0."""
    joints = np.full((25, 3), value, np.float32)
    joints[:, 0] = np.linspace(-spread, spread, 25, dtype=np.float32)
    return joints


def test_energy_takes_the_wide_slots_whatever_their_place() -> None:
    frame = [("1", still(1, 0.1)), ("2", still(2, 0.3)), ("3", still(3, 0.2)), ("4", still(4, 0.01))]
    tracks = energy(record([frame, frame]))
    assert tracks[:, :, 0, 1].tolist() == [[2, 2], [3, 3]]


def test_energy_of_equals_takes_the_last_and_leaves_out_the_fifth_slot() -> None:
    frame = [(str(slot), still(slot + 1, 0.25)) for slot in range(4)] + [("4", still(5, 1))]
    assert energy(record([frame]))[:, 0, 0, 1].tolist() == [4, 3]


def test_energy_does_not_count_frames_of_zeros() -> None:
    """Zeros would widen the second slot, which stands far from the origin."""
    frames = [[("1", still(1, 0.5)), ("2", still(9, 0.1) if t else still(0))] for t in range(4)]
    assert energy(record(frames))[0, 0, 0, 1] == 1


def test_energy_adds_deviations_not_variances() -> None:
    """Deviations 3 + 3 are more than 5, squares 9 + 9 less than 25."""
    sign = np.where(np.arange(25) % 2, 1, -1)[:, None].astype(np.float32)
    frame = [("1", sign * [5, 0, 0]), ("2", sign * [3, 3, 0]), ("3", sign * [0, 0, 1])]
    assert np.abs(energy(record([frame]))[:, 0, 0]).tolist() == [[3, 3, 0], [5, 0, 0]]


def test_first_takes_slots_not_ids() -> None:
    one, two, three = (still(value, 0.1) for value in (1, 2, 3))
    tracks = first(
        record([[("1", one), ("2", two)], [], [("2", two)], [("3", three), ("1", one), ("2", two)]])
    )
    assert tracks[:, :, 0, 1].tolist() == [[1, 0, 2, 3], [2, 0, 0, 1]]


@pytest.mark.parametrize("choice", CHOICES.values())
def test_one_body_is_one_track(choice) -> None:
    frames = make_frames(np.random.default_rng(0), [1, 1, 1])
    tracks = choice(record(frames))
    assert tracks.dtype == np.float32
    np.testing.assert_array_equal(tracks, [[joints for ((_, joints),) in frames]])


@pytest.mark.parametrize("choice", CHOICES.values())
def test_bodies_of_zeros_are_no_clip(choice) -> None:
    with pytest.raises(RecordingError, match="every joint of every body is at the origin"):
        choice(record([[("1", np.zeros((25, 3), np.float32))] * 2] * 12))


@pytest.mark.parametrize("choice", CHOICES.values())
def test_a_second_body_of_zeros_is_dropped(choice) -> None:
    assert len(choice(record([[("1", tall(1)), ("2", np.zeros((25, 3), np.float32))]] * 12))) == 1


def slow_denoise(frames: Frames) -> np.ndarray:
    """CTR-GCN's rules, one id, frame and rule after the other, on dictionaries."""
    poses: dict[str, list[np.ndarray]] = {}
    begin: dict[str, int] = {}
    seen = [bodies for bodies in frames if bodies]
    for t, bodies in enumerate(seen):
        for name, joints in bodies:
            begin.setdefault(name, t)
            poses.setdefault(name, []).append(joints)
    names = list(poses)
    if len(names) > 1:
        names = [name for name in names if len(poses[name]) > 11]
        motion = {name: np.var(np.concatenate(poses[name]), axis=0).sum() for name in names}
        for name in list(names):
            if len(names) == 1:
                break
            sound = []
            for joints in poses[name]:
                low, high = joints.min(0), joints.max(0)
                if float(high[0] - low[0]) <= 0.8 * float(high[1] - low[1]):
                    sound.append(joints)
            if 1 - len(sound) / len(poses[name]) >= 0.69754:
                names.remove(name)
            elif sound:
                motion[name] = min(motion[name], np.var(np.concatenate(sound), axis=0).sum())
        names.sort(key=lambda name: -motion[name])
    out = np.zeros((2, len(seen), 25, 3), np.float32)
    spans: list[list[int]] = []
    for name in names:
        start, last = begin[name], begin[name] + len(poses[name]) - 1
        if not spans:
            spans = [[start, last], [0, 0]]
            out[0, start : last + 1] = poses[name]
            continue
        for track in (0, 1):
            if min(spans[track][1], last) - max(spans[track][0], start) <= 0:
                out[track, start : last + 1] = poses[name]
                spans[track] = [min(spans[track][0], start), max(spans[track][1], last)]
                break
    return out


def wandering_frames(generator: np.random.Generator) -> Frames:
    """60 frames of people who come and go, some for a moment, some wide, one of them moving much."""
    frames: Frames = [[] for _ in range(60)]
    frames[0].append(("0", make_body(generator, 1.0)))
    for name in range(1, 6):
        start, length = int(generator.integers(0, 45)), int(generator.choice([3, 11, 12, 14, 25]))
        width, motion = generator.choice([0.3, 0.75, 0.85, 1.5]), generator.choice([0.1, 1.0])
        for t in range(start, min(60, start + length)):
            if generator.random() < 0.95:
                frames[t].append((str(name), make_body(generator, width) + np.float32(motion * t / 60)))
    for t in range(1, 60):
        if generator.random() < 0.5:
            frames[t].append(("0", make_body(generator, 0.5)))
    return [bodies[:6] for bodies in frames]


def make_body(generator: np.random.Generator, width: float) -> np.ndarray:
    scale = np.array([width * generator.choice([0.8, 1.0, 1.25]), 1.0, 0.3])
    return (generator.uniform(-0.5, 0.5, (25, 3)) * scale + [0, 0, 3]).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_denoise_on_made_up_bodies(seed: int) -> None:
    frames = wandering_frames(np.random.default_rng(seed))
    data = to_text(frames, form="{:.9g}")
    np.testing.assert_array_equal(pad(denoise(parse_skeleton(data))), slow_denoise(textbook_read(data)))


def tall(value: float) -> np.ndarray:
    """A body taller than wide."""
    return still(value) + np.linspace(0, 1, 25, dtype=np.float32)[:, None] * np.float32([0.2, 1, 0.2])


def test_denoise_length_counts_frames_not_span() -> None:
    """Seen in 12 frames stays, in 11 goes; the frames without anybody go."""
    frames = [
        [("1", tall(1))] + ([("2", tall(2))] if t < 12 else []) + ([("3", tall(3))] if t < 11 else [])
        for t in range(20)
    ]
    tracks = denoise(record([*frames, [], []]))
    assert tracks.shape == (2, 20, 25, 3)
    assert sorted(tracks[:, 0, 0, 1].tolist()) == [1, 2]


def test_denoise_keeps_all_ids_if_all_are_short() -> None:
    frames = [[("1", tall(1)), ("2", tall(2) * np.float32(1.5))]] * 5
    assert denoise(record(frames))[:, :, 0, 1].tolist() == [[3] * 5, [1] * 5]


def test_denoise_keeps_the_last_of_wide_ids() -> None:
    frames = [[("1", still(1, 2)), ("2", still(2, 2))]] * 12
    assert denoise(record(frames))[:, :, 0, 1].tolist() == [[2] * 12]


def test_denoise_motion_is_the_less_of_all_frames_and_those_not_wide() -> None:
    """Heights vary by about 25 in the frames not wide and by 8 in all, those of the second body by 15."""
    jumpy = [("1", still(5, 2) if t % 3 else tall(10 * (t % 2))) for t in range(12)]
    steady = [("2", tall(20 + 3.9 * (-1) ** t)) for t in range(12)]
    frames = [list(pair) for pair in zip(jumpy, steady, strict=True)]
    assert denoise(record(frames))[:, 1, 0, 1].tolist() == pytest.approx([16.1, 5])


def test_denoise_joins_an_actor_whose_id_changes() -> None:
    frames = [[("1" if t < 20 else "2", tall(1 + t))] for t in range(40)]
    assert denoise(record(frames))[:, :, 0, 1].tolist() == [list(range(1, 41))]


def test_denoise_with_an_id_twice_in_a_frame_stays_in_the_clip() -> None:
    frames = [[("1", tall(1)), ("1", tall(2)), ("2", tall(3))]] * 15
    assert denoise(record(frames)).shape[1] == 15
