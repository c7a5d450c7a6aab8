"""The PKU-MMD command, run on small folders: what it cuts, finds, reports and refuses."""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import REFERENCE, read_report
from data_gen import parallel, pku_gen_preprocess
from data_gen.ntu_labels import DATA_SETS
from data_gen.pku_gen_preprocess import main
from data_gen.pku_labels import ACTIONS, parse_name, part_of
from data_gen.pku_sequence import Label, cut, parse_label, read_sequence
from data_gen.sources.pku import read_split
from feeder.label_map import read_label_map
from feeder.prepared import open_prepared
from feeder.recordings.pku import CHOICES, parse_poses
from feeder.recordings.recording import RecordingError

SCRIPT = Path(pku_gen_preprocess.__file__)
LABEL_MAP = SCRIPT.parents[1] / "config" / "label_map" / "ntu60_to_pku51.csv"
SKELETON, LABEL, SPLIT = "Data/PKU_Skeleton_Renew", "Label/Train_Label_PKU_final", "Split"


def make_poses(num_frame: int, seed: int = 0, num_body: int = 2) -> np.ndarray:
    """(T, 2, 25, 3), the second body zero if `num_body` is 1; the first has the larger spread."""
    poses = np.random.default_rng(seed).normal(size=(num_frame, 2, 25, 3)) * [[[2.0]], [[1.0]]]
    poses[:, num_body:] = 0
    return poses.round(4)


