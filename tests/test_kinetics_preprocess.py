"""The Kinetics command, run on small folders and a published recording."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import read_report
from data_gen.kinetics_gen_preprocess import main
from feeder.prepared import Prepared, open_prepared
from feeder.recordings.kinetics import tracks_of
from feeder.recordings.recording import RecordingError

V = 18


def body(x: float, y: float, score: float) -> dict[str, list[float]]:
    return {"pose": [x, y] * V, "score": [score] * V}


def frames(*bodies: list[dict], first: int = 1) -> dict[str, Any]:
    """A file's content: the bodies of each frame."""
    return {
        "data": [{"frame_index": k, "skeleton": some} for k, some in enumerate(bodies, first)],
        "label": "x",
    }


GOOD = frames([], [body(0.75, 0.25, 0.5)])


def write(folder: Path, part: str, clips: dict[str, Any], labels: dict[str, Any]) -> None:
    (folder / f"kinetics_{part}").mkdir(parents=True, exist_ok=True)
    for name, content in clips.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"kinetics_{part}" / f"{name}.json").write_text(text)
    (folder / f"kinetics_{part}_label.json").write_text(json.dumps(labels))


def label(number: Any, name: str = "", has_skeleton: bool = True) -> dict[str, Any]:
    return {"has_skeleton": has_skeleton, "label": name or f"class {number}", "label_index": number}


def run(folder: Path, *options: str) -> tuple[int, Path]:
    out = folder / "out" / "a.h5"
    paths = ["--data_path", str(folder), "--out", str(out), "--overwrite", "--num_worker", "1"]
    return main([*paths, *options]), out


def rows(prepared: Prepared, clip: int) -> np.ndarray:
    shape = prepared.num_body[clip], prepared.num_frame[clip], V, 3
    return prepared.read(np.array([clip])).reshape(shape)


def test_prepares_both_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = {"b": GOOD, "a": frames([body(0.5, 1.0, 0.25)]), "hidden": GOOD}
    write(tmp_path, "train", train, {"a": label(2), "b": label(0), "hidden": label(1, has_skeleton=False)})
    write(tmp_path, "val", {"c": GOOD}, {"c": label(0)})
    status, out = run(tmp_path)
    assert status == 0 and read_report(out) == []
    prepared = open_prepared(out)
    assert prepared.name.tolist() == ["a", "b", "c"] and prepared.label.tolist() == [2, 0, 0]
    assert prepared.class_names == ["class 0", "class 1", "class 2"]
    assert (prepared.layout, prepared.channels, prepared.unit) == ("openpose", "xyc", "picture")
    assert {part: clips.tolist() for part, clips in prepared.splits["split"].items()} == {
        "train": [0, 1],
        "val": [2],
    }
    assert (rows(prepared, 0) == [0, 0.5, 0.25]).all()
    # The frame in which nobody is stays in its place.
    assert not rows(prepared, 1)[:, 0].any() and (rows(prepared, 1)[:, 1] == [0.25, -0.25, 0.5]).all()
    assert "1 without a skeleton" in capsys.readouterr().out


def test_the_two_bodies_of_most_confidence_count_in_each_frame() -> None:
    first = [body(0.1, 0.1, 0.2), body(0.2, 0.2, 0.9), body(0.3, 0.3, 0.5)]
    content = frames(first, [body(0.4, 0.4, 0.1)], [body(0.6, 0.6, 0.1)] * 40, first=2)
    tracks = tracks_of(content)
    assert tracks.shape == (2, 4, V, 3) and not tracks[:, 0].any()
    np.testing.assert_allclose(tracks[:, 1, 0], [[-0.3, -0.3, 0.9], [-0.2, -0.2, 0.5]], atol=1e-6)
    assert tracks[0, 2, 0, 2] == np.float32(0.1) and not tracks[1, 2].any()
    assert tracks[:, 3].all()


def test_a_joint_that_was_not_seen_is_zeros() -> None:
    seen = body(0.5, 0.75, 0.5)
    seen["pose"][:2], seen["score"][0] = [0, 0], 0
    assert tracks_of(frames([seen]))[0, 0, :2].tolist() == [[0, 0, 0], [0, 0.25, 0.5]]


