"""Files are whole or not there, and an error to write says of which file."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from conftest import full_disk
from data_gen.export_numpy import export_npz
from data_gen.report import Report
from data_gen.synthetic import make
from feeder.prepared import open_prepared
from processor.figures import save_figure
from processor.io import save_scores, write_text
from torchlight.files import atomic_write, naming, sync_folder
from torchlight.log import RunLog, work_dir_lock


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_whole_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with atomic_write(str(path)) as file:
        file.write(b"newer")
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"
    assert names_in(tmp_path) == {"a.bin"}
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == {"a.bin"}


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom torchlight.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)"
    )
    path = tmp_path / "a.bin"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    assert not path.exists()
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert names_in(tmp_path) == {"a.bin"}


def write_line(folder: Path) -> None:
    with RunLog(folder, tensorboard=False, writer=True) as log:
        log.info("x" * 2000)


def write_row(folder: Path) -> None:
    with RunLog(folder, tensorboard=False, writer=True) as log:
        log.metrics(0, {f"metric_{number}": 1 / 3 for number in range(100)})


def write_report(folder: Path) -> None:
    report = Report(folder / "clips.h5")
    report.add("a" * 2000, None, "reason")
    report.write()


def write_scores(folder: Path) -> None:
    scores = np.zeros((100, 10), np.float32)
    arrays = {"name": np.arange(100), "label": np.zeros(100), "scores": scores, "class_name": np.arange(10)}
    save_scores(folder / "scores.npz", arrays)


def lock(folder: Path) -> None:
    with work_dir_lock(folder):
        pass


@pytest.mark.parametrize(
    ("write", "limit", "named"),
    [
        (write_line, 1000, "log.txt"),
        (write_row, 2800, "metrics.csv"),
        (write_report, 1000, "clips.h5.report.csv"),
        (write_scores, 1000, "scores.npz"),
        (lambda folder: write_text(folder / "config.yaml", "x" * 2000), 1000, "config.yaml"),
        (lambda folder: save_figure(Figure(), folder / "curves.png"), 1000, "curves.png"),
        (lock, 10, ".lock.holder"),
    ],
)
def test_a_full_disk_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture, write: Callable[[Path], None], limit: int, named: str
) -> None:
    """`capsys`, as what is printed goes to a file otherwise, that is full, too."""
    with full_disk(limit), pytest.raises(OSError, match=rf"{named} was not written: File too large"):
        write(tmp_path)
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_a_full_disk_says_where_an_export_or_a_synthetic_set_was_to_go(
    tmp_path: Path, tiny_data: Path
) -> None:
    source = open_prepared(tiny_data)
    with full_disk(1000), pytest.raises(OSError, match=r"xsub.npz was not written: File too large"):
        export_npz(source, "xsub", tmp_path, overwrite=False)
    with full_disk(1000), pytest.raises(OSError, match=r"raw was not written: File too large"):
        make(tmp_path / "raw", num_subject=3, num_replication=1, seed=0, num_worker=1, overwrite=False)
    assert names_in(tmp_path) == set()


def test_an_error_without_a_number_keeps_its_text(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a.bin was not written: no such luck"), naming(tmp_path / "a.bin"):
        raise OSError("no such luck")


def test_a_folder_that_cannot_be_opened_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "a folder")

    sync_folder(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    sync_folder(tmp_path)
