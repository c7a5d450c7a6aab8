"""The CMU command and its forward kinematics: against slow code, the published code's joints, and the real files."""

import json
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ragged_clips import to_batch

import main as program
from conftest import read_report
from data_gen.cmu_gen_preprocess import main
from data_gen.cmu_kinematics import OFFSETS, joint_positions
from data_gen.sources.cmu import NUM_VALUE, parse_poses
from feeder.normalise import NORMALISE
from feeder.prepared import Prepared, open_prepared, tracks_of
from feeder.recordings.recording import RecordingError
from feeder.recordings.rows import parse_rows
from net.future import scored_joints
from net.utils.layouts import CONSTANT_JOINTS, COPIED_JOINTS, LAYOUTS

CMU = LAYOUTS["cmu"]
V = CMU.num_joint
CONSTANT = [CMU.joints.index(joint) for joint in CONSTANT_JOINTS["cmu"]]
COPIED = {CMU.joints.index(a): CMU.joints.index(b) for a, b in COPIED_JOINTS["cmu"].items()}


def made_rows(num_frame: int, seed: int = 0) -> np.ndarray:
    """Rows (T, 117) of a body that moves smoothly. As in the data, the hips do not turn."""
    rng = np.random.default_rng(seed)
    phase = np.linspace(0, 2, num_frame)[:, None] + rng.uniform(0, 6, NUM_VALUE)
    rows = rng.uniform(0, 0.8, NUM_VALUE) * np.sin(phase)
    for joint in ("left leg root", "right leg root"):
        rows[:, 3:].reshape(num_frame, V, 3)[:, CMU.joints.index(joint)] = 0
    return rows.round(4)


def text(rows: np.ndarray) -> bytes:
    return "".join(",".join(f"{value:.4f}" for value in row) + "\n" for row in rows).encode()


def write(folder: Path, **files: bytes) -> Path:
    """Write files named `part__action__stem`; returns the folder."""
    for name, data in files.items():
        part, action, stem = name.split("__")
        path = folder / part / action / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def small(folder: Path) -> Path:
    """Two actions, of which one has no training clip; clips are of 50 frames and more at 30 a second."""
    return write(
        folder,
        train__walking__walking_1=text(made_rows(100, 1)),
        train__walking__walking_12=text(made_rows(121, 2)),
        test__walking__walking_1=text(made_rows(110, 3)),
        test__washwindow__washwindow_1=text(made_rows(130, 4)),
    )


def run(folder: Path, *options: str, out: Path | None = None) -> tuple[int, Path]:
    out = out or folder.parent / "cmu.h5"
    paths = ["--data_path", str(folder), "--out", str(out), "--overwrite", "--num_worker", "1"]
    return main([*paths, *options]), out


def rotate(place: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A column vector rotated about `vector` by its length, by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return place
    axis = vector / angle
    return (
        place * np.cos(angle)
        + np.cross(axis, place) * np.sin(angle)
        + axis * (axis @ place) * (1 - np.cos(angle))
    )


def slow_positions(vectors: np.ndarray) -> np.ndarray:
    """Positions (T, V, 3): of each joint the way to the hip centre, bone by bone, turned by all joints on the way.

    A row vector times a rotation matrix is a column vector rotated the other way.
    """
    positions = np.zeros_like(vectors)
    for frame, pose in enumerate(vectors):
        for joint in range(V):
            bone = joint
            while bone != 0:
                place, turning = OFFSETS[bone], CMU.parents[bone]
                while turning != 0:
                    place = rotate(place, -pose[turning])
                    turning = CMU.parents[turning]
                positions[frame, joint] += place
                bone = CMU.parents[bone]
    return positions


def test_forward_kinematics_is_that_of_a_slow_loop() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, V, 3))
    vectors[0, ::3] = 0
    vectors[1] = 0
    np.testing.assert_allclose(joint_positions(vectors), slow_positions(vectors), atol=1e-12)


def test_a_body_without_turns_stands_upright_with_its_left_at_positive_x() -> None:
    pose = dict(zip(CMU.joints, joint_positions(np.zeros((1, V, 3)))[0], strict=True))
    down = [
        "head top",
        "head",
        "neck",
        "thorax",
        "spine",
        "hip centre",
        "left hip",
        "left knee",
        "left ankle",
    ]
    assert sorted(down, key=lambda joint: -pose[joint][1]) == down
    for joint, other in enumerate(CMU.swap):
        mirrored = pose[CMU.joints[other]] * [-1, 1, 1]
        np.testing.assert_allclose(pose[CMU.joints[joint]], mirrored, atol=0.06)
    assert pose["left wrist"][0] > pose["left elbow"][0] > pose["left shoulder"][0] > 0.1
    assert pose["right toe tip"][2] > pose["right ankle"][2] + 0.1


