import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_gen import performance
from data_gen.actions import ACTIONS
from data_gen.kinematics import BONE_GROUPS, CHAIN, CHANNELS, NODE, SHIFTS, SKELETON, Body, forward_kinematics
from data_gen.ntu_labels import DATA_SETS, parse_name
from data_gen.performance import draw_subject, perform, sided
from data_gen.synthetic import MARK, NUM_PERFORMER, NUM_SETUP, Take, film, main, make, takes
from feeder.recordings.bodies import first
from feeder.recordings.ntu import parse_skeleton

ROOT = Path(__file__).resolve().parents[1]
AVERAGE = dict.fromkeys(BONE_GROUPS, 1.0)


def pose(**degrees: float) -> dict[str, np.ndarray]:
    """Joints of an average body by name, at some angles (metres for shifts)."""
    angle = {channel: np.zeros(1) for channel in CHANNELS}
    angle |= {name: np.array([v if name in SHIFTS else np.deg2rad(v)]) for name, v in degrees.items()}
    position = forward_kinematics(angle, AVERAGE).position[0]
    return {joint: position[NODE[joint]] for joint in SKELETON.joints}


def lengths(position: np.ndarray) -> np.ndarray:
    """(..., 24) of every link of the chain that is a bone."""
    return np.stack(
        [
            np.linalg.norm(position[..., NODE[link.node], :] - position[..., NODE[link.parent], :], axis=-1)
            for link in CHAIN
            if "waist" not in (link.node, link.parent)
        ],
        axis=-1,
    )


def test_the_chain_has_the_bones_of_the_layout() -> None:
    chain = {frozenset((link.node, link.parent)) for link in CHAIN}
    layout = {frozenset((SKELETON.joints[a], SKELETON.joints[b])) for a, b in SKELETON.bones}
    tips = {frozenset((f"{side} hand tip", f"{side} thumb")) for side in ("left", "right")}
    spine = frozenset(("spine", "hip centre"))
    assert layout - tips - {spine} <= chain
    assert {link.node for link in CHAIN} == {*SKELETON.joints, "waist"} - {"hip centre"}


def test_a_body_stands_on_the_floor_and_looks_at_the_camera() -> None:
    joint = pose()
    assert joint["left foot"][1] == joint["right foot"][1] == 0
    assert joint["right shoulder"][0] == -joint["left shoulder"][0] > 0.1
    assert joint["right foot"][2] < joint["right ankle"][2]
    assert 1.4 < joint["head"][1] < 1.7


@pytest.mark.parametrize(
    ("angles", "joint", "direction"),
    [
        ({"right_raise": 90}, "right elbow", (0, 0, -1)),
        ({"right_raise": 90, "right_open": 90}, "right elbow", (1, 0, 0)),
        ({"left_raise": 90, "left_open": 90}, "left elbow", (-1, 0, 0)),
        ({"right_elbow": 90}, "right wrist", (0, 0, -1)),
        ({"right_elbow": 90, "right_twist": 90}, "right wrist", (-1, 0, 0)),
        ({"left_elbow": 90, "left_twist": 90}, "left wrist", (1, 0, 0)),
        ({"right_wrist": 90}, "right hand", (0, 0, -1)),
        ({"left_hip": 90}, "left knee", (0, 0, -1)),
        ({"left_hip_open": 90}, "left knee", (-1, 0, 0)),
        ({"left_hip": 90, "left_knee": 90}, "left ankle", (0, -1, 0)),
        ({"lean": 90}, "shoulder centre", (0, 0, -1)),
        ({"tilt": 90}, "shoulder centre", (1, 0, 0)),
        ({"bend": 90}, "shoulder centre", (0, 0, -1)),
        ({"yaw": 90, "right_raise": 90}, "right elbow", (-1, 0, 0)),
    ],
)
def test_angles_turn_as_they_are_named(angles: dict, joint: str, direction: tuple) -> None:
    after = pose(**angles)
    parent = next(link.parent for link in CHAIN if link.node == joint)
    bone = after[joint] - after[parent]
    np.testing.assert_allclose(bone / np.linalg.norm(bone), direction, atol=1e-9)


def test_head_turns_and_nods() -> None:
    assert pose(nod=60)["head"][2] < pose()["head"][2] - 0.05
    assert pose(turn=90)["right shoulder"][2] < -0.1 and pose(look=90)["head"][0] < -0.01


def test_a_foot_stays_level() -> None:
    def foot(**degrees: float) -> np.ndarray:
        joint = pose(**degrees)
        return joint["right foot"] - joint["right ankle"]

    np.testing.assert_allclose(foot(right_hip=50, right_knee=80), foot(), atol=1e-9)
    assert foot(right_ankle=30)[1] > foot()[1]