def to_text(poses: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savetxt(file, poses.reshape(len(poses), -1), "%.6f")
    return file.getvalue()


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def split_text(train: str, val: str) -> str:
    """As in the data set: misspelt, and with a comma at the end."""
    return f"Training videos: \n{train}, \nValidataion videos: \n{val}, \n"


SEQUENCES = {
    "0002-L": (make_poses(30, 1), "1,1,10,2\n51,11,30,2\n"),
    "0002-M": (make_poses(20, 2, num_body=1), "14,5,12,1\n"),
    "0003-R": (make_poses(12, 3), "8,2,3,2\n"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sequences of part I, with the data set's own folders."""
    root = tmp_path / "PKUMMD"
    for name, (poses, labels) in SEQUENCES.items():
        write(root / SKELETON / f"{name}.txt", to_text(poses))
        write(root / LABEL / f"{name}.txt", labels)
    write(root / SPLIT / "cross-subject.txt", split_text("0002-L, 0002-M", "0003-R"))
    write(root / SPLIT / "cross-view.txt", split_text("0002-L, 0003-R", "0002-M"))
    return root


def run(folder: Path, *options: str) -> tuple[int, Path]:
    out = folder.parent / "out" / "pku.h5"
    return main(["--data_path", str(folder), "--out", str(out), "--num_worker", "1", *options]), out


def splits_of(out: Path) -> dict[str, dict[str, list[int]]]:
    splits = open_prepared(out).splits
    return {name: {half: clips.tolist() for half, clips in halves.items()} for name, halves in splits.items()}


def test_prepares_part_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = run(folder)
    assert status == 0 and read_report(out) == []
    prepared = open_prepared(out)
    assert prepared.name.tolist() == ["0002-L_001", "0002-L_002", "0002-M_001", "0003-R_001"]
    assert [prepared.class_names[label] for label in prepared.label] == [
        "bow",
        "writing",
        "handshaking",
        "drink water",
    ]
    assert {key: values.tolist() for key, values in prepared.keys.items()} == {
        "sequence": [2, 2, 2, 3],
        "view": [1, 1, 2, 3],
        "action": [1, 51, 14, 8],
    }
    assert prepared.num_frame.tolist() == [10, 20, 8, 2] and prepared.num_body.tolist() == [2, 2, 1, 2]
    # Frames count from 1, and the last one belongs to the clip.
    cuts = {0: ("0002-L", 0, 10), 1: ("0002-L", 10, 30), 2: ("0002-M", 4, 12), 3: ("0003-R", 1, 3)}
    for clip, (name, start, end) in cuts.items():
        expected = SEQUENCES[name][0][start:end].swapaxes(0, 1)[: prepared.num_body[clip]]
        rows = expected.reshape(-1, 25, 3).astype(np.float32)
        np.testing.assert_array_equal(prepared.read(np.array([clip])), rows)
    assert splits_of(out) == {
        "xsub": {"train": [0, 1, 2], "val": [3]},
        "xview": {"train": [0, 1, 3], "val": [2]},
    }
    assert prepared.layout == "ntu-rgb+d" and prepared.frame_rate == 30
    assert prepared.attrs["source"] == "pku_part1" and prepared.attrs["bodies"] == "energy"
    said = capsys.readouterr().out
    assert "4 clips" in said and " clips/s" in said and "xsub   train        3" in said


def test_prepares_part_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "v2"
    for name in ("A10N08-L", "A01N13-R"):
        write(root / "skeleton" / f"{name}.txt", to_text(make_poses(9)))
        write(root / "label" / f"{name}.txt", "3,2,5\n4,5,8\n")
    write(root / "cross_subject_v2.txt", split_text("A01N13-R", "A10N08-L"))
    write(root / "cross_view_v2.txt", split_text("A10N08-L", "A01N13-R"))
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, SCRIPT, "--data_path", "v2"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[-1].split()[3:] == [
        *("-c", "config/pku/long_term_as_gcn.yaml"),
        *("data.path=data/pku_part2.h5", "data.val_by=subject", "benchmark=xsub"),
    ]
    prepared = open_prepared(tmp_path / "data" / "pku_part2.h5")
    assert prepared.name.tolist() == ["A01N13-R_001", "A01N13-R_002", "A10N08-L_001", "A10N08-L_002"]
    assert {key: values.tolist() for key, values in prepared.keys.items()} == {
        "sequence": [1, 1, 10, 10],
        "subject": [13, 13, 8, 8],
        "view": [3, 3, 1, 1],
        "action": [3, 4, 3, 4],
    }
    assert prepared.attrs["source"] == "pku_part2" and set(splits_of(prepared.path)) == {"xsub", "xview"}


@pytest.mark.parametrize(
    ("skeleton", "label", "split"),
    [
        ("skeleton", "label", "."),
        ("Data", "Label", "Split"),
        ("Datav2/Skeleton", "Labelv2", "Spliv2"),
        ("PKU_Skeleton_Renew/test", "Label_PKU_final/test", "Split-2025/Split"),
        ("skeleton_and_label/skeleton", "skeleton_and_label/label", "skeleton_and_label"),
    ],
)
def test_finds_the_files_in_any_folders(tmp_path: Path, skeleton: str, label: str, split: str) -> None:
    root = tmp_path / "pku_label_data"
    write(root / skeleton / "0002-L.txt", to_text(make_poses(5)))
    write(root / label / "0002-L.txt", "1,1,5,2")
    write(root / split / "Cross_View.txt", split_text("0002-L", ""))
    write(root / "README.txt", "not looked at")
    status, out = run(root)
    assert status == 0 and read_report(out) == [] and open_prepared(out).num_frame.tolist() == [5]


def test_folders_of_their_own(folder: Path) -> None:
    """Each may lie elsewhere, under a name that says something else."""
    elsewhere = folder.parent
    moved = {"skeleton": ("label_1", SKELETON), "label": ("skeleton_1", LABEL), "split": ("s", SPLIT)}
    options = []
    for kind, (name, old) in moved.items():
        (folder / old).rename(elsewhere / name)
        options += [f"--{kind}_path", str(elsewhere / name)]
        assert run(folder, *options, "--overwrite")[0] == 0
    out = elsewhere / "out" / "all.h5"
    assert main([*options, "--out", str(out)]) == 0 and len(open_prepared(out)) == 4


def test_a_body_that_no_frame_of_the_cut_has_is_left_out() -> None:
    poses = make_poses(8)
    poses[:4, 0] = 0
    poses[6:] = 0
    label = Label(1, action=1, first=1, last=4)
    for bodies in CHOICES:
        tracks = cut(poses.astype(np.float32), label, bodies=bodies)
        np.testing.assert_array_equal(tracks, poses[:4, 1:].swapaxes(0, 1).astype(np.float32))
        # In some frames it is absent alone: there it is zero.
        whole = cut(poses.astype(np.float32), label._replace(last=8), bodies=bodies)
        assert whole.shape == (2, 8, 25, 3) and not whole[:, 6:].any()


def test_the_order_of_two_bodies() -> None:
    poses = make_poses(6)[:, ::-1].astype(np.float32)
    label = Label(1, action=1, first=2, last=6)
    as_given = poses[1:].swapaxes(0, 1)
    np.testing.assert_array_equal(cut(poses, label, bodies="first"), as_given)
    np.testing.assert_array_equal(cut(poses, label, bodies="energy"), as_given[::-1])


def test_bodies_are_an_option(folder: Path) -> None:
    poses = make_poses(3)[:, ::-1]
    write(folder / SKELETON / "0003-R.txt", to_text(poses))
    for bodies, first in (("first", 0), ("energy", 1)):
        _, out = run(folder, "--bodies", bodies, "--overwrite")
        prepared = open_prepared(out)
        assert prepared.attrs["bodies"] == bodies
        np.testing.assert_array_equal(
            prepared.read(np.array([3]))[:2], poses[1:, first].astype(np.float32), err_msg=bodies
        )


GOOD = to_text(make_poses(3))


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        GOOD.rstrip(),
        GOOD + b"\n \n",
        GOOD.replace(b"\n", b" \r\n"),
        GOOD.replace(b"\n", b"\r"),
        GOOD.replace(b" ", b"\t "),
        GOOD.replace(b"0 ", b"0e0 "),
    ],
    ids=["plain", "no last end", "blank end", "blanks and CRLF", "CR", "tabs", "exponents"],
)
def test_reads_poses(data: bytes) -> None:
    poses = parse_poses(data)
    assert poses.dtype == np.float32
    np.testing.assert_array_equal(poses, make_poses(3).astype(np.float32))


ROWS = GOOD.splitlines()


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b" \n", None, "no frames"),
        (b"\n".join([ROWS[0], ROWS[1].rsplit(b" ", 1)[0], ROWS[2]]), 2, "149 values; a frame has 150"),
        (b"\n".join(row + b" 1" for row in ROWS), 1, "151 values"),
        (b"\n".join([ROWS[0], b"", ROWS[2]]), 2, "0 values"),
        (b"\n".join([ROWS[0], b"# " + ROWS[1], ROWS[2]]), 2, "151 values"),
        (b"\n".join([ROWS[0], ROWS[1] + b" # 2", ROWS[2]]), 2, "152 values"),
        (b"\n".join([*ROWS[:2], ROWS[2].rsplit(b" ", 1)[0] + b" x1"]), 3, "'x1' is not a number"),
        (b"\n".join([*ROWS[:2], ROWS[2].rsplit(b" ", 1)[0] + b" nan"]), 3, "'nan' is not a finite number"),
        (b"\n".join([*ROWS[:2], ROWS[2].rsplit(b" ", 1)[0] + b" 1e39"]), 3, "'1e39' is not a finite number"),
        (b"\xff\xfe" + GOOD, 1, "is not a number"),
        (GOOD[: -len(ROWS[2]) // 2], 3, "values; a frame has 150"),
    ],
    ids=[
        "empty",
        "short",
        "long",
        "blank",
        "comment",
        "comment behind",
        "letters",
        "NaN",
        "huge",
        "binary",
        "cut short",
    ],
)
def test_bad_poses_say_where(data: bytes, line: int | None, reason: str) -> None:
    with pytest.raises(RecordingError) as error:
        parse_poses(data)
    assert error.value.line == line and reason in error.value.reason