def test_the_layout_has_the_published_joints(reference: Callable[[str], dict]) -> None:
    meta = reference("cmu_mocap.npz")["meta"]
    assert [max(parent, 0) for parent in meta["parents"]] == list(CMU.parents)
    np.testing.assert_allclose(1000 * OFFSETS, meta["offsets_mm"])
    assert meta["constant"] == CONSTANT
    assert {int(joint): other for joint, other in meta["copies"].items()} == COPIED
    assert sorted({*range(V)} - {*CONSTANT} - {*COPIED}) == meta["used"]


@pytest.fixture(scope="module")
def real(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real folder, without some large files."""
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(shared_data("cmu_mocap/cmu_mocap_part.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    return folder / "cmu_mocap"


@pytest.mark.parametrize(
    ("name", "frames"),
    [("walking_xyz_first120", slice(0, 120)), ("basketball_xyz_last40", slice(-40, None))],
)
def test_joints_are_those_of_the_published_code(
    reference: Callable[[str], dict], real: Path, name: str, frames: slice
) -> None:
    action = name.partition("_")[0]
    data = (real / "test" / action / f"{action}_1.txt").read_bytes()
    vectors = parse_rows(data, NUM_VALUE, delimiter=",")[frames, 3:].reshape(-1, V, 3)
    np.testing.assert_allclose(1000 * joint_positions(vectors), reference("cmu_mocap.npz")[name], atol=1e-2)


@pytest.fixture(scope="module")
def prepared(real: Path) -> Prepared:
    """All real files, prepared."""
    status, out = run(real)
    assert status == 0 and read_report(out) == []
    return open_prepared(out)


def standing_still(poses: np.ndarray, horizons: list[int]) -> tuple[np.ndarray, int]:
    """Error in mm of the last of 10 poses, repeated, at each horizon: the mean over the windows at all frames.

    poses: (T, V, 3) in metres. Published figures count constant joints as exact, and copies as the joint they equal.
    """
    windows = np.lib.stride_tricks.sliding_window_view(poses, 35, axis=0)  # (N, V, 3, 35)
    ahead = windows[..., [9 + horizon for horizon in horizons]]
    error = 1000 * np.linalg.norm(ahead - windows[..., 9:10], axis=2)  # (N, V, H)
    error[:, CONSTANT] = 0
    error[:, list(COPIED)] = error[:, list(COPIED.values())]
    return error.mean((0, 1)), len(windows)


def test_standing_still_has_the_published_errors(
    reference: Callable[[str], dict], prepared: Prepared
) -> None:
    meta = reference("cmu_mocap.npz")["meta"]
    tested = {prepared.class_names[prepared.label[clip]]: clip for clip in prepared.splits["split"]["val"]}
    assert tested.keys() == meta["standing_still_mm"].keys()
    for action, published in meta["standing_still_mm"].items():
        error, num_window = standing_still(
            tracks_of(prepared, tested[action])[0], meta["horizon_frames_1based"]
        )
        assert num_window == published["num_window"]
        np.testing.assert_allclose(error, published["all"], atol=2e-3)


def test_a_run_reports_the_errors_of_papers(
    reference: Callable[[str], dict], prepared: Prepared, tmp_path: Path
) -> None:
    config = Path(__file__).resolve().parents[1] / "config" / "cmu" / "predict_simlpe.yaml"
    words = [f"data.path={prepared.path}", f"data.num_class={len(prepared.class_names)}", "num_epoch=1"]
    words += ["train_step=200", "model_args.num_block=1", "tensorboard=false", "-w", str(tmp_path / "run")]
    assert program.main(["prediction", "-c", str(config), *words]) == 0
    table = pd.read_csv(tmp_path / "run" / "mpjpe.csv").set_index(["predictor", "action"]).sort_index()
    still = table.loc["zero_velocity"]
    meta = reference("cmu_mocap.npz")["meta"]["standing_still_mm"]
    for action, published in meta.items():
        np.testing.assert_allclose(still.loc[action, "published_mm"], published["all"], atol=2e-3)
    # The mean of papers is over the actions, whose numbers of windows differ.
    overall = np.mean([published["all"] for published in meta.values()], axis=0)
    np.testing.assert_allclose(still.loc["(all actions)", "published_mm"], overall, atol=2e-3)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    expected = table.loc[("network", "(all actions)"), "published_mm"].to_list()
    assert [result[f"published_mpjpe_{each}"] for each in (2, 4, 8, 10, 14, 25)] == pytest.approx(expected)


def test_joints_that_do_not_move_and_copies_are_so_in_all_real_files(prepared: Prepared) -> None:
    joints = prepared.joints
    assert np.ptp(joints[:, CONSTANT], axis=0).max() == 0
    still = np.ptp(joints, axis=0).max(1) == 0
    assert np.flatnonzero(still).tolist() == CONSTANT
    np.testing.assert_array_equal(joints[:, list(COPIED)], joints[:, list(COPIED.values())])
    # No joint that moves comes to the origin, which would mean that it was not seen.
    moving = np.flatnonzero(~still)
    assert np.linalg.norm(joints[:, moving], axis=-1).min() > 0.1
    # Knees bend backwards, so the left is where the layout says.
    knee, ankle = CMU.joints.index("left knee"), CMU.joints.index("left ankle")
    assert (joints[:, ankle, 2] - joints[:, knee, 2]).min() < -0.3
    assert (joints[:, ankle, 2] - joints[:, knee, 2]).max() < 0.25


def test_prepares_both_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small(tmp_path / "cmu_mocap")
    write(folder, test__walking_extra__walking_13=text(made_rows(9)))
    (folder / "train" / "notes.txt").write_text("not looked at")
    status, out = run(folder)
    assert status == 0 and read_report(out) == []
    found = open_prepared(out)
    assert found.name.tolist() == [
        "train_walking_1",
        "train_walking_1_odd",
        "train_walking_12",
        "train_walking_12_odd",
        "test_walking_1",
        "test_washwindow_1",
    ]
    assert found.class_names == ["walking", "washwindow"] and found.label.tolist() == [0, 0, 0, 0, 0, 1]
    assert found.num_frame.tolist() == [50, 50, 61, 60, 55, 65] and set(found.num_body) == {1}
    assert found.keys["sequence"].tolist() == [1, 1, 12, 12, 1, 1]
    assert {part: clips.tolist() for part, clips in found.splits["split"].items()} == {
        "train": [0, 1, 2, 3],
        "val": [4, 5],
    }
    assert (found.layout, found.channels, found.unit, found.frame_rate) == ("cmu", "xyz", "m", 30.0)
    vectors = made_rows(121, 2)[:, 3:].reshape(-1, V, 3)
    for clip, first in ((2, 0), (3, 1)):
        poses, expected = tracks_of(found, clip)[0], slow_positions(vectors[first::2])
        np.testing.assert_allclose(poses, expected, atol=1e-6)
    said = capsys.readouterr().out
    assert "only tested: washwindow" in said and "1 of walking_extra" in said


@pytest.mark.parametrize(("num_row", "num_frame"), [(3, [2, 2]), (4, [2, 2, 2])])
def test_odd_frames_are_a_clip_if_there_are_two(tmp_path: Path, num_row: int, num_frame: list[int]) -> None:
    data = text(made_rows(num_row))
    _, out = run(write(tmp_path / "mocap", train__walking__walking_1=data, test__walking__walking_1=data))
    assert open_prepared(out).num_frame.tolist() == num_frame


def test_the_line_that_is_printed_trains_and_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], few_blocks: None, blank: None
) -> None:
    run(small(tmp_path / "cmu_mocap"))
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:5] == ["python", "main.py", "prediction", "-c", "config/cmu/predict_mixer.yaml"]
    words[4] = str(Path(program.__file__).parent / words[4])
    quick = ["model_args.width=8", "batch_size=2", "min_epoch_clip=0", "device=cpu"]
    work = ["-w", str(tmp_path / "work"), "--debug", "tensorboard=false"]
    assert program.main([*words[2:], *quick, *work]) == 0
    (result,) = (tmp_path / "work").rglob("result.json")
    assert {"mpjpe", "mpjpe_2", "mpjpe_14", "mpjpe_25"} <= json.loads(result.read_text()).keys()
    with np.load(result.parent / "predictions.npz") as made:
        scored, true = made["scored"], made["true"]
        # The action that training lacks is tested, too.
        assert set(made["label"].tolist()) == {0, 1}
    assert scored.shape[2:] == (25, V)
    # Joints at the origin are not scored; every other one is.
    assert (scored == (true != 0).any(-1)).all()
    unscored = {CMU.joints[joint] for joint in np.flatnonzero(~scored.any((0, 1, 2)))}
    assert unscored == {"hip centre", "left leg root", "right leg root", "trunk root"}


@pytest.mark.parametrize("normalise", NORMALISE)
def test_no_normalisation_loses_a_joint_that_moves(normalise: str) -> None:
    poses = parse_poses(text(made_rows(40)))[None, ::2]
    batch = to_batch([poses])
    moved, matrix = NORMALISE[normalise].apply(batch, batch.tracks(1), torch.arange(20.0)[None], CMU)
    if matrix is not None:
        moved = moved @ matrix.mT
    here = torch.ones(1, 10, dtype=torch.bool)
    scored = scored_joints(moved[:, 10:], moved[:, 9], here, here[:, 0])
    moving = [joint for joint in range(V) if joint not in CONSTANT]
    assert scored[..., moving].all()


ROW = text(made_rows(1)).strip()
BAD = {
    "empty": (b" \n", None, "no frames"),
    "one frame": (ROW, None, "1 frame"),
    "two frames, one of which is kept": (b"\n".join([ROW] * 2), None, "2 frame"),
    "a row is short": (b"\n".join([ROW, ROW.rpartition(b",")[0], ROW]), 2, "116 values"),
    "rows are long": (b"\n".join([ROW + b",0"] * 3), 1, "118 values"),
    "blanks": (b"\n".join([ROW.replace(b",", b" ")] * 3), 1, "1 values"),
    "an empty row": (b"\n".join([ROW, b"", ROW]), 2, "0 values"),
    "letters": (b"hello\nhello\nhello", 1, "1 values"),
    "a word": (b"\n".join([ROW, ROW, ROW.rpartition(b",")[0] + b",x1"]), 3, "'x1'"),
    "nothing": (b"\n".join([ROW, ROW, ROW.rpartition(b",")[0] + b","]), 3, "''"),
    "NaN": (b"\n".join([ROW, ROW.rpartition(b",")[0] + b",nan", ROW]), 2, "'nan'"),
    "degrees": (b"\n".join([ROW.rpartition(b",")[0] + b",90"] * 3), None, "radians"),
    "huge": (b"\n".join([ROW.rpartition(b",")[0] + b",1e38"] * 3), None, "radians"),
    "binary": (b"\xff\xfe\x00" * 50, 1, "1 values"),
}


@pytest.mark.parametrize(("data", "line", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_says_what_is_wrong(data: bytes, line: int | None, reason: str) -> None:
    with pytest.raises(RecordingError) as error:
        parse_poses(data)
    assert error.value.line == line and reason in error.value.reason


@pytest.mark.parametrize("change", [lambda data: data.replace(b"\n", b"\r\n"), lambda data: data.strip()])
def test_line_ends_and_blanks_do_not_matter(change: Callable[[bytes], bytes]) -> None:
    data = text(made_rows(7))
    spaced = change(data).replace(b",", b", ")
    np.testing.assert_array_equal(parse_poses(spaced), parse_poses(data))
    assert parse_poses(data).shape == (7, V, 3)


def test_bad_files_are_reported_and_the_rest_prepared(tmp_path: Path) -> None:
    folder = small(tmp_path / "cmu_mocap")
    for number, (data, _, _) in enumerate(BAD.values(), 20):
        write(folder, **{f"train__jumping__jumping_{number}": data})
    write(folder, train__walking__walking=text(made_rows(9)), train__walking__running_1=text(made_rows(9)))
    (folder / "test" / "walking" / "walking_9.txt").mkdir()
    status, out = run(folder)
    rows = read_report(out)
    assert status == 1 and len(open_prepared(out)) == 6 and len(rows) == len(BAD) + 3
    assert {Path(file).name for file, _, _ in rows} == {
        *("walking.txt", "running_1.txt", "walking_9.txt"),
        *(f"jumping_{number}.txt" for number in range(20, 20 + len(BAD))),
    }
    assert run(folder, "--max_bad", str(len(rows)))[0] == 0


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([], "train"),
        (["train__walking__walking_1"], "test"),
        (["test__walking__walking_1"], "train"),
        (["train__walking__walking_1", "test__walking__walking"], "test"),
        (["train__running__walking_1", "test__walking__walking_1"], "train"),
        (["train__walking_extra__walking_1", "test__walking__walking_1"], "train"),
    ],
)
def test_folders_without_what_is_needed_are_one_error(
    tmp_path: Path, names: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "cmu_mocap", **dict.fromkeys(names, text(made_rows(9))))
    status, out = run(folder)
    error = capsys.readouterr().err
    assert status == 2 and str(folder / missing) in error and error.count("\n") == 1
    assert not out.exists()


def test_no_file_that_can_be_used_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "cmu_mocap", train__walking__walking_1=b"", test__walking__walking_1=b"x")
    status, out = run(folder)
    assert status == 2 and len(read_report(out)) == 2 and not out.exists()
    assert "can be used" in capsys.readouterr().err


def test_an_action_alone_is_enough_and_a_file_that_exists_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = text(made_rows(80))
    folder = write(tmp_path / "cmu_mocap", train__walking__walking_1=data, test__walking__walking_2=data)
    _, out = run(folder)
    assert "data.num_class=1" in shlex.split(capsys.readouterr().out.splitlines()[-1])
    before = out.read_bytes()
    assert main(["--data_path", str(folder), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err and out.read_bytes() == before
