import csv
import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import main as recognise
from conftest import read_report
from data_gen import custom_gen_preprocess
from data_gen.clip_table import draw_split, given_splits, number_labels, number_subjects, read_table
from data_gen.custom_gen_preprocess import main
from feeder.prepared import NO_LABEL, Prepared, PreparedWriter, open_prepared
from feeder.recordings.array import read_tracks
from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton
from processor import neighbours
from processor.metrics import knn_scores

SCRIPT = Path(custom_gen_preprocess.__file__)
LAYOUT = """\
joints: [pelvis, head, left hand, right hand]
parents: [pelvis, pelvis, pelvis, pelvis]
centre: pelvis
pairs: [[left hand, right hand]]
"""
V = 4


def poses(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that text of 4 digits holds exactly enough."""
    return np.random.default_rng(seed).normal(size=(*shape, V, 3)).round(4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One clip of each kind, a layout file and a table."""
    clips = tmp_path / "clips"
    (clips / "deep").mkdir(parents=True)
    np.save(clips / "a.npy", poses(5, seed=1).astype(np.float32))
    np.save(clips / "deep" / "b.npy", poses(2, 3, seed=2))
    (clips / "c.json").write_text(json.dumps(poses(2, seed=3).tolist()))
    rows = poses(2, 4, seed=4).swapaxes(0, 1).reshape(4, -1)
    with (clips / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows.tolist())
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    write_table(
        tmp_path,
        "file,label,subject",
        "a.npy,wave,ann",
        "deep/b.npy,jump,bob",
        "c.json,wave,cy",
        "d.csv,jump,ann",
    )
    return tmp_path


def write_table(folder: Path, *lines: str) -> None:
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(folder: Path, *options: str) -> tuple[int, Path]:
    out = folder / "out" / "my.h5"
    paths = ["--table", str(folder / "table.csv"), "--data_path", str(folder / "clips"), "--out", str(out)]
    return main([*paths, "--layout", str(folder / "layout.yaml"), "--num_worker", "1", *options]), out


def splits(prepared: Prepared) -> dict[str, dict[str, list[int]]]:
    return {name: {part: c.tolist() for part, c in parts.items()} for name, parts in prepared.splits.items()}


def test_prepares_every_kind_of_file(folder: Path) -> None:
    status, out = run(folder, "--frame_rate", "25")
    assert status == 0 and read_report(out) == []
    prepared = open_prepared(out)
    assert prepared.name.tolist() == ["a.npy", "deep/b.npy", "c.json", "d.csv"]
    assert prepared.class_names == ["jump", "wave"] and prepared.label.tolist() == [1, 0, 1, 0]
    assert prepared.keys["subject"].tolist() == [1, 2, 3, 1]
    assert prepared.num_body.tolist() == [1, 2, 1, 2] and prepared.num_frame.tolist() == [5, 3, 2, 4]
    for clip, expected in enumerate(
        (poses(5, seed=1), poses(2, 3, seed=2), poses(2, seed=3), poses(2, 4, seed=4))
    ):
        rows = prepared.read(np.array([clip]))
        np.testing.assert_array_equal(rows, expected.reshape(-1, V, 3).astype(np.float32))
    assert prepared.layout == "layout" and prepared.skeleton.swap == (0, 1, 3, 2)
    assert prepared.frame_rate == 25


def test_a_named_layout_millimetres_and_a_script(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    given = np.random.default_rng(0).integers(-2000, 2000, (3, 17, 3))
    for name in "ab":
        np.save(tmp_path / "clips" / f"{name}.npy", given)
    write_table(tmp_path, "subject,file,label", "1,a.npy,0", "2,b.npy,1")
    command = [
        sys.executable,
        str(SCRIPT),
        "--table",
        "table.csv",
        "--data_path",
        "clips",
        "--layout",
        "coco",
    ]
    command += ["--out", "my.h5", "--unit", "mm"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    prepared = open_prepared(tmp_path / "my.h5")
    np.testing.assert_allclose(prepared.read(np.array([1])), given / 1000, atol=1e-6)
    assert prepared.layout == "coco" and prepared.class_names == ["0", "1"]


def test_without_a_split_column_subjects_are_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(folder, "--seed", "3")
    said = capsys.readouterr().out
    prepared = open_prepared(out)
    parts = splits(prepared)["xsub"]
    subject = prepared.keys["subject"]
    held_out = set(subject[parts["val"]])
    assert len(held_out) == 1 and held_out.isdisjoint(subject[parts["train"]])
    assert sorted(parts["train"] + parts["val"]) == [0, 1, 2, 3]
    assert f"(--seed 3) and held out: subjects {['ann', 'bob', 'cy'][held_out.pop() - 1]}\n" in said


def test_a_draw_is_by_seed_and_fraction() -> None:
    subject = np.repeat(np.arange(10), 3)
    draws = {seed: draw_split(subject, fraction=0.3, seed=seed)[1] for seed in range(8)}
    assert draw_split(subject, fraction=0.3, seed=0)[1] == draws[0]
    assert len({tuple(draw) for draw in draws.values()}) > 4
    assert {len(draw) for draw in draws.values()} == {3}
    assert len(draw_split(subject, fraction=0.01, seed=0)[1]) == 1
    assert len(draw_split(subject, fraction=0.99, seed=0)[1]) == 9
    with pytest.raises(ValueError, match="one subject"):
        draw_split(np.ones(4), fraction=0.5, seed=0)


def test_split_columns(folder: Path) -> None:
    write_table(
        folder,
        "file,label,subject,split_xsub,split_xview,split_all",
        "a.npy,1,1,train,train,train",
        "deep/b.npy,0,2,val,,val",
        "c.json,1,3,train,test,test",
        "d.csv,0,1,train,test,train",
    )
    _, out = run(folder)
    assert splits(open_prepared(out)) == {
        "xsub": {"train": [0, 2, 3], "val": [1]},
        "xview": {"train": [0], "val": [2, 3]},
        "all": {"train": [0, 3], "val": [2]},
        "all_val": {"train": [0, 3], "val": [1]},
    }


def test_clips_without_a_label_train_in_every_benchmark(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(
        folder,
        "file,label,subject,split_a,split_b",
        "a.npy,,1,test,",
        "deep/b.npy,wave,2,train,train",
        "c.json,wave,3,test,val",
        "d.csv,,1,,train",
    )
    _, out = run(folder)
    prepared = open_prepared(out)
    assert prepared.label.tolist() == [-1, 0, 0, -1] and prepared.class_names == ["wave"]
    expected = {"train": [0, 1, 3], "val": [2]}
    assert splits(prepared) == {"a": expected, "b": expected}
    assert "without a label: 2 clips" in capsys.readouterr().out
    # Subjects are drawn among those of the labelled clips.
    write_table(folder, "file,label,subject", "a.npy,,1", "deep/b.npy,wave,2", "c.json,wave,3", "d.csv,,2")
    _, out = run(folder, "--overwrite")
    parts = splits(open_prepared(out))["xsub"]
    assert {0, 3} < set(parts["train"]) and len(parts["val"]) == 1


def test_a_table_without_any_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder, "file,label,subject", "a.npy,,1", "c.json,,1")
    status, out = run(folder)
    prepared = open_prepared(out)
    assert status == 0 and prepared.class_names == [] and prepared.label.tolist() == [-1, -1]
    assert splits(prepared) == {"all": {"train": [0, 1], "val": []}}
    assert "main.py pretrain" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("label", ["", "wave"])
def test_clips_without_a_label_pre_train_by_the_printed_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    """Without a label nothing is tested; with labels in both parts, unlabelled clips are no neighbours."""
    lines = [f"a.npy,{label},ann", "deep/b.npy,,bob", f"c.json,{label},cy", "d.csv,,ann"]
    write_table(folder, "file,label,subject", *lines)
    assert run(folder)[0] == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    if label:
        command[2:5] = ["pretrain", "-c", "config/custom/pretrain_aimclr.yaml"]
    assert command[:5] == ["python", "main.py", "pretrain", "-c", "config/custom/pretrain_aimclr.yaml"]
    monkeypatch.chdir(Path(recognise.__file__).parent)
    known: list[int] = []

    def watched(features: Tensor, label: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        known.extend(label.tolist())
        return knn_scores(features, label, *args, **kwargs)

    monkeypatch.setattr(neighbours, "knn_scores", watched)
    work = folder / "work"
    small = ["num_epoch=1", "optim.warmup_epoch=0", "model_args.hidden_channels=8", "model_args.hidden_dim=8"]
    assert recognise.main([*command[2:], *small, "-w", str(work)]) == 0
    result = json.loads((work / "result.json").read_text())
    assert result["num_train_clip"] == 4 - bool(label) and result.get("part") == ("test" if label else None)
    assert known == [0] * bool(label)
    assert ("knn_top1" in result) == bool(label) and (work / "best.pt").exists()
    if not label:
        capsys.readouterr()
        assert recognise.main([*command[2:], *small, "select=test", "--overwrite", "-w", str(work)]) == 1
        assert "select=last" in capsys.readouterr().err


def write_clip(
    path: Path, *, channels: str = "xyz", unit: str = "m", frame_rate: float, num_clip: int = 1
) -> None:
    """A prepared file of clips, which state their channels and frame rate."""
    skeleton = get_skeleton("coco")
    with PreparedWriter(
        path,
        skeleton=skeleton,
        class_names=[],
        frame_rate=frame_rate,
        bodies="made",
        source="made",
        channels=channels,
        unit=unit,
    ) as writer:
        for number in range(num_clip):
            tracks = np.arange(1.0, 6.0).reshape(1, 5, 1, 1) * np.ones((17, len(channels)))
            writer.append(str(number), NO_LABEL, tracks)
        writer.finish({})


def test_clips_agree_with_the_first_in_channels_and_frame_rate(folder: Path) -> None:
    clips = folder / "clips"
    write_clip(clips / "a.h5", channels="xyc", unit="picture", frame_rate=25)
    write_clip(clips / "b.h5", channels="xyc", unit="picture", frame_rate=25)
    write_clip(clips / "slow.h5", channels="xyc", unit="picture", frame_rate=12.5)
    write_clip(clips / "space.h5", frame_rate=25)
    write_clip(clips / "pixels.h5", channels="xyc", unit="px", frame_rate=25)
    write_clip(clips / "many.h5", channels="xyc", unit="picture", frame_rate=25, num_clip=2)
    others = ["slow.h5,0,1", "space.h5,0,1", "pixels.h5,0,1", "many.h5,0,1", "a.npy,0,1"]
    write_table(folder, "file,label,subject", "none.npy,0,1", "a.h5,0,1", "b.h5,0,2", *others)
    status, out = run(folder, "--layout", "coco")
    prepared = open_prepared(out)
    assert status == 1 and prepared.name.tolist() == ["a.h5", "b.h5"]
    assert (prepared.channels, prepared.unit, prepared.frame_rate) == ("xyc", "picture", 25)
    assert len(read_report(out)) == 6
    # What is wanted is made of all.
    _, out = run(folder, "--layout", "coco", "--frame_rate", "25", "--overwrite")
    prepared = open_prepared(out)
    assert prepared.name.tolist() == ["a.h5", "b.h5", "slow.h5"] and prepared.num_frame.tolist() == [5, 5, 9]
    np.testing.assert_allclose(prepared.read(np.array([2]))[:, 0, 0], np.arange(1, 5.5, 0.5))


def test_options_say_how_clips_are_read(folder: Path) -> None:
    poses = np.random.default_rng(0).uniform(0.1, 1, (9, V, 3)).astype(np.float32)
    gap = poses.copy()
    gap[4, 1] = np.nan
    for number, name in enumerate(("a", "b")):
        arrays = {"times": np.arange(9), "poses": (poses if number == 0 else gap).transpose(1, 2, 0)}
        np.savez(folder / "clips" / f"{name}.npz", **arrays)
    write_table(folder, "file,label,subject", "a.npz,0,1", "b.npz,1,2")
    status, out = run(folder, "--axes", "vct", "--variable", "poses", "--max_gap", "3", "--held_out", "0.5")
    assert status == 0
    prepared = open_prepared(out)
    found = prepared.read(np.arange(2)).reshape(2, 9, V, 3)
    np.testing.assert_array_equal(found[0], poses)
    np.testing.assert_allclose(found[1, 4, 1], (poses[3, 1] + poses[5, 1]) / 2, rtol=1e-5)
    (row,) = [row for row in read_report(out) if row[0].endswith("b.npz")]
    assert "1 interpolated" in row[2]


def test_one_class_is_nothing_to_recognise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder, "file,label,subject", "a.npy,0,1", "c.json,0,2")
    assert run(folder)[0] == 0
    assert "main.py pretrain " in capsys.readouterr().out


def test_a_file_that_states_another_layout_is_reported(folder: Path) -> None:
    write_clip(folder / "clips" / "coco.h5", frame_rate=30)
    write_table(folder, "file,label,subject", "a.npy,0,1", "c.json,0,2", "coco.h5,0,3")
    status, out = run(folder)
    assert status == 1 and open_prepared(out).name.tolist() == ["a.npy", "c.json"]
    assert "'coco'" in read_report(out)[0][2]


def test_splits_count_the_clips_that_could_be_used(folder: Path) -> None:
    lines = ["file,label,subject,split_x", "a.npy,1,1,train", "none.npy,0,2,train", "c.json,0,3,test"]
    write_table(folder, *lines)
    status, out = run(folder)
    assert status == 1 and splits(open_prepared(out)) == {"x": {"train": [0], "val": [1]}}
    assert run(folder, "--overwrite", "--max_bad", "1")[0] == 0


def test_val_clips_do_not_stand_in_for_test_clips_that_cannot_be_used() -> None:
    words = {"x": ["train", "val", "test"]}
    with pytest.raises(ValueError, match="'x' has no usable test clips"):
        given_splits(words, [0, 1])
    with pytest.raises(ValueError, match="'x' has no usable train clips"):
        given_splits(words, [1, 2])
    with pytest.raises(ValueError, match="rename"):
        given_splits({"x": ["train", "val", "test"], "x_val": ["train", "val", ""]}, [0, 1, 2])
    with pytest.raises(ValueError, match="rename"):
        given_splits({"x_val": ["train", "val", ""], "x": ["train", "val", "test"]}, [0, 1, 2])


def test_labels() -> None:
    assert number_labels(["b", "", "a"], None) == ([1, -1, 0], ["a", "b"])
    assert number_labels(["", "2"], None, first_label=2) == ([-1, 0], ["2"])
    assert number_labels(["", ""], None) == ([-1, -1], [])
    assert number_labels([""], ["a"]) == ([-1], ["a"])
    assert number_labels(["2", "0"], None) == ([2, 0], ["0", "1", "2"])
    assert number_labels(["b", "a", "b"], None) == ([1, 0, 1], ["a", "b"])
    assert number_labels(["b", "3"], ["3", "b"]) == ([1, 0], ["3", "b"])
    assert number_labels(["b", "b"], ["c", "b"]) == ([1, 1], ["c", "b"])
    assert number_labels(["1"], ["c", "b"]) == ([1], ["c", "b"])
    for cells, names, message in (
        (
            ["1", "2"],
            None,
            "from 1 to 2, .*classes count from 0; if 1 is the first class, give --first_label 1",
        ),
        (["1", "2"], ["a", "b"], "0 to 1; give --first_label 1"),
        (["0", "1.5"], None, "label '0': "),
        (["0", "100000000"], None, "from 0 to 100000000, .*; number the classes"),
        (["-1", "1", "0"], None, "label '-1': .*whole numbers from 0"),
        (["wave", "7"], None, "label '7': "),
        (["0", "2"], ["a", "b"], "label 2, .* 0 to 1"),
        (["wavee"], ["wave", "jump"], "'wavee' is not in --class_names; did you mean 'wave'"),
    ):
        with pytest.raises(ValueError, match=message):
            number_labels(cells, names)


def test_labels_from_another_number_on() -> None:
    assert number_labels(["3", "1"], None, first_label=1) == ([2, 0], ["1", "2", "3"])
    assert number_labels(["2", "1"], ["a", "b"], first_label=1) == ([1, 0], ["a", "b"])
    assert number_labels(["2.0", "0.0"], None) == ([2, 0], ["0", "1", "2"])
    for cells, names, message in (
        (["0", "1"], None, "label 0, but --first_label is 1"),
        (["2", "3"], None, "if 2 is the first class, give --first_label 2"),
        (["1", "3"], ["a", "b"], "label 3, but --class_names .* 1 to 2"),
        (["wave", "jump"], None, "--first_label 1 is for labels that are numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            number_labels(cells, names, first_label=1)


def test_a_set_with_labels_from_1_is_prepared_where_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(folder, "file,label,subject", "a.npy,1,1", "c.json,2,2")
    assert run(folder)[0] == 2 and "--first_label 1" in capsys.readouterr().err
    status, out = run(folder, "--first_label", "1")
    assert status == 0
    assert (open_prepared(out).label.tolist(), open_prepared(out).class_names) == ([0, 1], ["1", "2"])
    with pytest.raises(SystemExit):
        run(folder, "--first_label", "-1")
    assert "--first_label -1: give 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_a_table_of_another_program(folder: Path, separator: str, slash: str) -> None:
    """Semicolons or tabs for commas, which may stand in a cell; backslashes in paths, as on Windows."""
    lines = ["file,label,subject,notes", "a.npy,wave,ann,", f"deep{slash}b.npy,jump,bob,"]
    others = {",": ";", ";": ",", "\t": ",;"}[separator]
    write_table(folder, *(line.replace(",", separator) + others for line in lines))
    table = read_table(folder / "table.csv")
    assert (table.file, table.subject) == (["a.npy", "deep/b.npy"], ["ann", "bob"])
    status, out = run(folder)
    assert status == 0 and open_prepared(out).name.tolist() == ["a.npy", "deep/b.npy"]


def test_subjects() -> None:
    assert number_subjects(["7", "0", "7"]) == [7, 0, 7]
    assert number_subjects(["bob", "7", "ann"]) == [3, 1, 2]
    assert number_subjects(["9" * 30, "1"]) == [2, 1]


def test_class_names_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = folder / "names.txt"
    names.write_text("\ufeffwave\n\nrun\njump\n", encoding="utf-8")
    _, out = run(folder, "--class_names", str(names))
    assert open_prepared(out).class_names == ["wave", "run", "jump"]
    assert open_prepared(out).label.tolist() == [0, 2, 0, 2]
    for text, message in (
        ("", "0 names"),
        ("a\na\n", "2 names, 1 of them different"),
        ("wave\n", "'jump' is not in"),
    ):
        names.write_text(text)
        assert run(folder, "--overwrite", "--class_names", str(names))[0] == 2
        assert message in capsys.readouterr().err


GOOD = "a.npy,0,1"
BAD_TABLES = {
    "empty": ([], "lists no clip"),
    "header alone": (["file,label,subject"], "lists no clip"),
    "no subject": (["file,label", "a.npy,0"], "has no column subject; its columns are ['file', 'label']"),
    "spaces": (["file label subject", "a.npy 0 1"], "has no column file, label, subject"),
    "a column twice": (["file,label,subject,label", "a.npy,0,1,0"], "two columns"),
    "a column misnamed": (["file,label,subject,split-xsub", "a.npy,0,1,train"], "split_BENCHMARK"),
    "a column of no benchmark": (["file,label,subject,split_", "a.npy,0,1,train"], "split_BENCHMARK"),
    "a slash": (["file,label,subject,split_a/b", "a.npy,0,1,train"], "split_BENCHMARK"),
    "too few cells": (["file,label,subject", GOOD, "c.json,0"], "line 3: 2 cells, but 3 columns"),
    "an empty cell": (["file,label,subject", GOOD, "c.json,1,"], "line 3: subject is empty"),
    "a file twice": (["file,label,subject", GOOD, "x/../a.npy,0,2"], "line 3: file a.npy is also in line 2"),
    "an unknown word": (["file,label,subject,split_x", GOOD + ",training"], "line 2: split_x is 'training'"),
    "nothing held out": (["file,label,subject,split_x", GOOD + ",train"], "usable val clips"),
    "one subject": (["file,label,subject", GOOD, "c.json,0,1"], "all clips are of one subject"),
    "labels from 1": (["file,label,subject", "a.npy,1,1", "c.json,2,2"], "number the classes 0, 1, 2"),
    "a quote": (["file,label,subject", '"a.npy,0,1'], "is not a table with columns"),
}


@pytest.mark.parametrize(("lines", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_bad_table_stops_at_once(
    folder: Path, lines: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(folder, *lines)
    status, out = run(folder)
    assert status == 2 and message in capsys.readouterr().err
    assert not out.parent.exists()


def test_a_table_of_excel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "file,label,subject,notes\r\n a.npy , 0 ,1,x\r\n\r\nc.json,1,2,\r\n"
    (folder / "table.csv").write_bytes(text.encode("utf-8-sig"))
    assert read_table(folder / "table.csv").file == ["a.npy", "c.json"]
    assert run(folder)[0] == 0 and "columns not used: notes" in capsys.readouterr().out
    (folder / "table.csv").write_bytes("file,label,subject\nb\xe4r.npy,0,1\n".encode("latin-1"))
    assert run(folder, "--overwrite")[0] == 2 and "UTF-8" in capsys.readouterr().err


class Touch:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def test_bad_clips_say_what_is_wrong(tmp_path: Path) -> None:
    def bad(name: str, reason: str) -> None:
        with pytest.raises(RecordingError) as error:
            read_tracks(tmp_path / name, num_joint=V, scale=1.0)
        assert reason in str(error.value)

    bad("none.npy", "No such file")
    bad("clip.bvh", "'.bvh' is not one of .npy, .npz, .mat, .json, .csv")
    shapes = {
        "joints": (3, V + 1, 3),
        "channels": (3, V, 2),
        "flat": (V, 3),
        "five": (1, 1, 3, V, 3),
        "no": (0, V, 3),
    }
    for name, shape in shapes.items():
        np.save(tmp_path / f"{name}.npy", np.ones(shape))
        bad(f"{name}.npy", f"shape {shape}; needed is (frames, 4, 3)")
    one = np.ones((2, V, 3))
    for name, value in (("nan", np.nan), ("inf", np.inf), ("large", 1e60)):
        array = one.copy()
        array[1, 2, 0] = value
        np.save(tmp_path / f"{name}.npy", array)
        bad(f"{name}.npy", "NaN, infinite or too large")
    np.save(tmp_path / "zero.npy", one * 0)
    bad("zero.npy", "every joint is at the origin")
    np.save(tmp_path / "words.npy", np.full((2, V, 3), "x"))
    bad("words.npy", "not an array of numbers")
    np.save(tmp_path / "pickled.npy", np.array([[1, 2], None], dtype=object), allow_pickle=True)
    bad("pickled.npy", "not an array of numbers")
    (tmp_path / "code.npy").write_bytes(pickle.dumps(Touch(str(tmp_path / "touched"))))
    bad("code.npy", "not an array of numbers")
    assert not (tmp_path / "touched").exists()
    (tmp_path / "short.npy").write_bytes((tmp_path / "zero.npy").read_bytes()[:-8])
    bad("short.npy", "not an array of numbers")
    np.savez(tmp_path / "archive.npz", one)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    bad("archive.npy", "not an array of numbers")
    for name, text in (("text", "hello"), ("deep", "[" * 100_000)):
        (tmp_path / f"{name}.json").write_text(text)
        bad(f"{name}.json", "not JSON")
    for name, text in (
        ("object", "{}"),
        ("ragged", "[[[1, 2, 3]], []]"),
    ):
        (tmp_path / f"{name}.json").write_text(text)
        bad(f"{name}.json", "not an array of numbers")
    (tmp_path / "columns.csv").write_text("1,2,3\n4,5,6\n")
    bad("columns.csv", "a row has 3 numbers, not 12 for each body")
    (tmp_path / "word.csv").write_text(",".join(["1"] * 11 + ["x"]) + "\n")
    bad("word.csv", "row 1")
    (tmp_path / "long.csv").write_text("1" * 200_000)
    bad("long.csv", "not an array of numbers: field larger")
    (tmp_path / "empty.csv").write_text("")
    bad("empty.csv", "no row of numbers")


def test_a_header_in_a_csv_and_absent_bodies(tmp_path: Path) -> None:
    row = list(range(1, 13))
    (tmp_path / "a.csv").write_text(
        ",".join(f"joint {n}" for n in range(24)) + "\n" + ",".join(map(str, row + [0] * 12)) + "\n"
    )
    tracks = read_tracks(tmp_path / "a.csv", num_joint=V, scale=0.5)
    np.testing.assert_array_equal(tracks, np.array(row, float).reshape(1, 1, V, 3) / 2)
    first_absent = np.zeros((3, 2, V, 3))
    first_absent[1] = 1
    np.save(tmp_path / "b.npy", first_absent)
    np.testing.assert_array_equal(read_tracks(tmp_path / "b.npy", num_joint=V, scale=1.0), first_absent[:2])


def test_bad_clips_are_reported_and_the_rest_prepared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "clips" / "deep" / "b.npy", np.ones((3, V + 1, 3)))
    (folder / "clips" / "c.json").unlink()
    status, out = run(folder)
    said = capsys.readouterr().err
    assert status == 2 and "one subject" in said and f"2 bad inputs were skipped before, see {out}" in said
    assert not out.exists()
    np.save(folder / "clips" / "deep" / "b.npy", np.ones((3, V, 3)))
    status, out = run(folder)
    assert status == 1 and open_prepared(out).name.tolist() == ["a.npy", "deep/b.npy", "d.csv"]
    assert [(Path(file).name, line) for file, line, _ in read_report(out)] == [("c.json", "")]
    assert open_prepared(out).attrs["num_bad"] == 1


def last_line(folder: Path, capsys: pytest.CaptureFixture[str], count: int, rare: int) -> list[str]:
    """What the command says last of so many clips by four people, `rare` of them of one class: words."""
    lines = []
    for number in range(count):
        name = f"{number} of 24.npy"
        np.save(folder / "clips" / name, poses(20, seed=number))
        lines.append(f"{name},{'jump' if number < rare else 'wave'},subject {number % 4}")
    write_table(folder, "file,label,subject", *lines)
    assert run(folder)[0] == 0
    return shlex.split(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def small_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that keep a run small, to be added in the repository's root."""
    monkeypatch.chdir(Path(recognise.__file__).parent)
    small = ["model_args.hidden_channels=8", "model_args.hidden_dim=8"]
    return [*small, "--debug", "-w", str(folder / "work")]


@pytest.mark.parametrize(("count", "rare", "balanced"), [(24, 7, False), (24, 4, True), (8, 4, False)])
def test_the_last_line_trains_on_what_was_made(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    small_run: list[str],
    count: int,
    rare: int,
    balanced: bool,
) -> None:
    """Of four people three train, with three quarters of each class."""
    command = last_line(folder, capsys, count, rare)
    assert command[:5] == ["python", "main.py", "recognition", "-c", "config/custom/st_gcn.yaml"]
    assert ("data.balanced=true" in command) == balanced
    assert not any(word.startswith(("data.val_", "optim", "select")) for word in command)
    assert recognise.main([*command[2:], *small_run]) == 0


@pytest.mark.parametrize(
    ("processor", "name"), [("recognition", "long_term_st_gcn"), ("prediction", "predict")]
)
def test_the_last_line_s_settings_fit_other_configs_for_own_data(
    folder: Path, capsys: pytest.CaptureFixture[str], small_run: list[str], processor: str, name: str
) -> None:
    settings = last_line(folder, capsys, 24, 4)[5:]
    assert recognise.main([processor, "-c", f"config/custom/{name}.yaml", *settings, *small_run]) == 0


def test_no_clip_can_be_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder, "file,label,subject", "x.npy,0,1", "y.npy,1,2")
    status, out = run(folder)
    message = capsys.readouterr().err
    assert status == 2 and "can be used; the first, " in message and "x.npy: No such file" in message
    assert not out.exists() and len(read_report(out)) == 2


def test_what_exists_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(folder)
    before = out.stat().st_ino
    assert run(folder)[0] == 2 and out.stat().st_ino == before
    assert "--overwrite" in capsys.readouterr().err
    assert run(folder, "--overwrite")[0] == 0 and out.stat().st_ino != before


@pytest.mark.parametrize(
    "option", ["--num_worker=0", "--seed=-1", "--held_out=1", "--held_out=nan", "--frame_rate=0", "--unit=ft"]
)
def test_options_out_of_range(folder: Path, option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(folder, option)


def test_paths_that_do_not_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--layout", "kinect")[0] == 2 and "unknown layout 'kinect'" in capsys.readouterr().err
    for option in ("--table", "--class_names"):
        with pytest.raises(SystemExit, match="2"):
            run(folder, option, "none.csv")
        assert f"argument {option}: there is no file none.csv" in capsys.readouterr().err
    assert run(folder, "--data_path", "none")[0] == 2 and "is not a folder" in capsys.readouterr().err