@pytest.mark.parametrize(
    "row", [b"7,12,30,2", b"7, 12, 30, 2\r", b"7 12 30 2", b"7,12,30", b"7.0,12.0,30,0.5"]
)
def test_reads_a_label(row: bytes) -> None:
    assert parse_label(row, 4) == Label(4, action=7, first=12, last=30)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"7,12", "2 values; a label is action, first frame, last frame, confidence"),
        (b"7,12,30,2,1", "5 values"),
        (b"7,,30,2", "'' is not a number"),
        (b"7,12,x,2", "'x' is not a number"),
        (b"7,12,inf,2", "'inf' is not a finite number"),
        (b"7,12,30,nan", "'nan' is not a finite number"),
        (b"7,12.5,30,2", "not whole numbers"),
        (b"0,12,30,2", "action 0; actions are 1 to 51"),
        (b"52,12,30,2", "action 52; actions are 1 to 51"),
        (b"7,30,12,2", "ends in frame 12, before its first, 30"),
    ],
)
def test_a_bad_label_says_why(row: bytes, reason: str) -> None:
    with pytest.raises(RecordingError) as error:
        parse_label(row, 4)
    assert error.value.line == 4 and reason in error.value.reason


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        (7, 9, "frames 7 to 9 lie outside the sequence's 6"),
        (-4, -2, "frames -4 to -2 lie outside"),
        (5, 6, "none of the frames 5 to 6 has a body"),
    ],
)
def test_a_cut_without_a_frame_or_a_body_is_refused(first: int, last: int, reason: str) -> None:
    poses = make_poses(6).astype(np.float32)
    poses[4:] = 0
    with pytest.raises(RecordingError) as error:
        cut(poses, Label(2, 1, first, last), bodies="energy")
    assert error.value.line == 2 and reason in error.value.reason


