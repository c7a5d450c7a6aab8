"""The report of skipped input, and how commands end."""

import csv
import os
import signal
from pathlib import Path

import pytest

from data_gen.report import Report, run_command


def test_rows_are_sorted_and_quoted(tmp_path: Path) -> None:
    report = Report(tmp_path / "new" / "a.h5")
    report.add("b", 10, 'says "no", twice\nover')
    report.add(Path("b"), 2, "ü")
    report.add("a", None, "shorter", mended=True)
    report.add(b"\xff".decode(errors="surrogateescape"), None, "odd name")
    report.write()
    with (tmp_path / "new" / "a.h5.report.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "line", "reason"],
        ["a", "", "shorter"],
        ["b", "2", "ü"],
        ["b", "10", 'says "no", twice\nover'],
        ["\\udcff", "", "odd name"],
    ]
    assert (report.num_bad, report.num_mended) == (3, 1)
    assert [report.exit_status(max_bad) for max_bad in (0, 2, 3)] == [1, 1, 0]
    assert os.listdir(tmp_path / "new") == ["a.h5.report.csv"]


def test_a_report_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert len(os.listdir(tmp_path)) == 1
        raise OSError(28, "disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"a.report.csv was not written: No space left"):
        Report(tmp_path / "a").write()
    assert os.listdir(tmp_path) == []


def test_an_empty_report_replaces_an_old_one(tmp_path: Path) -> None:
    old = Report(tmp_path / "a")
    old.add("x", None, "y")
    old.write()
    Report(tmp_path / "a").write()
    assert old.path.read_text().split() == ["file,line,reason"]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "disk is full"), 2, "error: [Errno 28] disk is full\n"),
        (ValueError("no good"), 2, "error: no good\n"),
        (KeyboardInterrupt(), 130, "interrupted; no output was written\n"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture
) -> None:
    def fail() -> int:
        raise error

    assert run_command(fail) == status
    assert capsys.readouterr().err == said


def test_other_errors_are_not_hidden() -> None:
    def fail() -> int:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_command(fail)
    assert run_command(lambda: 1) == 1


def test_sigterm_unwinds() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: os.kill(os.getpid(), signal.SIGTERM) or 0)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