def test_a_left_hand_acts_in_mirror_image() -> None:
    gesture = {"main_raise": 1, "off_knee": 2, "both_elbow": 3, "lean": 4, "turn": 5, "sideways": 6}
    right = {
        "right_raise": 1,
        "left_knee": 2,
        "left_elbow": 3,
        "right_elbow": 3,
        "lean": 4,
        "turn": 5,
        "sideways": 6,
    }
    left = {
        "left_raise": 1,
        "right_knee": 2,
        "left_elbow": 3,
        "right_elbow": 3,
        "lean": 4,
        "turn": -5,
        "sideways": -6,
    }
    assert sided(gesture, "right") == right and sided(gesture, "left") == left


def test_shifts_are_along_the_body_and_up() -> None:
    moved = pose(yaw=90, forward=0.5, sideways=0.25, hop=0.1)["hip centre"] - pose(yaw=90)["hip centre"]
    np.testing.assert_allclose(moved, [-0.5, 0.1, -0.25], atol=1e-9)


def test_the_supporting_foot_stays_in_place() -> None:
    kick = pose(right_hip=60)
    assert kick["right foot"][1] > 0.2 and min(kick["left foot"][1], kick["left ankle"][1]) == 0
    np.testing.assert_allclose(kick["left ankle"], pose()["left ankle"], atol=1e-3)


def one_take(action: int, number: int = 1) -> list[np.ndarray]:
    actors = draw_subject(number, 0), draw_subject(number + 1, 0)
    return [body.position for body in perform(action, actors, np.random.default_rng([number, action]))]


@pytest.mark.parametrize("action", ACTIONS)
def test_bodies_keep_their_bones_and_their_feet_on_the_floor(action: int) -> None:
    for position in one_take(action):
        np.testing.assert_allclose(
            lengths(position), lengths(position[:1]).repeat(len(position), 0), atol=1e-9
        )
        assert position[..., 1].min() > -1e-9
        # At 30 frames a second no joint is faster than 15 m/s along an axis.
        assert np.abs(np.diff(position, axis=0)).max() < 0.5
    assert len(one_take(action)) == (1 if ACTIONS[action].partner is None else 2)


def test_elbows_and_knees_bend_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = []

    def record(angle: dict[str, np.ndarray], lengths: dict[str, float]) -> Body:
        angles.append(angle)
        return forward_kinematics(angle, lengths)

    monkeypatch.setattr(performance, "forward_kinematics", record)
    for action in ACTIONS:
        one_take(action, 7)
    for joint in ("right_elbow", "left_elbow", "right_knee", "left_knee"):
        every = np.concatenate([angle[joint] for angle in angles])
        assert every.min() >= 0 and every.max() < 2.7


def of(position: np.ndarray, joint: str) -> np.ndarray:
    return position[:, NODE[joint]]


def test_actions_do_what_their_names_say() -> None:
    def hands(position: np.ndarray, target: np.ndarray) -> float:
        distance = [
            np.linalg.norm(of(position, f"{side} hand") - target, axis=-1) for side in ("left", "right")
        ]
        return float(np.min(distance))

    for number in (1, 2, 3):
        drink, salute = one_take(1, number)[0], one_take(38, number)[0]
        assert hands(drink, of(drink, "head")) < 0.25
        assert hands(salute, of(salute, "head")) < 0.35
        (pick,) = one_take(6, number)
        assert hands(pick, pick[:, NODE["left foot"]]) < 0.6
        sit, stand = one_take(8, number)[0], one_take(9, number)[0]
        hip = [of(position, "hip centre")[:, 1] for position in (sit, stand)]
        assert hip[0][-1] < 0.75 * hip[0][0] and hip[1][0] < 0.75 * hip[1][-1]
        (jump,) = one_take(27, number)
        assert jump[..., 1].min(axis=1).max() > 0.15
        (kick,) = one_take(24, number)
        assert np.max([of(kick, f"{side} ankle")[:, 1] for side in ("left", "right")]) > 0.3
        (bow,) = one_take(35, number)
        assert of(bow, "head")[:, 1].min() < 0.8 * of(bow, "head")[:, 1].max()
        (clap,) = one_take(10, number)
        assert np.linalg.norm(of(clap, "left hand") - of(clap, "right hand"), axis=-1).min() < 0.2
        for action, near in ((55, 0.7), (58, 1.1), (52, 1.0)):
            a, b = one_take(action, number)
            gap = np.linalg.norm((of(a, "spine") - of(b, "spine"))[:, [0, 2]], axis=-1)
            assert gap.min() < near and gap.max() < 1.6


