"""A training process that is killed, at any moment, and resumed equals one that was not."""

import csv
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import MainProcess

from conftest import TINY_CONFIG

NUM_EPOCH = 14


def start(config: Path, work: Path, *args: str, processor: str = "recognition") -> MainProcess:
    """A run in a process of its own: one to be killed, or one to be compared, for which threads must be as many."""
    words = [processor, "-c", str(config), "-w", str(work), f"num_epoch={NUM_EPOCH}", *args]
    process = MainProcess(words, work.parent / f"{work.name}.txt")
    process.start()
    return process


def finish(config: Path, work: Path, *args: str, processor: str = "recognition") -> None:
    process = start(config, work, *args, processor=processor)
    assert process.wait() == 0, process.said.read_text()


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
        epoch = float(list(csv.DictReader(file))[-1]["seconds"]) / NUM_EPOCH
    for attempt in range(3):
        process = start(config, work, *(["--resume"] if attempt else []))
        process.wait_for(work / "last.pt", changed_since=time.time_ns())
        # Anywhere in the two epochs that follow, a checkpoint being written included.
        time.sleep(rng.uniform(0, 2 * epoch))
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.said.read_text()
    finish(config, work, "--resume")
    resumed = re.findall(r"resumed in epoch (\d+)", (work / "log.txt").read_text())
    assert len(resumed) == 3
    assert sorted(map(int, resumed)) == list(map(int, resumed))
    assert int(resumed[-1]) > int(resumed[0])
    assert_same_run(whole, work)


def test_sigterm_saves_inside_the_epoch_and_exits_143(config, tmp_path, whole):
    work = tmp_path / "stopped"
    process = start(config, work)
    process.wait_for(work / "last.pt")
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert not (work / "result.json").exists()
    assert "continue with --resume" in (work / "log.txt").read_text()
    finish(config, work, "--resume")
    assert_same_run(whole, work)


def test_second_process_on_the_same_work_dir_is_refused(config, tmp_path):
    work = tmp_path / "shared"
    first = start(config, work, "num_epoch=2000")
    try:
        first.wait_for(work / "last.pt")
        second = MainProcess(
            ["recognition", "-c", str(config), "-w", str(work), "--overwrite"], tmp_path / "second.txt"
        )
        second.start()
        assert second.wait() == 1
        assert str(first.pid) in second.said.read_text()
        assert first.is_alive()
    finally:
        first.kill()
        first.wait()
