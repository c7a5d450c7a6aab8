"""A training process that is killed, at any moment, and resumed equals one that was not."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from conftest import TINY_CONFIG

REPOSITORY = Path(main.__file__).parent
EPOCHS = "num_epoch=24"


def start(config: Path, work: Path, *args: str, processor: str = "recognition") -> subprocess.Popen:
    """A run in a process of its own: one to be killed, or one to be compared, for which threads must be as many."""
    command = [sys.executable, "main.py", processor, "-c", str(config), "-w", str(work), EPOCHS, *args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)


def finish(config: Path, work: Path, *args: str, processor: str = "recognition") -> None:
    process = start(config, work, *args, processor=processor)
    assert process.wait(timeout=120) == 0, process.stderr.read()


def wait_for(path: Path, process: subprocess.Popen, changed_since: int = 0) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_mtime_ns < changed_since:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def state_of(work: Path) -> dict:
    state = torch.load(work / "last.pt", weights_only=True)
    tensors = {f"model.{key}": value for key, value in state["model"].items()}
    for index, slots in state["optimizer"]["state"].items():
        tensors |= {
            f"optimizer.{index}.{key}": value for key, value in slots.items() if torch.is_tensor(value)
        }
    return tensors


def curve_of(work: Path) -> list[dict]:
    clock = ("seconds", "clips_per_second")
    with (work / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in clock} for row in csv.DictReader(file)]


def assert_same_run(first: Path, second: Path) -> None:
    a, b = state_of(first), state_of(second)
    assert a.keys() == b.keys()
    assert not [key for key in a if not torch.equal(a[key], b[key])]
    assert curve_of(first) == curve_of(second)
    with np.load(first / "scores.npz") as x, np.load(second / "scores.npz") as y:
        np.testing.assert_array_equal(x["scores"], y["scores"])


@pytest.fixture(scope="module")
def config(tiny_data, tmp_path_factory) -> Path:
    """A config file that every test here runs."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "tiny.yaml").write_text(TINY_CONFIG.format(data=tiny_data, work_dir=folder / "work"))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def whole(config) -> Path:
    """The work_dir of a run that nothing disturbed."""
    finish(config, config.parent / "whole")
    return config.parent / "whole"


def test_killed_at_random_moments_and_resumed(config, tmp_path, whole):
    work, seed = tmp_path / "killed", int.from_bytes(os.urandom(4), "little")
    print(f"moments of seed {seed}")  # shown with a failure
    rng = np.random.default_rng(seed)
    with (whole / "metrics.csv").open() as file:
        epoch = float(list(csv.DictReader(file))[-1]["seconds"]) / 24
    for attempt in range(5):
        process = start(config, work, *(["--resume"] if attempt else []))
        wait_for(work / "last.pt", process, changed_since=time.time_ns())
        # Anywhere in the two epochs that follow, a checkpoint being written included.
        time.sleep(rng.uniform(0, 2 * epoch))
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
    finish(config, work, "--resume")
    resumed = re.findall(r"resumed in epoch (\d+)", (work / "log.txt").read_text())
    assert len(resumed) == 5
    assert sorted(map(int, resumed)) == list(map(int, resumed))
    assert int(resumed[-1]) > int(resumed[0])
    assert_same_run(whole, work)


def test_sigterm_saves_inside_the_epoch_and_exits_143(config, tmp_path, whole):
    work = tmp_path / "stopped"
    process = start(config, work)
    wait_for(work / "last.pt", process)
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert not (work / "result.json").exists()
    assert "continue with --resume" in (work / "log.txt").read_text()
    finish(config, work, "--resume")
    assert_same_run(whole, work)


def test_second_process_on_the_same_work_dir_is_refused(config, tmp_path):
    work = tmp_path / "shared"
    first = start(config, work, "num_epoch=2000")
    try:
        wait_for(work / "last.pt", first)
        second = start(config, work, "--overwrite")
        assert second.wait(timeout=60) == 1
        assert str(first.pid) in second.stderr.read()
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