def test_subjects_differ_and_stay_the_same() -> None:
    people = [draw_subject(number, 0) for number in range(1, 41)]
    assert draw_subject(3, 0) == people[2] != draw_subject(3, 1)
    heights = np.array([person.lengths["legs"] for person in people])
    assert 0.03 < heights.std() < 0.12
    assert 3 <= sum(person.left_handed for person in people) <= 20
    assert len({person.tempo for person in people}) == 40


def test_files_have_the_layout_of_real_ones(shared_data: pytest.FixtureRequest) -> None:
    def shape(text: str) -> list[str]:
        """Kinds of the values of the first 29 lines."""
        lines = text.replace("\r", "").split("\n")[:29]
        return [" ".join("i" if re.fullmatch(r"-?\d+", w) else "f" for w in line.split()) for line in lines]

    real = (shared_data("ntu_raw") / "S001C001P001R001A001.skeleton").read_text()
    made = film(Take(1, 2, 1, 1), 0)["S001C001P001R001A001.skeleton"]
    assert [len(line) for line in shape(made)] == [len(line) for line in shape(real)]
    assert shape(made)[:2] == shape(real)[:2] and shape(made)[3] == shape(real)[3] == "i"


def test_files_read_back_as_what_was_performed() -> None:
    """Against forward kinematics seen from the camera: noise aside, the same body."""
    files = film(Take(5, 6, 2, 23), 7)
    assert list(files) == [f"S005C00{camera}P005R002A023.skeleton" for camera in (1, 2, 3)]
    for text in files.values():
        assert parse_name("S005C001P005R002A023")["subject"] == 5
        position = first(parse_skeleton(text.encode()))[0]
        seen = position.any((1, 2))
        expected = lengths(perform_positions(Take(5, 6, 2, 23), 7)[0])
        error = np.abs(np.median(lengths(position[seen]), axis=0) - expected)
        assert np.median(error) < 0.02 and error.max() < 0.1
        assert (position[seen][..., 2] > 1.5).all() and (position[seen][..., 2] < 5).all()


def perform_positions(take: Take, seed: int) -> list[np.ndarray]:
    actors = draw_subject(take.performer, seed), draw_subject(take.partner, seed)
    generator = np.random.default_rng([seed, 2, take.performer, take.replication, take.action])
    return [body.position[0] for body in perform(take.action, actors, generator)]


def test_pictures_and_orientations_agree_with_the_positions() -> None:
    lines = film(Take(1, 2, 1, 8), 0)["S001C001P001R001A008.skeleton"].split("\n")
    body = np.array([line.split() for line in lines[4:29]], float)
    x, y, z = body[:, :3].T
    np.testing.assert_allclose(body[:, 3], 256 + 366.5 * x / z, rtol=1e-5)
    np.testing.assert_allclose(body[:, 6], 567 - 1057 * y / z, rtol=1e-5)
    w, qx, qy, qz = body[:, 7:11].T
    np.testing.assert_allclose(w**2 + qx**2 + qy**2 + qz**2, 1, atol=1e-5)
    # A bone of the arm lies along -y of the joint it hangs from.
    elbow, wrist = NODE["right elbow"], NODE["right wrist"]
    axis = -np.stack([2 * (qx * qy - w * qz), 1 - 2 * (qx**2 + qz**2), 2 * (qy * qz + w * qx)], axis=-1)[
        elbow
    ]
    bone = body[wrist, :3] - body[elbow, :3]
    assert axis @ bone / np.linalg.norm(bone) > 0.95


@pytest.fixture(scope="module")
def clips() -> dict[str, np.ndarray]:
    """Name -> tracks (M, T, 25, 3) of half the performers of the demo's data set."""
    files: dict[str, str] = {}
    for take in takes(10, 1):
        files |= film(take, 0)
    return {name.split(".")[0]: first(parse_skeleton(text.encode())) for name, text in files.items()}


def test_the_sensor_is_as_bad_as_a_real_one(clips: dict[str, np.ndarray]) -> None:
    length = [tracks.shape[1] for tracks in clips.values()]
    assert 79 <= np.mean(length) <= 89 and np.std(length) > 15
    absent = [not tracks.any((0, 2, 3)).all() for tracks in clips.values()]
    assert 0.05 < np.mean(absent) < 0.3
    alone = [name for name in clips if ACTIONS[parse_name(name)["action"]].partner is None]
    assert 0.03 < np.mean([len(clips[name]) > 1 for name in alone]) < 0.15
    assert min(len(clips[name]) for name in set(clips) - set(alone)) == 2
    # Second differences over time, as of real files: millimetres on the trunk, more on the hands.
    jerk = {
        joint: np.median([np.abs(np.diff(of(t[0], joint), 2, axis=0)).mean() for t in clips.values()])
        for joint in ("spine", "right hand tip")
    }
    assert 0.002 < jerk["spine"] < 0.02 < jerk["right hand tip"] < 0.08


