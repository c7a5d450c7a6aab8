"""The same command under torchrun, on two CPU processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import main
from processor import io

REPOSITORY = Path(main.__file__).parent


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="gloo over the loopback interface is tried on Linux alone"
)


def torchrun(config: Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.Popen(
        [*command, "main.py", "recognition", "-c", str(config), *args],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, error = process.communicate(timeout=240)
    return process.returncode, error


def worker(launcher: subprocess.Popen, rank: int) -> int:
    """Process id of a rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    (found,) = [
        int(child)
        for child in children
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0")
    ]
    return found


def test_two_processes_train_one_network_and_score_every_clip_once(tiny_config, tmp_path):
    status, error = finish(torchrun(tiny_config, "num_epoch=2", "batch_size=8"))
    assert status == 0, error
    work = tmp_path / "work"
    saved = io.load_scores(work / "scores.npz")
    assert saved["name"].tolist() == [f"clip{clip:03d}" for clip in range(64, 96)]
    assert json.loads((work / "result.json").read_text())["num_test_clip"] == 32
    rows = list(csv.DictReader((work / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    # What two processes found about the validation part is what one finds with the same weights.
    test = ["--phase", "test", "--weights", str(work / "best.pt"), "-w", str(tmp_path / "alone")]
    assert main.main(["recognition", "-c", str(tiny_config), *test]) == 0
    alone = io.load_scores(tmp_path / "alone/scores.npz")
    assert abs(alone["scores"] - saved["scores"]).max() < 1e-5


def test_a_signal_to_one_process_stops_all_and_they_resume_together(tiny_config, tmp_path, capsys):
    launcher, work = (
        torchrun(tiny_config, "num_epoch=300", "batch_size=8", "eval_interval=300"),
        tmp_path / "work",
    )
    while not (work / "last.pt").exists():
        assert launcher.poll() is None, finish(launcher)
        time.sleep(0.05)
    os.kill(worker(launcher, rank=1), signal.SIGTERM)
    assert finish(launcher)[0] != 0
    assert f"stopped by signal {int(signal.SIGTERM)} " in (work / "log.txt").read_text()
    state = torch.load(work / "last.pt", weights_only=True)
    assert (state["epoch"] < 300, state["world_size"]) == (True, 2)

    settings = ["num_epoch=300", "batch_size=8", "eval_interval=300", "--resume"]
    assert main.main(["recognition", "-c", str(tiny_config), *settings]) == 1
    assert "is a run of 2 processes, and there are 1" in capsys.readouterr().err
    again = torchrun(tiny_config, *settings)
    while "resumed in epoch" not in (work / "log.txt").read_text():
        assert again.poll() is None, finish(again)
        time.sleep(0.05)
    again.terminate()
    finish(again)
