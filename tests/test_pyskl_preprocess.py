"""The PYSKL command, run on small pickles: what it prepares, reports and refuses."""

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import read_report
from data_gen.pyskl_gen_preprocess import main
from data_gen.ucla_gen_preprocess import main as prepare_ucla
from feeder.prepared import open_prepared

SIZE = (480, 640)  # height, width


def pose(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16)


def annotation(name: str, label: int | None = 0, **changes: Any) -> dict[str, Any]:
    made = {"frame_dir": name, "label": label, "keypoint": pose(1, 4, 25, 3), "total_frames": 4, **changes}
    return {key: value for key, value in made.items() if value is not None}


def flat(name: str, **changes: Any) -> dict[str, Any]:
    """A clip in 2-D."""
    made = {
        "keypoint": np.full((2, 3, 17, 2), [320, 120], np.float32),
        "keypoint_score": np.full((2, 3, 17), 0.5, np.float32),
        "img_shape": SIZE,
    }
    return annotation(name, **{**made, **changes})


def run(folder: Path, content: Any, *options: str) -> tuple[int, Path]:
    (folder / "data.pkl").write_bytes(pickle.dumps(content))
    out = folder / "out" / "a.h5"
    return main(["--data_path", str(folder / "data.pkl"), "--out", str(out), "--overwrite", *options]), out


def splits_of(out: Path) -> dict[str, dict[str, list[int]]]:
    return {
        name: {part: clips.tolist() for part, clips in parts.items()}
        for name, parts in open_prepared(out).splits.items()
    }


def test_three_dimensions_and_splits(tmp_path: Path) -> None:
    names = [f"S001C00{camera}P00{person}R001A001" for camera in (1, 2) for person in (1, 2)]
    clips = [
        annotation(name, number % 2, keypoint=pose(1 + number % 2, 3 + number, 25, 3, seed=number))
        for number, name in enumerate(names)
    ]
    split = {
        "xsub_train": names[::2],
        "xsub_val": names[1::2],
        "xview_train": names[2:],
        "xview_val": names[:2],
    }
    status, out = run(tmp_path, {"split": split, "annotations": clips})
    assert status == 0 and read_report(out) == []
    prepared = open_prepared(out)
    assert prepared.name.tolist() == names and prepared.label.tolist() == [0, 1, 0, 1]
    assert (prepared.layout, prepared.channels, prepared.unit) == ("ntu-rgb+d", "xyz", "m")
    assert prepared.keys["subject"].tolist() == [1, 2, 1, 2] and prepared.keys["camera"].tolist() == [
        1,
        1,
        2,
        2,
    ]
    assert splits_of(out) == {
        "xsub": {"train": [0, 2], "val": [1, 3]},
        "xview": {"train": [2, 3], "val": [0, 1]},
    }
    for number, clip in enumerate(clips):
        rows = prepared.read(np.array([number]))
        np.testing.assert_array_equal(rows, clip["keypoint"].reshape(-1, 25, 3).astype(np.float32))


def test_two_dimensions_are_counted_from_the_middle_of_the_picture(tmp_path: Path) -> None:
    score = np.full((2, 3, 17), 0.5, np.float32)
    score[0, 1, 4] = 0
    score[1, 2, 16] = 1.07
    status, out = run(tmp_path, [flat("a", keypoint_score=score), flat("b")])
    assert status == 0
    prepared = open_prepared(out)
    assert (prepared.layout, prepared.channels, prepared.unit) == ("coco", "xyc", "picture")
    rows = prepared.read(np.array([0])).reshape(2, 3, 17, 3)
    assert rows[0, 1, 4].tolist() == [0, 0, 0]
    assert rows[1, 2, 16, 2] == 1  # a confidence is 1 at the most
    rows[0, 1, 4] = rows[1, 2, 16] = [0, -0.25, 0.5]
    assert (rows == [0, -0.25, 0.5]).all()
    # A bare list has no splits: it is there to pre-train on.
    assert splits_of(out) == {"all": {"train": [0, 1], "val": []}}


