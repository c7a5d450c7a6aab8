import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import read_report
from data_gen import ucla_gen_preprocess
from data_gen.sources.ucla import ACTIONS, parse_clip, parse_name
from data_gen.ucla_gen_preprocess import main
from feeder.prepared import open_prepared
from feeder.recordings.recording import RecordingError

SCRIPT = Path(ucla_gen_preprocess.__file__)


def poses(num_frame: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frame, 20, 3)).round(4)


def content(name: str, label: int, frames: Any) -> bytes:
    return json.dumps({"file_name": name, "skeletons": frames, "label": label}).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips: labels skip the numbers 7 and 10."""
    clips = {"a01_s01_e00_v01": 1, "a08_s02_e03_v02": 7, "a09_s10_e10_v03": 8, "a11_s03_e01_v01": 9}
    clips |= {"a12_s04_e02_v03": 10, "a06_s05_e04_v02": 6}
    (tmp_path / "json").mkdir()
    for number, (name, label) in enumerate(clips.items(), 1):
        (tmp_path / "json" / f"{name}.json").write_bytes(content(name, label, poses(number, number).tolist()))
    return tmp_path / "json"


def run(folder: Path, *options: str) -> tuple[int, Path]:
    out = folder.parent / "out" / "ucla.h5"
    return main(["--data_path", str(folder), "--out", str(out), "--num_worker", "1", *options]), out


def test_prepares_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = run(folder)
    assert status == 0 and read_report(out) == []
    prepared = open_prepared(out)
    assert prepared.name.tolist() == sorted(path.stem for path in folder.iterdir())
    assert prepared.label.tolist() == [0, 5, 6, 7, 8, 9]
    assert [prepared.class_names[label] for label in (5, 6, 8)] == ["stand up", "donning", "throw"]
    assert prepared.keys["subject"].tolist() == [1, 5, 2, 10, 3, 4]
    assert prepared.keys["sequence"].tolist() == [0, 4, 3, 10, 1, 2]
    assert prepared.keys["view"].tolist() == [1, 2, 2, 3, 1, 3]
    assert prepared.keys["action"].tolist() == [1, 6, 8, 9, 11, 12]
    assert prepared.num_frame.tolist() == [1, 6, 2, 3, 4, 5] and set(prepared.num_body) == {1}
    assert {part: clips.tolist() for part, clips in prepared.splits["xview"].items()} == {
        "train": [0, 1, 2, 4],
        "val": [3, 5],
    }
    # Subjects 8, 9 and 10 are held out, with all views.
    assert {part: clips.tolist() for part, clips in prepared.splits["xsub"].items()} == {
        "train": [0, 1, 2, 4, 5],
        "val": [3],
    }
    # For choices: views 1 and 2 against each other, and no clip of view 3.
    assert {part: clips.tolist() for part, clips in prepared.splits["view12"].items()} == {
        "train": [0, 4],
        "val": [1, 2],
    }
    assert {part: clips.tolist() for part, clips in prepared.splits["view21"].items()} == {
        "train": [1, 2],
        "val": [0, 4],
    }
    np.testing.assert_array_equal(prepared.read(np.array([4])), poses(4, 4).astype(np.float32))
    assert prepared.layout == "kinect-v1"
    assert "xview val 2 464" in " ".join(capsys.readouterr().out.split())


def test_an_empty_frame_stays_in_its_place_as_zeros() -> None:
    frames = poses(4)
    given = [frames[0].tolist(), [], frames[2].tolist(), None]
    read = parse_clip("a01_s01_e00_v01", content("a01_s01_e00_v01", 1, given))
    frames[[1, 3]] = 0
    assert read.shape == (1, 4, 20, 3) and read.dtype == np.float32
    np.testing.assert_array_equal(read[0], frames.astype(np.float32))


def test_a_clip_of_one_frame_is_kept() -> None:
    assert parse_clip("a01_s01_e00_v01", content("a01_s01_e00_v01", 1, poses(1).tolist())).shape[1] == 1


GOOD = poses(2).tolist()
FRAME = poses(1)[0].tolist()
NAME = "a02_s01_e00_v01"
BAD = {
    "cut short": (content(NAME, 2, GOOD)[:-30], "not JSON"),
    "letters": (b"hello", "not JSON"),
    "binary": (b"\xff\xfe\x00{", "not JSON"),
    "not UTF-8": (b'{"file_name": "\xff"}', "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "a list": (b"[1, 2]", '"skeletons"'),
    "no skeletons": (json.dumps({"file_name": NAME, "label": 2}).encode(), '"skeletons"'),
    "another clip": (content("a02_s01_e00_v02", 2, GOOD), "file_name is 'a02_s01_e00_v02'"),
    "another label": (content(NAME, 3, GOOD), "label is 3"),
    "no frames": (content(NAME, 2, []), "no frames"),
    "empty frames alone": (content(NAME, 2, [[], []]), "none of the 2 frames"),
    "zero frames alone": (content(NAME, 2, np.zeros((3, 20, 3)).tolist()), "none of the 3 frames"),
    "19 joints": (content(NAME, 2, [FRAME, FRAME[:19]]), "frame 2 of 2 does not hold 20 joints"),
    "a number for a frame": (content(NAME, 2, [FRAME, 5]), "frame 2 of 2"),
    "two coordinates": (content(NAME, 2, [[joint[:2] for joint in FRAME]]), "not three numbers"),
    "one joint with two": (content(NAME, 2, [[*FRAME[:19], [1.0, 2.0]]]), "not three numbers"),
    "an object": (content(NAME, 2, [[*FRAME[:19], [1.0, 2.0, {}]]]), "not three numbers"),
    "a word": (content(NAME, 2, [[*FRAME[:19], [1.0, 2.0, "x"]]]), "not three numbers"),
    "a huge number": (content(NAME, 2, [[*FRAME[:19], [1.0, 2.0, 10**400]]]), "not three numbers"),
    "NaN": (content(NAME, 2, [[*FRAME[:19], [1.0, 2.0, float("nan")]]]), "NaN"),
    "a missing number": (content(NAME, 2, [[*FRAME[:19], [1.0, 2.0, None]]]), "missing"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_says_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(RecordingError) as error:
        parse_clip(NAME, data)
    assert reason in error.value.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a1_s01_e00_v01", "not a clip's name"),
        ("a07_s01_e00_v01", "action 7"),
        ("a01_s11_e00_v01", "subject 11"),
        ("a01_s01_e00_v04", "view 4"),
    ],
)
def test_a_bad_name_says_what_is_wrong(name: str, reason: str) -> None:
    with pytest.raises(RecordingError) as error:
        parse_name(name)
    assert reason in error.value.reason


def test_bad_files_are_reported_and_the_rest_prepared(folder: Path) -> None:
    (folder / "a01_s01_e00_v02.json").write_text('{"label": 1,\n oops}')
    (folder / "a02_s01_e00_v04.json").write_bytes(content("a02_s01_e00_v04", 2, GOOD))
    (folder / "a03_s01_e00_v01.json").mkdir()
    (folder / "notes.txt").write_text("not looked at")
    status, out = run(folder)
    assert status == 1 and len(open_prepared(out)) == 6
    assert [(Path(file).name, line) for file, line, _ in read_report(out)] == [
        ("a01_s01_e00_v02.json", "2"),
        ("a02_s01_e00_v04.json", ""),
        ("a03_s01_e00_v01.json", ""),
    ]
    assert open_prepared(out).attrs["num_bad"] == 3
    assert run(folder, "--overwrite", "--max_bad", "3")[0] == 0


def test_what_exists_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(folder)
    before = out.stat().st_ino
    assert run(folder)[0] == 2 and out.stat().st_ino == before
    assert "--overwrite" in capsys.readouterr().err
    assert run(folder, "--overwrite")[0] == 0 and out.stat().st_ino != before


def test_without_out_there_is_a_default_that_is_kept_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--data_path", str(folder)]) == 0 and Path("data/nw_ucla.h5").is_file()
    assert main(["--data_path", str(folder)]) == 2
    assert "data/nw_ucla.h5 exists" in capsys.readouterr().err


def test_nothing_to_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "json"
    assert run(folder)[0] == 2 and "is not a folder" in capsys.readouterr().err
    folder.mkdir()
    assert run(folder)[0] == 2 and "no .json file" in capsys.readouterr().err
    (folder / "a01_s01_e00_v01.json").write_bytes(content("a01_s01_e00_v01", 1, []))
    status, out = run(folder)
    assert status == 2 and "can be used; the first, " in capsys.readouterr().err
    assert not out.exists() and len(read_report(out)) == 1


def test_options_out_of_range(folder: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(folder, "--num_worker", "0")


def test_the_whole_data_set(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """The published split, and joints in the order and unit that the layout says."""
    out = tmp_path / "ucla.h5"
    command = [
        sys.executable,
        str(SCRIPT),
        "--data_path",
        str(shared_data("nw_ucla/all_sqe")),
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    prepared = open_prepared(out)
    for part in ("train", "val"):
        with shared_data(f"nw_ucla/split_{part}.tsv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        clips = prepared.splits["xview"][part]
        published = {row["file_name"]: (int(row["length"]), int(row["label"])) for row in rows}
        made = zip(prepared.num_frame[clips].tolist(), (prepared.label[clips] + 1).tolist(), strict=True)
        assert dict(zip(prepared.name[clips].tolist(), made, strict=True)) == published
    assert len(prepared.class_names) == len(ACTIONS) == len(np.unique(prepared.label)) == 10

    skeleton, joints = prepared.skeleton, prepared.joints
    bone = {
        skeleton.joints[joint]: float(
            np.median(np.linalg.norm(joints[:, joint] - joints[:, parent], axis=-1))
        )
        for joint, parent in skeleton.bones
    }
    assert 0.2 < bone["left elbow"] < 0.3 and 0.4 < bone["right knee"] < 0.55  # metres
    for joint, length in bone.items():
        assert length == pytest.approx(bone.get(joint.replace("left", "right"), length), rel=0.05)
    height = dict(zip(skeleton.joints, np.median(joints[..., 1], axis=0), strict=True))
    down = ["head", "shoulder centre", "spine", "hip centre", "left knee", "left ankle", "left foot"]
    assert sorted(down, key=height.__getitem__, reverse=True) == down
    # Who faces the camera has the left side at smaller x, in Kinect's axes.
    assert np.median(joints[:, skeleton.joints.index("left shoulder"), 0]) < np.median(
        joints[:, skeleton.joints.index("right shoulder"), 0]
    )