def test_a_label_past_the_sequence_is_cut_short_and_reported(tmp_path: Path) -> None:
    paths = (
        write(tmp_path / "s.txt", to_text(make_poses(9))),
        write(tmp_path / "l.txt", "1,0,4\n\n2,6,12,2\n"),
    )
    clips, problems = read_sequence(paths, bodies="energy")
    assert [(clip.line, clip.action, clip.tracks.shape[1]) for clip in clips] == [(1, 1, 4), (3, 2, 4)]
    np.testing.assert_array_equal(clips[1].tracks[0], make_poses(9)[5:, 0].astype(np.float32))
    assert problems == [
        (paths[1], 1, "frames 0 to 4 were cut to those of the sequence, 1 to 9", True),
        (paths[1], 3, "frames 6 to 12 were cut to those of the sequence, 1 to 9", True),
    ]


def test_files_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    good = write(tmp_path / "s.txt", GOOD)
    for paths, bad in (((tmp_path / "no.txt", good), 0), ((good, tmp_path / "no.txt"), 1)):
        clips, problems = read_sequence(paths, bodies="energy")
        assert clips == [] and problems == [(paths[bad], None, "No such file or directory", False)]
    empty = write(tmp_path / "l.txt", "\n")
    assert read_sequence((good, empty), bodies="energy") == ([], [(empty, None, "no labels", False)])
    empty.write_text("0,1,2")
    assert [problem.line for problem in read_sequence((good, empty), bodies="energy")[1]] == [1]


def test_what_is_bad_is_reported_and_the_rest_prepared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / SKELETON / "0004-L.txt", GOOD)
    write(folder / SKELETON / "0005-L.txt", b"1 2\n" + GOOD)
    write(folder / LABEL / "0005-L.txt", "1,1,2,2\n")
    write(folder / SKELETON / "0006-L.txt", GOOD)
    write(folder / LABEL / "0006-L.txt", "1,1,2,2\n")
    write(folder / LABEL / "0007-L.txt", "1,1,2,2\n")
    write(folder / LABEL / "0002-L.txt", "1,1,10,2\n52,1,10,2\n2,31,40\n3,25,40\n")
    listed = "0002-L, 0002-M, 0004-L, 0005-L"
    write(folder / SPLIT / "cross-subject.txt", split_text(listed, "0003-R, 0008-M"))
    write(folder / SPLIT / "cross-view.txt", split_text(listed, ""))
    status, out = run(folder)
    assert status == 1
    xsub, xview = (folder / SPLIT / f"cross-{name}.txt" for name in ("subject", "view"))
    assert [
        (str(Path(file).relative_to(folder)), line, reason) for file, line, reason in read_report(out)
    ] == [
        (f"{SKELETON}/0003-R.txt", "", f"not in {xview}: in no part of xview"),
        (f"{SKELETON}/0004-L.txt", "", "no label file 0004-L.txt"),
        (f"{SKELETON}/0005-L.txt", "1", "2 values; a frame has 150"),
        (f"{SKELETON}/0006-L.txt", "", f"not in {xsub}: in no part of xsub"),
        (f"{SKELETON}/0006-L.txt", "", f"not in {xview}: in no part of xview"),
        (f"{LABEL}/0002-L.txt", "2", "action 52; actions are 1 to 51"),
        (f"{LABEL}/0002-L.txt", "3", "frames 31 to 40 lie outside the sequence's 30"),
        (f"{LABEL}/0002-L.txt", "4", "frames 25 to 40 were cut to those of the sequence, 1 to 30"),
        (f"{LABEL}/0007-L.txt", "", "no skeleton file 0007-L.txt"),
        (f"{SPLIT}/cross-subject.txt", "4", "no skeleton file 0008-M.txt"),
    ]
    prepared = open_prepared(out)
    assert prepared.name.tolist() == ["0002-L_001", "0002-L_004", "0002-M_001", "0003-R_001"]
    assert prepared.attrs["num_bad"] == 9
    # A sequence is in the benchmarks that list it.
    assert splits_of(out) == {
        "xsub": {"train": [0, 1, 2], "val": [3]},
        "xview": {"train": [0, 1, 2], "val": []},
    }
    said = capsys.readouterr().out
    assert "6 sequences, 1 of them without labels" in said and "left out: 9 bad; 1 used with a remark" in said
    assert run(folder, "--overwrite", "--max_bad", "8")[0] == 1
    assert run(folder, "--overwrite", "--max_bad", "9")[0] == 0