def test_pixels_of_pictures_of_unknown_size_stay(tmp_path: Path) -> None:
    _, out = run(tmp_path, [flat("a", img_shape=None), flat("b", img_shape=None)])
    prepared = open_prepared(out)
    assert prepared.unit == "px" and prepared.joints[0, 0].tolist() == [320, 120, 0.5]


@pytest.mark.parametrize(
    ("given", "benchmarks"),
    [
        ({"train": ["a"], "val": ["b"]}, {"split": ([0], [1])}),
        (
            {"train1": ["a"], "test1": ["b"], "train2": ["b"], "test2": ["a"]},
            {"split1": ([0], [1]), "split2": ([1], [0])},
        ),
        (
            {"x/y_train": ["a"], "x/y_val": ["b"], "x/y_test": ["c"]},
            {"x_y": ([0], [2]), "x_y_val": ([0], [1])},
        ),
        ({"sub_train": ["a", "b"]}, {"sub": ([0, 1], [])}),
    ],
)
def test_names_of_splits(tmp_path: Path, given: dict, benchmarks: dict) -> None:
    content = {"split": given, "annotations": [annotation(name) for name in "abc"]}
    status, out = run(tmp_path, content)
    assert status == 0
    assert splits_of(out) == {name: {"train": train, "val": val} for name, (train, val) in benchmarks.items()}


def test_clips_without_a_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, [annotation("a", None), annotation("b", 1), annotation("c", 0)])[0] == 0
    assert "without a label: 1 clips" in capsys.readouterr().out
    status, out = run(tmp_path, [annotation("a", None), annotation("b", None)])
    prepared = open_prepared(out)
    assert status == 0 and prepared.label.tolist() == [-1, -1] and prepared.class_names == []
    said = capsys.readouterr().out
    assert "without labels" in said and "main.py pretrain" in said.splitlines()[-1]


BAD = {
    "nan": {"keypoint": np.full((1, 2, 25, 3), np.nan)},
    "large": {"keypoint": np.full((1, 2, 25, 3), 1e60)},
    "pixels": {"keypoint": pose(1, 2, 25, 3) * 100},
    "nobody": {"keypoint": np.zeros((1, 2, 25, 3))},
    "no frame": {"keypoint": np.zeros((1, 0, 25, 3))},
    "joints": {"keypoint": pose(1, 2, 17, 3)},
    "channels": {"keypoint": pose(1, 2, 25, 4)},
    "plane": {"keypoint": pose(1, 2, 25, 2)},
    "letters": {"keypoint": np.full((1, 2, 25, 3), "x")},
    "list": {"keypoint": [[1.0]]},
    "missing": {"keypoint": None, "frame_inds": np.arange(3)},
    "label": {"label": "wave"},
    "endless": {"label": functools.reduce(lambda inner, _: [inner] * 10, range(30), [])},  # 10^30 lists
    "negative": {"label": -3},
    "fraction": {"label": 0.5},
    "truth": {"label": True},
    "nameless": {"frame_dir": None},
    "number": {"frame_dir": 7},
    "twice": {"frame_dir": "good"},
}


def test_bad_clips_are_reported_and_the_rest_prepared(tmp_path: Path) -> None:
    clips = [
        annotation(name, **{"label": 0, **change})
        if "frame_dir" not in change
        else {**annotation("x"), **change}
        for name, change in BAD.items()
    ]
    rest = [
        annotation("one frame", 1, keypoint=pose(1, 1, 25, 3)),
        annotation("long", 1, keypoint=pose(1, 12_000, 25, 3)),
        annotation("crowd", 1, keypoint=pose(40, 2, 25, 3)),
    ]
    given = {"a_train": ["good", "gone", "nan"], "a_val": ["long"], 3: [], "odd": ["good"], "b_train": "good"}
    status, out = run(tmp_path, {"split": given, "annotations": [annotation("good"), *clips, "text", *rest]})
    prepared = open_prepared(out)
    assert status == 1 and prepared.name.tolist() == ["good", "one frame", "long", "crowd"]
    assert prepared.num_body.tolist() == [1, 1, 1, 40] and prepared.num_frame.tolist() == [4, 1, 12_000, 2]
    # A line for each, for a text among them, and for the splits: a clip that is not there, and three that are none.
    assert len(read_report(out)) == len(BAD) + 1 + 4
    assert splits_of(out) == {"a": {"train": [0], "val": [2]}}