def test_a_linear_classifier_is_not_enough(clips: dict[str, np.ndarray]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def features(tracks: np.ndarray) -> np.ndarray:
        chosen = np.zeros((2, 15, 25, 3), np.float32)
        frames = np.linspace(0, tracks.shape[1] - 1, 15).round().astype(int)
        chosen[: len(tracks)] = tracks[:2, frames]
        present = chosen.any((2, 3))[..., None, None]
        return (np.where(present, chosen - chosen[:1, :, 1:2], 0)).ravel()

    x = np.stack([features(tracks) for tracks in clips.values()])
    y = np.array([parse_name(name)["action"] for name in clips])
    train = np.array(
        [parse_name(name)["subject"] in DATA_SETS["ntu60"].splits["xsub"].train for name in clips]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300, tol=1e-2))
    accuracy = model.fit(x[train], y[train]).score(x[~train], y[~train])
    assert 4 / len(ACTIONS) < accuracy < 0.70


def test_the_same_seed_makes_the_same_files_in_any_number_of_processes(tmp_path: Path) -> None:
    options = {"num_subject": 3, "num_replication": 1, "num_action": 6, "overwrite": False}
    for name, seed, num_worker in (("a", 5, 1), ("b", 5, 2), ("c", 6, 2)):
        num_file, num_frame = make(tmp_path / name, seed=seed, num_worker=num_worker, **options)
    read = {
        name: {file.name: file.read_text() for file in (tmp_path / name).glob("*.skeleton")} for name in "abc"
    }
    assert read["a"] == read["b"] and read["a"].keys() == read["c"].keys() and read["a"] != read["c"]
    assert num_file == len(read["c"]) == 3 * 3 * 6
    assert num_frame == sum(int(text.split("\n")[0]) for text in read["c"].values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_smaller_data_set_has_the_first_actions(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path / "x"), "--num_subject=3", "--num_action=2", "--num_worker=1"]
    assert main(command) == 0
    files = [path.name for path in (tmp_path / "x").glob("*.skeleton")]
    assert len(files) == 3 * 3 * 2
    assert {parse_name(Path(name).stem)["action"] for name in files} == set(list(ACTIONS)[:2])


def test_one_recording_is_of_somebody_in_no_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "unknown.skeleton"
    command = ["--out", str(out), "--action", "8"]
    assert main(command) == 0
    recorded = out.read_text()
    assert (
        recorded
        == film(Take(NUM_PERFORMER + 1, NUM_PERFORMER + 2, 1, 8), 0)[
            f"S{1 + NUM_PERFORMER % NUM_SETUP:03d}C002P{NUM_PERFORMER + 1:03d}R001A008.skeleton"
        ]
    )
    assert f"{recorded.split()[0]} frames" in capsys.readouterr().out

    assert main([*command, "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err and out.read_text() == recorded
    assert main([*command, "--seed", "1", "--overwrite"]) == 0
    assert out.read_text() != recorded


def test_what_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--out", str(tmp_path / "x"), "--num_subject", "3", "--num_action", "4", "--num_worker", "2"]
    (tmp_path / "x").mkdir()
    assert main(command) == 0
    before = {path.name: path.stat().st_ino for path in (tmp_path / "x").iterdir()}
    assert "36 clips of 4 actions by 3 performers" in capsys.readouterr().out

    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {path.name: path.stat().st_ino for path in (tmp_path / "x").iterdir()} == before
    assert main([*command, "--overwrite", "--seed", "2"]) == 0
    after = {path.name: path.stat().st_ino for path in (tmp_path / "x").iterdir()}
    assert after.keys() == before.keys() and after != before

    (tmp_path / "x" / MARK).unlink()
    assert main([*command, "--overwrite"]) == 2
    assert "give another --out" in capsys.readouterr().err
    assert len(list((tmp_path / "x").iterdir())) == 36 and os.listdir(tmp_path) == ["x"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, 1, None)
    with pytest.raises(AttributeError):
        make(tmp_path / "x", num_subject=3, num_replication=1, seed=0, num_worker=1, overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option", ["--num_subject=2", "--num_subject=41", "--num_replication=0", "--seed=-1", "--num_action=16"]
)
def test_options_out_of_range(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "x"), option])
    assert re.search(r"--\w+ -?\d+: give \d+ to \d+", capsys.readouterr().err)


def test_it_runs_as_a_script(tmp_path: Path) -> None:
    command = [sys.executable, "data_gen/synthetic.py", "--help"]
    assert (
        "--num_subject"
        in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
