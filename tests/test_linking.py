"""People without identity: crossing, gaps, order of detections; and gaps of joints against a slow reference."""

import itertools

import numpy as np
import pytest

from feeder.recordings.bodies import moving
from feeder.recordings.gaps import fill_gaps
from feeder.recordings.linking import Linker, LinkLimits, link
from feeder.recordings.recording import Recording, RecordingError

POSE = np.random.default_rng(0).uniform(-50, 50, (17, 2)).astype(np.float32)
POSE[:, 1] *= 2


def walker(begin: float, speed: float, num_frame: int = 40, seed: int = 1) -> np.ndarray:
    """(T, 17, 3): somebody who walks through the picture, with noise of 2 pixels and confidence 0.9."""
    x = begin + speed * np.arange(num_frame)[:, None]
    pose = np.stack([POSE[:, 0] + x, np.broadcast_to(POSE[:, 1] + 300, (num_frame, 17))], 2)
    pose += np.random.default_rng(seed).normal(0, 2, pose.shape)
    return np.concatenate((pose, np.full((num_frame, 17, 1), 0.9)), 2).astype(np.float32)


def in_any_order(*people: np.ndarray, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses, number of bodies of each frame, and who each is; people are away where their pose is zero."""
    rng = np.random.default_rng(seed)
    poses, counts, who = [], [], []
    for frame in range(len(people[0])):
        here = [k for k in rng.permutation(len(people)) if people[k][frame].any()]
        poses += [people[k][frame] for k in here]
        who += here
        counts.append(len(here))
    return np.stack(poses), np.array(counts), np.array(who)


def test_two_people_who_cross() -> None:
    joints, counts, who = in_any_order(walker(100, 8), walker(420, -8, seed=3))
    found = link(joints, counts, LinkLimits(), 2)
    assert found.max() == 1
    np.testing.assert_array_equal(found, np.where(who == who[0], 0, 1))


def test_one_hides_the_other_while_they_cross() -> None:
    first, second = walker(100, 8), walker(420, -8, seed=3)
    second[17:24] = 0
    joints, counts, who = in_any_order(first, second)
    np.testing.assert_array_equal(link(joints, counts, LinkLimits(), 2), np.where(who == who[0], 0, 1))
    # Without patience it is somebody new who comes out.
    assert link(joints, counts, LinkLimits(gap=3), 2).max() == 2


def test_forty_people_who_pass_by_each_other() -> None:
    """Each in a lane of their own, some near enough for their boxes to overlap."""
    lanes = np.random.default_rng(6).permutation(40) * np.float32(45)
    people = [walker(20 * k, (-1) ** k * 6, seed=k) for k in range(40)]
    for body, lane in zip(people, lanes, strict=True):
        body[..., 1] += lane
    joints, counts, who = in_any_order(*people)
    number = {person: k for k, person in enumerate(who[:40])}
    np.testing.assert_array_equal(link(joints, counts, LinkLimits(), 2), [number[each] for each in who])


def test_limits() -> None:
    one = walker(100, 2)
    one[20:] += (300, 0, 0)
    assert link(one, np.ones(40, int), LinkLimits(), 2).max() == 1
    assert link(one, np.ones(40, int), LinkLimits(distance=3.0), 2).max() == 0
    # Seen joints that share nothing: nobody can say.
    one = walker(100, 0, 2)
    one[0, :8] = 0
    one[1, 8:] = 0
    assert link(one, np.ones(2, int), LinkLimits(), 2).tolist() == [0, 1]


def test_a_linker_goes_frame_by_frame() -> None:
    joints, counts, _ = in_any_order(walker(100, 8), walker(420, -8, seed=3), walker(800, 0, seed=4))
    linker = Linker(LinkLimits(), 2)
    parts = np.split(joints, np.cumsum(counts)[:-1])
    found = [linker.link(part) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), link(joints, counts, LinkLimits(), 2))
    assert linker.link(joints[:0]).tolist() == []


def test_the_bodies_that_move_most_are_kept() -> None:
    still, slow, fast = walker(800, 0, seed=4), walker(420, -3, seed=3), walker(100, 8)
    fast[10:14] = 0
    tracks = moving(Recording.of_tracks(np.stack([still, slow, fast]), "xyc"))
    np.testing.assert_array_equal(tracks, [fast, slow])
    # Lost and found again under another number: one track.
    parts = np.stack([fast, still, fast])
    parts[0, 20:] = 0
    parts[2, :20] = 0
    recording = Recording.of_tracks(parts, "xyc")
    kept = recording.joints.any((1, 2))
    recording = Recording(
        np.bincount(recording.frame[kept], minlength=40), recording.body[kept], recording.joints[kept], "xyc"
    )
    np.testing.assert_array_equal(moving(recording), [fast, still])
    with pytest.raises(RecordingError):
        moving(Recording.of_tracks(0 * parts, "xyc"))


def slow_fill(track: np.ndarray, seen: np.ndarray, max_gap: int) -> tuple[np.ndarray, int]:
    """Joint by joint, channel by channel, with np.interp."""
    filled, count = np.where(seen[..., None], track, 0), 0
    frames = np.arange(len(track))
    for joint in range(track.shape[1]):
        known = np.flatnonzero(seen[:, joint])
        for before, after in itertools.pairwise(known):
            if 1 < after - before <= max_gap + 1:
                inside = frames[before + 1 : after]
                count += len(inside)
                for channel in (0, 1):
                    filled[inside, joint, channel] = np.interp(inside, known, track[known, joint, channel])
                filled[inside, joint, 2] = 0
    return filled, count


@pytest.mark.parametrize("max_gap", [0, 2, 10])
def test_gaps_of_joints_and_of_frames(max_gap: int) -> None:
    rng = np.random.default_rng(5)
    people = [walker(100, 8), walker(420, -8, seed=3)]
    seen = rng.random((2, 40, 17)) < 0.7
    seen[0, 5 : 5 + min(max_gap, 3)] = seen[0, 20:33] = seen[1, :4] = seen[1, 35:] = False
    expected = [slow_fill(*each, max_gap) for each in zip(people, seen, strict=True)]
    # A frame without a detection has no pose at all.
    here = seen.any(2).T.ravel()
    whole = Recording.of_tracks(np.stack(people), "xyc")
    recording = Recording(
        np.bincount(whole.frame[here], minlength=40), whole.body[here], whole.joints[here], "xyc"
    )
    found, gaps = fill_gaps(recording, seen.swapaxes(0, 1).reshape(-1, 17)[here], max_gap)
    # Nothing stands for a body in a longer gap.
    assert len(found.joints) == here.sum() + min(max_gap, 3)
    tracks = np.zeros((2, 40, 17, 3), np.float32)
    tracks[found.body, found.frame] = found.joints
    np.testing.assert_allclose(tracks, [track for track, _ in expected], atol=1e-3)
    there = tracks.any(3)
    assert gaps == (sum(count for _, count in expected), (~there[there.any(2)]).sum())


def test_nothing_to_fill() -> None:
    track = walker(100, 8)[None]
    found, gaps = fill_gaps(Recording.of_tracks(track, "xyc"), np.ones((40, 17), bool), 10)
    assert gaps == (0, 0)
    np.testing.assert_array_equal(found.joints, track[0])
