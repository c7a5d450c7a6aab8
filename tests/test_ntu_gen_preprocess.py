"""The NTU command, run on small folders: what it writes, reports, refuses and leaves behind."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from raw_skeleton import make_frames, to_text

from conftest import REFERENCE
from data_gen import ntu_gen_preprocess, parallel
from data_gen.ntu_labels import ACTIONS, DATA_SETS, SUBJECTS_60, SUBJECTS_120
from data_gen.sources import ntu
from feeder.prepared import open_prepared
from feeder.recordings.bodies import CHOICES
from feeder.recordings.ntu import parse_skeleton

SCRIPT = Path(ntu_gen_preprocess.__file__)
NAMES = ("S001C001P001R001A001", "S001C002P003R002A060", "S017C003P002R001A050", "S002C003P040R001A002")


def make_raw(folder: Path, names: tuple[str, ...] = NAMES) -> dict[str, bytes]:
    """Files of 1 to 2 bodies and 13 frames on; the last one in a folder of its own."""
    generator = np.random.default_rng(0)
    files = {}
    for index, name in enumerate(names):
        frames = make_frames(generator, [*generator.integers(0, 3, 12 + index).tolist(), 2])
        path = folder / ("deeper" if index == len(names) - 1 else "") / f"{name}.skeleton"
        path.parent.mkdir(parents=True, exist_ok=True)
        files[name] = to_text(frames, end="\r\n" if index % 2 else "\n")
        path.write_bytes(files[name])
    return files


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    make_raw(tmp_path / "raw")
    return tmp_path / "raw"


def run(raw: Path, out: Path, *options: str) -> int:
    return ntu_gen_preprocess.main(
        ["--data_path", str(raw), "--out", str(out), "--num_worker", "1", *options]
    )


def report(out: Path) -> list[list[str]]:
    with Path(f"{out}.report.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("bodies", CHOICES)
def test_prepares_every_clip_in_order_of_names(tmp_path: Path, bodies: str) -> None:
    files = make_raw(tmp_path / "raw")
    out = tmp_path / "data" / "made.h5"
    assert run(tmp_path / "raw", out, "--bodies", bodies) == 0
    prepared = open_prepared(out)
    assert prepared.name.tolist() == sorted(NAMES)
    for clip, name in enumerate(prepared.name):
        tracks = CHOICES[bodies](parse_skeleton(files[name]))
        assert (prepared.num_body[clip], prepared.num_frame[clip]) == tracks.shape[:2]
        np.testing.assert_array_equal(prepared.read(np.array([clip])), tracks.reshape(-1, 25, 3))
    assert prepared.label.tolist() == [0, 59, 1, 49]
    assert {key: values.tolist() for key, values in prepared.keys.items()} == {
        "setup": [1, 1, 2, 17],
        "camera": [1, 2, 3, 3],
        "subject": [1, 3, 40, 2],
        "replication": [1, 2, 1, 1],
        "action": [1, 60, 2, 50],
    }
    splits = {
        name: {part: c.tolist() for part, c in parts.items()} for name, parts in prepared.splits.items()
    }
    assert splits == {
        "xsub": {"train": [0, 3], "val": [1, 2]},
        "xview": {"train": [1, 2, 3], "val": [0]},
    }
    assert prepared.class_names == list(ACTIONS[:60]) and prepared.layout == "ntu-rgb+d"
    assert prepared.frame_rate == 30
    assert prepared.attrs["bodies"] == bodies and prepared.attrs["source"] == "ntu60"
    assert report(out) == [["file", "line", "reason"]]
    assert sorted(os.listdir(out.parent)) == ["made.h5", "made.h5.report.csv"]


def test_real_files(shared_data, tmp_path: Path) -> None:
    out = tmp_path / "ntu60.h5"
    assert run(shared_data("ntu_raw"), out) == 0
    prepared = open_prepared(out)
    assert len(prepared) == 12 and prepared.num_body.tolist() == [1] * 6 + [2, 1, 2, 1, 2, 2]


def test_any_number_of_processes_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 2)
    make_raw(tmp_path / "raw", tuple(f"S001C00{c}P0{p}R001A001" for c in (1, 2, 3) for p in range(10, 17)))
    (tmp_path / "raw" / "S001C001P010R001A002.skeleton").write_text("broken")
    written = []
    for num_worker in ("1", "2", "3"):
        out = tmp_path / f"{num_worker}.h5"
        assert run(tmp_path / "raw", out, "--num_worker", num_worker) == 1
        written.append((out.read_bytes(), report(out)))
    assert written[0] == written[1] == written[2]


def test_ntu_120_is_known_by_action_or_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for extra, data_set in (
        ("", "ntu60"),
        ("S018C001P001R001A001", "ntu120"),
        ("S001C001P045R001A061", "ntu120"),
    ):
        raw = tmp_path / f"raw{extra}"
        make_raw(raw, (*NAMES, extra) if extra else NAMES)
        assert ntu_gen_preprocess.main(["--data_path", str(raw), "--overwrite"]) == 0
        prepared = open_prepared(tmp_path / "data" / f"{data_set}.h5")
        assert prepared.attrs["source"] == data_set
        assert len(prepared.class_names) == DATA_SETS[data_set].num_class
    assert prepared.name[2] == "S001C001P045R001A061" or prepared.name[1] == "S001C001P045R001A061"
    assert {name: parts["train"].tolist() for name, parts in prepared.splits.items()} == {
        "xsub": [0, 1, 4],
        "xset": [3],
    }


def test_the_data_set_can_be_told(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "a.h5"
    assert run(raw, out, "--dataset", "ntu120") == 0
    assert set(open_prepared(out).splits) == {"xsub", "xset"}
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[3:] == [
        *("-c", "config/ntu/long_term_as_gcn.yaml"),
        *(f"data.path={out}", "data.num_class=120", "benchmark=xsub"),
    ]
    make_raw(raw, ("S018C001P001R001A061",))
    assert run(raw, out, "--dataset", "ntu60", "--overwrite") == 0
    assert len(open_prepared(out)) == 4
    assert "1 not of ntu60" in capsys.readouterr().out


def test_bad_files_are_listed_and_the_rest_prepared(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sound = (raw / f"{NAMES[0]}.skeleton").read_bytes()
    lines = sound.splitlines()
    joint = lines.index(b"25") + 1
    spoilt = [*lines[:joint], b"nan" + lines[joint], *lines[joint + 1 :]]
    bad = {
        "S001C001P001R001A002": (lines[:100], "100", "ends where"),
        "S001C001P001R001A003": ([], "", "ends where"),
        "S001C001P001R001A004": (spoilt, str(joint + 1), "'nan"),
        "S001C001P001R001A005": ([b"1", b"0"], "", "none of the 1 frames has a body"),
        "S001C001P001R001A006": ([lines[0], b"7", *lines[2:]], "2", "7 bodies"),
        "S001C001P001R001A121": (lines, "", "action 121"),
        "S033C001P001R001A001": (lines, "", "setup 33"),
        "S000C001P001R001A001": (lines, "", "setup 0"),
        "S001C001P001R001A001_rgb": (lines, "", "is not a clip's name"),
        "hello": (lines, "", "'hello' is not a clip's name"),
        f"twice/{NAMES[0]}": (lines, "", "the same clip as"),
    }
    for name, (content, _, _) in bad.items():
        path = raw / f"{name}.skeleton"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\r\n".join(content))
    (raw / "S001C001P001R001A007.skeleton").symlink_to("nowhere")
    os.mkfifo(raw / "S001C001P001R001A008.skeleton")
    (raw / "notes.txt").write_text("not looked at")
    out = tmp_path / "a.h5"
    assert run(raw, out, "--max_bad", "12") == 1
    assert open_prepared(out).name.tolist() == sorted(NAMES)
    header, *rows = report(out)
    assert header == ["file", "line", "reason"] and rows == sorted(rows)
    found = {file: (line, reason) for file, line, reason in rows}
    assert len(found) == len(rows) == 13
    for name, (_, line, reason) in bad.items():
        assert found[str(raw / f"{name}.skeleton")][0] == line
        assert reason in found[str(raw / f"{name}.skeleton")][1]
    assert found[str(raw / "S001C001P001R001A007.skeleton")] == ("", "No such file or directory")
    assert found[str(raw / "S001C001P001R001A008.skeleton")] == ("", "not a regular file")
    assert open_prepared(out).attrs["num_bad"] == 13
    output = capsys.readouterr().out
    assert f"13 bad ({out}.report.csv)" in output
    assert run(raw, out, "--max_bad", "13", "--overwrite") == 0


def test_huge_files_are_not_read(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {path.stem: path.stat().st_size for path in raw.rglob("*.skeleton")}
    monkeypatch.setattr(ntu, "MAX_BYTES", min(sizes.values()))
    assert run(raw, tmp_path / "a.h5") == 1
    assert open_prepared(tmp_path / "a.h5").name.tolist() == [min(sizes, key=lambda name: sizes[name])]
    rows = report(tmp_path / "a.h5")[1:]
    assert len(rows) == 3 and all("larger than" in reason for _, _, reason in rows)


def test_ends_with_counts_beside_the_official_ones(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(raw, tmp_path / "a.h5")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:6] == [
        ["split", "part", "clips", "official"],
        ["xsub", "train", "2", "40,091"],
        ["xsub", "val", "2", "16,487"],
        ["xview", "train", "3", "37,646"],
        ["xview", "val", "1", "18,932"],
    ]


def test_ignored_clips_are_left_out(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ignored = tmp_path / "missing.txt"
    ignored.write_text(f"302 samples:\r\n{NAMES[0]}\r\n{NAMES[2]}.skeleton\nS001C001P001R001A009\n")
    out = tmp_path / "a.h5"
    assert run(raw, out, "--ignored_sample_path", str(ignored)) == 0
    assert open_prepared(out).name.tolist() == [NAMES[1], NAMES[3]]
    assert open_prepared(out).attrs["num_ignored"] == 2
    assert "2 ignored" in capsys.readouterr().out
    ignored.write_text("S1C1P1R1A1\n")
    assert run(raw, out, "--ignored_sample_path", str(ignored), "--overwrite") == 2
    assert "has no clip's name" in capsys.readouterr().err
    for option, value, said in (
        ("--ignored_sample_path", str(tmp_path / "none.txt"), "there is no file"),
        ("--max_bad", "-1", "is -1; give 0 or more"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(raw, out, option, value, "--overwrite")
        assert f"argument {option}: {said}" in capsys.readouterr().err


def test_an_existing_output_is_kept_before_any_work(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(ntu, "read_file", lambda *_, **__: pytest.fail("worked"))
    out = tmp_path / "a.h5"
    out.write_text("precious")
    assert run(tmp_path / "not looked at", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    out.rename(tmp_path / "data" / "ntu60.h5")
    assert ntu_gen_preprocess.main(["--data_path", str(raw)]) == 2
    assert (tmp_path / "data" / "ntu60.h5").read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data_path", "nowhere"], "--data_path nowhere is not a folder"),
        (["--data_path", "empty"], "no .skeleton file in --data_path empty"),
        (["--data_path", "odd"], "no clip of ntu60 can be used; the first, "),
    ],
)
def test_nothing_to_prepare(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("odd").mkdir()
    Path("odd", f"{NAMES[0]}.skeleton").touch()
    assert ntu_gen_preprocess.main([*options, "--out", "a.h5", "--num_worker", "1"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("a.h5").exists()


def test_the_number_of_workers_is_checked(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(raw, tmp_path / "a.h5", "--num_worker", "0")
    assert "--num_worker 0: give 1 or more" in capsys.readouterr().err


def test_ctrl_c_leaves_all_as_it_was(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out" / "a.h5"
    assert run(raw, out) == 0
    before = out.read_bytes()

    def interrupt(path: Path, *, bodies: str) -> np.ndarray:
        if path.stem == NAMES[2]:
            raise KeyboardInterrupt
        return np.zeros((1, 1, 25, 3))

    monkeypatch.setattr(ntu, "read_file", interrupt)
    assert run(raw, out, "--overwrite") == 130
    assert "no output was written" in capsys.readouterr().err
    assert out.read_bytes() == before and len(list(out.parent.iterdir())) == 2


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_workers_too(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    (tmp_path / "raw").mkdir()
    long_clip = tmp_path / "long"
    long_clip.write_bytes(to_text(make_frames(np.random.default_rng(0), [2] * 300)))
    for subject in range(1, 600):
        (tmp_path / "raw" / f"S001C001P{subject:03}R001A001.skeleton").symlink_to(long_clip)
    out = tmp_path / "out" / "a.h5"
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--data_path", tmp_path / "raw", "--out", out, "--num_worker", "2"],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while not out.parent.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, sent)
    _, said = process.communicate(timeout=300)
    assert process.returncode == status and b"Traceback" not in said
    assert list(out.parent.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_runs_as_a_script_from_anywhere(raw: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--data_path", "raw"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(open_prepared(tmp_path / "data" / "ntu60.h5")) == 4


def test_official_facts_add_up() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 120
    assert (len(SUBJECTS_60), len(SUBJECTS_120)) == (20, 53)
    for data_set, num_clip in (("ntu60", 56_880 - 302), ("ntu120", 114_480 - 535)):
        assert all(sum(split.official) == num_clip for split in DATA_SETS[data_set].splits.values())


def test_action_names_are_those_of_the_data_set() -> None:
    path = REFERENCE / "ntu60_to_pku51.csv"
    if not path.exists():
        pytest.skip(f"{path} not found (set LONGSKEL_REFERENCE)")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ntu_action"] not in ("", "A025")]
    assert len(rows) > 40
    for row in rows:
        assert row["pku_name"] in ACTIONS[int(row["ntu_action"][1:]) - 1]
