"""The ordered map over processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from data_gen import parallel
from data_gen.parallel import ordered_map


def leave_mark(path: Path) -> int:
    path.touch()
    return os.getpid()


def leave_mark_and_much(path: Path) -> bytes:
    """More than a pipe holds, so that the worker waits."""
    path.touch()
    return bytes(1 << 20)


def die_of_one(number: int) -> None:
    if number == 1:
        os._exit(3)


def odd_ones_are_slow(number: int) -> int:
    time.sleep(0.002 * (number % 2))
    return -number


@pytest.mark.parametrize("num_worker", [1, 2, 3])
def test_order_is_kept(num_worker: int) -> None:
    assert list(ordered_map(odd_ones_are_slow, range(100), num_worker=num_worker)) == [-n for n in range(100)]
    assert list(ordered_map(odd_ones_are_slow, [], num_worker=num_worker)) == []


def test_work_is_done_elsewhere_unless_there_is_one_worker(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(60)]
    assert set(ordered_map(leave_mark, paths, num_worker=1)) == {os.getpid()}
    elsewhere = set(ordered_map(leave_mark, paths, num_worker=2))
    assert len(elsewhere) == 2 and os.getpid() not in elsewhere


def test_only_a_few_items_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 2)
    results = ordered_map(
        leave_mark_and_much, [tmp_path / str(number) for number in range(100)], num_worker=2
    )
    next(results)
    time.sleep(0.3)
    assert 3 <= len(list(tmp_path.iterdir())) <= 8
    results.close()
    assert multiprocessing.active_children() == []
    assert len(list(tmp_path.iterdir())) <= 8


def test_a_lost_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 1)
    with pytest.raises(ChildProcessError, match="a worker process was killed"):
        list(ordered_map(die_of_one, [0, 1], num_worker=2))


def test_workers_end_though_their_parent_ignores_the_signal(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        results = ordered_map(leave_mark_and_much, [tmp_path / "a"] * 100, num_worker=2)
        next(results)
        results.close()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_worker", [1, 2])
def test_errors_of_the_function_come_out(monkeypatch: pytest.MonkeyPatch, num_worker: int) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 1)
    with pytest.raises(ValueError, match="invalid literal"):
        list(ordered_map(int, ["3", "4", "x", "5"], num_worker=num_worker))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("hook", "result"),
    [
        ("after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT)", "KeyboardInterrupt"),
        ("after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM)", "ChildProcessError"),
    ],
)
@pytest.mark.parametrize("threads", [0, 1])
def test_signals_within_fork_are_not_lost(tmp_path: Path, hook: str, result: str, threads: int) -> None:
    """Whether the system hands them to the main thread or another."""
    code = f"""
        import os, signal, sys, threading
        from pathlib import Path
        sys.path[:0] = sys.argv[2:]
        from data_gen.parallel import ordered_map
        from test_parallel import leave_mark
        for _ in range({threads}):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        os.register_at_fork({hook})
        try:
            print(len(list(ordered_map(leave_mark, [Path(sys.argv[1])] * 100, num_worker=3))))
        except BaseException as error:
            print(type(error).__name__)
    """
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path, root, root / "tests"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{result}\n", "")


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = """
        import os, sys, time
        from pathlib import Path
        sys.path[:0] = sys.argv[2:]
        import data_gen.parallel
        from test_parallel import leave_mark_and_much
        data_gen.parallel.CHUNK = 1
        results = data_gen.parallel.ordered_map(leave_mark_and_much, [Path(sys.argv[1])] * 100, num_worker=3)
        next(results)
        os.kill(os.getpid(), 9)
    """
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path, root, root / "tests"]
    process = subprocess.Popen(command, start_new_session=True)
    assert process.wait(30) == -9
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