def test_any_number_of_processes_writes_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 1)
    written = []
    for num_worker in ("1", "2"):
        _, out = run(folder, "--num_worker", num_worker, "--overwrite")
        written.append(out.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "text",
    [
        split_text("0002-L, 0002-M", "A10N08-R"),
        "Training videos:\r\n0002-L,0002-M\r\nValidation videos:\r\nA10N08-R\r\n",
        "\ufefftrain: 0002-L\n0002-M.txt\n\nTesting videos\nA10N08-R",
    ],
    ids=["as published", "spelt", "a name per line"],
)
def test_reads_a_split_file(tmp_path: Path, text: str) -> None:
    lines = read_split(write(tmp_path / "cross-view.txt", text)).lines
    assert {half: list(names) for half, names in lines.items()} == {
        "train": ["0002-L", "0002-M"],
        "val": ["A10N08-R"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0002-L\n", "cross-view.txt line 1: '0002-L' is not .* below a line 'Training videos:'"),
        ("Training videos:\n0002-L\nEval videos:\n0003-L", "cross-view.txt line 3: 'Eval' is not"),
        ("Training videos:\n0002\n", "line 2: '0002' is not a sequence's name like 0002-L"),
        (split_text("0002-L, 0003-L", "0003-L"), "lists 0003-L for training and for validation"),
    ],
    ids=["no heading", "another heading", "not a name", "in both"],
)
def test_a_bad_split_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_split(write(tmp_path / "cross-view.txt", text))


def test_a_missing_split_file_leaves_its_benchmark_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / SPLIT / "cross-view.txt").unlink()
    # That of the other part is no use.
    write(folder / SPLIT / "cross_view_v2.txt", split_text("A10N08-L", "A10N08-M"))
    status, out = run(folder)
    assert status == 0 and set(splits_of(out)) == {"xsub"}
    said = capsys.readouterr().out
    assert f"no cross-view list of part 1 below --data_path {folder}: no benchmark xview" in said
    (folder / SPLIT / "cross-subject.txt").unlink()
    assert run(folder, "--overwrite")[0] == 2
    assert "no split file such as cross-subject.txt" in capsys.readouterr().err


def test_two_split_files_must_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / SPLIT / "cross-view.txt").read_text()
    copy = write(folder / "copies" / "cross_view.txt", text)
    assert run(folder)[0] == 0
    copy.write_text(split_text("0002-M", "0002-L, 0003-R"))
    assert run(folder, "--overwrite")[0] == 2
    assert "different cross-view lists" in capsys.readouterr().err
    assert run(folder, "--overwrite", "--split_path", str(folder / SPLIT))[0] == 0


def test_a_folder_of_both_parts_needs_the_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--part", "2")[0] == 2
    assert "--part 2, but the skeleton files are of part 1" in capsys.readouterr().err
    write(folder / "v2" / "skeleton" / "A10N08-L.txt", GOOD)
    write(folder / "v2" / "label" / "A10N08-L.txt", "1,1,2,2\n")
    write(folder / "v2" / "cross_subject_v2.txt", split_text("A10N08-L", ""))
    assert run(folder)[0] == 2 and "--part" in capsys.readouterr().err
    for part, num_clip in (("1", 4), ("2", 1)):
        status, out = run(folder, "--part", part, "--overwrite")
        assert status == 0 and len(open_prepared(out)) == num_clip and read_report(out) == []


def test_two_files_of_a_sequence_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, used in (("skeleton", SKELETON), ("label", LABEL)):
        copy = write(folder / f"old_{kind}" / "0002-L.txt", GOOD)
        assert run(folder, "--overwrite")[0] == 2
        said = capsys.readouterr().err
        assert f"0002-L has two {kind} files" in said and f"--{kind}_path" in said
        assert run(folder, f"--{kind}_path", str(folder / used), "--overwrite")[0] == 0
        copy.unlink()