BAD: dict[str, Any] = {
    "empty": "",
    "truncated": json.dumps(GOOD)[:-20],
    "letters": "hello",
    "deep": "[" * 10_000,
    "list": [],
    "no data": {"data": []},
    "nobody": frames([], []),
    "unseen": frames([body(0, 0, 0)]),
    "nan": frames([body(float("nan"), 0, 1)]),
    "pixels": frames([body(320, 240, 1)]),
    "joints": frames([{"pose": [0.1] * 34, "score": [1] * 17}]),
    "score": frames([{"pose": [0.1] * 36}]),
    "ragged": frames([body(0.1, 0.1, 1), {"pose": [1], "score": [1]}]),
    "words": frames([{"pose": ["x"] * 36, "score": [1] * 18}]),
    "index": {"data": [{"frame_index": 10**9, "skeleton": []}]},
    "twice": {"data": [{"frame_index": 1, "skeleton": [body(0.1, 0.1, 1)]}] * 2},
    "skeleton": {"data": [{"frame_index": 1, "skeleton": [1]}]},
}


def test_bad_files_are_reported_and_the_rest_prepared(tmp_path: Path) -> None:
    long = frames(*[[body(0.1, 0.1, 1)]] * 12_000)
    labels = {name: label(0) for name in (*BAD, "good", "long", "gone")} | {"odd": label("x")}
    write(tmp_path, "train", {**BAD, "good": GOOD, "long": long, "odd": GOOD, "unnamed": GOOD}, labels)
    write(tmp_path, "val", {"good": GOOD}, {})
    status, out = run(tmp_path)
    prepared = open_prepared(out)
    assert status == 1 and prepared.name.tolist() == ["good", "long", "odd", "unnamed"]
    assert prepared.num_frame.tolist() == [2, 12_000, 2, 2]
    # A label that is none, and no label, leave the clip without one.
    assert prepared.label.tolist() == [0, 0, -1, -1]
    # Beside the bad files: a label of a file that is not there, one that is none, and a clip of both parts.
    assert len(read_report(out)) == len(BAD) + 3


@pytest.mark.parametrize("labels", ["", "[]", "[" * 10_000, None])
def test_labels_that_cannot_be_read_are_one_error(
    tmp_path: Path, labels: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "train", {"a": GOOD}, {})
    file = tmp_path / "kinetics_train_label.json"
    file.unlink() if labels is None else file.write_text(labels)
    assert run(tmp_path)[0] == 2
    said = capsys.readouterr().err
    assert str(file) in said and said.count("\n") == 1
    assert run(tmp_path / "none")[0] == 2 and run(tmp_path / "kinetics_train")[0] == 2


def test_a_published_recording(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    name = "kkwHdOvpCoc"
    recording = shared_data(f"formats/kinetics_skeleton_{name}.json")
    content = json.loads(recording.read_text())
    write(tmp_path, "val", {}, {name: label(content["label_index"], content["label"])})
    shutil.copy(recording, tmp_path / "kinetics_val" / f"{name}.json")
    status, out = run(tmp_path)
    prepared = open_prepared(out)
    assert status == 0 and prepared.num_frame.tolist() == [len(content["data"])]
    assert prepared.class_names[prepared.label[0]] == "cutting watermelon"
    # Slowly, body by body.
    tracks = rows(prepared, 0)
    for frame, about in enumerate(content["data"]):
        ranked = sorted(about["skeleton"], key=lambda each: -sum(each["score"]))[:2]
        for track, each in enumerate(ranked):
            for joint in range(V):
                score = each["score"][joint]
                x, y = each["pose"][2 * joint : 2 * joint + 2]
                expected = [x - 0.5, y - 0.5, score] if score else [0, 0, 0]
                np.testing.assert_allclose(tracks[track, frame, joint], expected, atol=1e-6)
        assert not tracks[len(ranked) :, frame].any()
    # y points down: the nose is above the neck.
    seen = tracks[0, :, [0, 1]][..., 2].all(0)
    assert seen.any() and np.median(tracks[0, seen, 0, 1] - tracks[0, seen, 1, 1]) < 0


def test_poses_that_are_no_object() -> None:
    for content in (None, 3, "text", {"data": "text"}, {"data": [3]}):
        with pytest.raises(RecordingError):
            tracks_of(content)
