"""What a run writes: lines, a table that may grow and shrink, events, and whose work_dir it is."""

import csv
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torchlight import log
from torchlight.log import RunLog, WorkDirInUse, progress, work_dir_lock


def table(work_dir: Path) -> list[dict[str, str]]:
    with (work_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_lines_go_to_the_console_and_to_a_file_that_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for text in ("first", "sécond"):
        with RunLog(tmp_path / "new", tensorboard=False, writer=True) as run_log:
            run_log.info(text)
        run_log.info("after the end")
    lines = (tmp_path / "new" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line[20:] for line in lines] == ["first", "sécond"]
    assert all(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in lines)
    assert capsys.readouterr().out.splitlines() == lines


def test_rows_keep_every_digit_and_columns_may_grow(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False, writer=True) as run_log:
        run_log.metrics(0, {"loss": 1 / 3, "lr": 1e-5})
        run_log.metrics(1, {"loss": 0.25, "lr": 1e-5})
        run_log.metrics(2, {"top1": 1, "loss": float("nan")})
        run_log.metrics(3, {"loss": 12345.678})
    assert table(tmp_path) == [
        {"epoch": "1", "loss": repr(1 / 3), "lr": "1e-05", "top1": ""},
        {"epoch": "2", "loss": "0.25", "lr": "1e-05", "top1": ""},
        {"epoch": "3", "loss": "nan", "lr": "", "top1": "1"},
        {"epoch": "4", "loss": "12345.678", "lr": "", "top1": ""},
    ]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[0].endswith("epoch 1: loss 0.3333, lr 1e-05")
    assert lines[3].endswith("epoch 4: loss 12346")


def test_a_resumed_run_forgets_the_epochs_it_will_repeat(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False, writer=True) as run_log:
        run_log.truncate_after(4)  # nothing there yet
        for epoch in range(5):
            run_log.metrics(epoch, {"loss": epoch})
    with RunLog(tmp_path, tensorboard=False, writer=True) as run_log:
        run_log.truncate_after(2)
        assert [row["loss"] for row in table(tmp_path)] == ["0", "1", "2"]
        run_log.metrics(3, {"loss": 30})
    assert [row["loss"] for row in table(tmp_path)] == ["0", "1", "2", "30"]
    with RunLog(tmp_path, tensorboard=False, writer=True) as run_log:
        run_log.truncate_after(-1)
    assert table(tmp_path) == []


def test_a_row_that_a_killed_process_left_half_written_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"epoch,loss\r\n1,0.5\r\n2,0.")
    with RunLog(tmp_path, tensorboard=False, writer=True) as run_log:
        run_log.truncate_after(1)
        run_log.metrics(1, {"loss": 0.25})
    assert path.read_bytes() == b"epoch,loss\r\n1,0.5\r\n2,0.25\r\n"


def test_an_empty_table_is_begun(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").touch()
    with RunLog(tmp_path, tensorboard=False, writer=True) as run_log:
        run_log.metrics(0, {"loss": 1})
    assert table(tmp_path) == [{"epoch": "1", "loss": "1"}]


def test_only_the_writer_writes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,1\n2,2\n")
    with RunLog(tmp_path, tensorboard=True, writer=False) as run_log:
        run_log.info("hello")
        run_log.metrics(5, {"loss": 1})
        run_log.truncate_after(0)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    assert len(table(tmp_path)) == 2
    assert capsys.readouterr().out == ""


def test_events_hold_the_curves_without_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, tensorboard=True, writer=True) as run_log:
        for epoch in range(3):
            run_log.metrics(epoch, {"loss": epoch, "top1": 0.5})
    with RunLog(tmp_path, tensorboard=True, writer=True) as run_log:
        run_log.truncate_after(0)
        run_log.metrics(1, {"loss": 10})
        # not closed yet, as in a run that is killed
        events = EventAccumulator(str(tmp_path)).Reload()
    assert [(point.step, point.value) for point in events.Scalars("loss")] == [(1, 0.0), (2, 10.0)]
    assert [point.step for point in events.Scalars("top1")] == [1]


def test_events_without_the_package_are_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        RunLog(tmp_path / "x", tensorboard=True, writer=True)
    RunLog(tmp_path / "x", tensorboard=False, writer=True).close()


HOLD = """
import sys, time
from torchlight.log import work_dir_lock
with work_dir_lock(sys.argv[1]):
    child = __import__("os").fork() if len(sys.argv) > 2 else 1
    if child:
        print("held", child, flush=True)
    time.sleep(60)
"""


def hold(work_dir: Path, *args: str) -> tuple[subprocess.Popen, int]:
    command = [sys.executable, "-c", HOLD, str(work_dir), *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline().split()
    assert said[0] == "held"
    return process, int(said[1])


def test_a_work_dir_in_use_says_by_whom_and_is_free_when_that_one_is_killed(tmp_path: Path) -> None:
    process, child = hold(tmp_path, "and fork")
    try:
        with (
            pytest.raises(
                WorkDirInUse, match=rf"is in use by process {process.pid} on \S+ since 20\d\d-.*; wait"
            ),
            work_dir_lock(tmp_path),
        ):
            pass
        (tmp_path / ".lock.holder").write_text("")
        with pytest.raises(WorkDirInUse, match="is in use by another process; wait"), work_dir_lock(tmp_path):
            pass
        process.kill()
        process.wait()
        # a worker process of the killed one may linger; it does not hold the work_dir
        os.kill(child, 0)
        with work_dir_lock(tmp_path):
            pass
    finally:
        process.kill()
        os.kill(child, 9)
    with work_dir_lock(tmp_path):
        assert (tmp_path / ".lock.holder").read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / ".lock.holder").exists()


def test_progress_hands_through_and_is_silent_off_a_terminal(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(progress(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress("abc", "letters")) == ["a", "b", "c"]
    assert "letters" in capsys.readouterr().err
    monkeypatch.setattr(log.distributed, "is_main", lambda: False)
    assert list(progress("abc", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