def test_nothing_to_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "PKUMMD"
    assert run(folder)[0] == 2 and "--data_path" in (said := capsys.readouterr().err)
    assert "is not a folder" in said
    write(folder / LABEL / "0002-L.txt", "1,1,2,2\n")
    assert run(folder)[0] == 2 and "no skeleton file such as 0002-L.txt" in capsys.readouterr().err
    (folder / SKELETON).mkdir(parents=True)
    write(folder / LABEL / "README.txt", "not a label file")
    (folder / LABEL / "0002-L.txt").rename(folder / SKELETON / "0002-L.txt")
    assert run(folder)[0] == 2 and "no label file such as 0002-L.txt" in capsys.readouterr().err
    write(folder / LABEL / "0002-L.txt", "1,1,2,2\n")
    write(folder / SPLIT / "cross-view.txt", split_text("0002-L", ""))
    status, out = run(folder)
    assert status == 2 and "no clip of pku_part1 can be used; the first, " in capsys.readouterr().err
    assert not out.exists() and len(read_report(out)) == 1


def test_what_exists_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(folder)
    before = out.stat().st_ino
    assert run(folder)[0] == 2 and out.stat().st_ino == before
    assert "--overwrite" in capsys.readouterr().err
    assert run(folder, "--overwrite")[0] == 0 and out.stat().st_ino != before


@pytest.mark.parametrize(
    "options", [["--data_path", "x", "--num_worker", "0"], ["--skeleton_path", "x", "--label_path", "x"]]
)
def test_options_that_do_not_do(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)


def test_names() -> None:
    assert (part_of("0002-L"), part_of("A10N08-M"), part_of("002-L")) == (1, 2, None)
    assert part_of("0002-X") is None and part_of("0002-L_001") is None
    assert parse_name("0364-R") == {"sequence": 364, "view": 3}
    assert parse_name("A10N08-M") == {"sequence": 10, "subject": 8, "view": 2}
    with pytest.raises(ValueError, match="'README' is not a sequence's name"):
        parse_name("README")


def test_the_real_sample(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Made-up labels on a real sequence: the whole of it, and parts."""
    sample = shared_data("pku_sample/A10N08-L.txt")
    poses = np.loadtxt(sample).reshape(-1, 2, 25, 3).astype(np.float32)
    root = tmp_path / "PKUMMD"
    write(root / "label" / "A10N08-L.txt", "1,1,1040,2\n2,100,150,1\n")
    write(root / "cross_subject_v2.txt", split_text("A10N08-L", ""))
    status, out = run(root, "--skeleton_path", str(sample.parent), "--bodies", "first")
    assert status == 0
    prepared = open_prepared(out)
    assert prepared.num_frame.tolist() == [1040, 51]
    for clip, cut_out in enumerate((poses, poses[99:150])):
        tracks = cut_out.swapaxes(0, 1)
        tracks = tracks[tracks.any((1, 2, 3))]
        np.testing.assert_array_equal(prepared.read(np.array([clip])), tracks.reshape(-1, 25, 3))
    # Metres, y up, in the layout's order: the head is above the hips, and these above the feet.
    height = dict(zip(prepared.skeleton.joints, np.median(poses[:, 0, :, 1], axis=0), strict=True))
    assert 0.4 < height["head"] - height["hip centre"] < 1
    assert 0.5 < height["hip centre"] - height["left foot"] < 1.2


def reference_rows() -> list[dict[str, str]]:
    path = REFERENCE / "ntu60_to_pku51.csv"
    if not path.exists():
        pytest.skip(f"{path} not found (set LONGSKEL_REFERENCE)")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def label_map() -> list[dict[str, str]]:
    with LABEL_MAP.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_label_map_is_well_formed() -> None:
    ntu = DATA_SETS["ntu60"].class_names
    table, _ = read_label_map(LABEL_MAP, ntu, num_class=len(ACTIONS))
    assert len(ACTIONS) == len(set(ACTIONS)) == 51
    # Each of PKU's actions but one has one of NTU's, so ten of those are left out.
    assert (table < 0).sum() == 10
    targets = sorted(table[table >= 0].tolist())
    assert targets == sorted({*range(51)} - {ACTIONS.index("take out something from pocket")})
    for row in label_map():
        assert ACTIONS[int(row["target"])] == row["pku_name"]
    same = {source for source, name in enumerate(ntu) if name in ACTIONS}
    assert len(same) > 40 and all(ACTIONS[table[source]] == ntu[source] for source in same)


def test_the_label_map_is_the_published_one() -> None:
    published = {int(row["ntu_action"][1:]) - 1: row for row in reference_rows() if row["ntu_action"]}
    rows = {int(row["source"]): row for row in label_map()}
    assert rows.keys() == published.keys()
    for source, row in rows.items():
        assert row["target"] == published[source]["pku_label"]


def test_action_names_are_those_of_the_data_set() -> None:
    assert [row["pku_name"] for row in reference_rows()] == list(ACTIONS)