def test_a_picture_without_size_and_a_score_of_another_shape(tmp_path: Path) -> None:
    bad = {
        "zero": {"img_shape": (0, 640)},
        "other": {"keypoint_score": np.ones((2, 3, 16))},
        "none": {"img_shape": None},
        "long": {"img_shape": (10**400, 640)},
        "scalar": {"img_shape": np.array(480)},
        "words": {"img_shape": ("high", "wide")},
        "one": {"img_shape": [480]},
    }
    clips = [flat("good"), *(flat(name, **change) for name, change in bad.items())]
    status, out = run(tmp_path, clips)
    assert status == 1 and open_prepared(out).name.tolist() == ["good"] and len(read_report(out)) == len(bad)


def test_confidence_is_from_0_to_1(tmp_path: Path) -> None:
    score = np.full((2, 3, 17), 0.5)
    score[0, 0, :3] = 1.05, -0.1, 1e30
    _, out = run(tmp_path, [flat("a", keypoint_score=score)])
    rows = open_prepared(out).read(np.array([0])).reshape(2, 3, 17, 3)
    assert rows[0, 0, :4, 2].tolist() == [1, 0, 1, 0.5] and not rows[0, 0, 1].any()


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"annotations": {}},
        "text",
        [{"frame_dir": "a"}],
        [annotation("a", keypoint=pose(1, 2, 9, 3))],
        os.system,
    ],
)
def test_what_is_no_such_pickle_is_one_error(
    tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = run(tmp_path, content)
    assert status == 2 and capsys.readouterr().err.startswith("error: ") and not out.exists()


def test_a_damaged_pickle_leaves_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(tmp_path, [annotation("a"), annotation("b")])
    before = out.read_bytes()
    whole = (tmp_path / "data.pkl").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"hello"):
        (tmp_path / "data.pkl").write_bytes(damaged)
        assert main(["--data_path", str(tmp_path / "data.pkl"), "--out", str(out), "--overwrite"]) == 2
    assert out.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's peak is read as on Linux")
@pytest.mark.slow
def test_memory_stays_under_one_and_a_half_times_the_file(tmp_path: Path) -> None:
    clips = [annotation(f"clip {n}", keypoint=pose(2, 400, 25, 3, seed=n)) for n in range(600)]
    # Protocol 2 writes bytes as text, which the unpickler keeps, too.
    for protocol, ratio in ((2, 1.5), (4, 1.2), (5, 1.2)):
        (tmp_path / "data.pkl").write_bytes(pickle.dumps(clips, protocol=protocol))
        code = (
            "import re, sys; from feeder.plain_pickle import load_plain_pickle\n"
            "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
            "before = peak(); kept = load_plain_pickle(sys.argv[1]); print(peak() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "data.pkl")],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        assert int(done.stdout) < ratio * (tmp_path / "data.pkl").stat().st_size


def test_the_same_data_as_json(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """NW-UCLA written as a pickle is prepared to the arrays of its JSON files."""
    whole = tmp_path / "json.h5"
    assert prepare_ucla(["--data_path", str(shared_data("nw_ucla/all_sqe")), "--out", str(whole)]) == 0
    expected = open_prepared(whole)
    clips = [
        annotation(str(name), int(label), keypoint=expected.read(np.array([number]))[None])
        for number, (name, label) in enumerate(zip(expected.name, expected.label, strict=True))
    ]
    split = {
        f"{benchmark}_{part}": expected.name[places].tolist()
        for benchmark, parts in expected.splits.items()
        for part, places in parts.items()
    }
    status, out = run(tmp_path, {"split": split, "annotations": clips})
    made = open_prepared(out)
    assert status == 0 and made.class_names == expected.class_names and made.skeleton == expected.skeleton
    for field in ("joints", "start", "num_frame", "num_body", "label", "name"):
        np.testing.assert_array_equal(getattr(made, field), getattr(expected, field))
    for field in ("keys", "splits"):
        np.testing.assert_equal(getattr(made, field), getattr(expected, field))
