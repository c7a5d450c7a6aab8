"""The same command under torchrun, on two CPU processes."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import main
from processor import io

REPOSITORY = Path(main.__file__).parent


def torchrun(config: Path, *args: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*command, "main.py", "recognition", "-c", str(config), *args],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        capture_output=True,
    )


@pytest.mark.skipif(
    sys.platform != "linux", reason="gloo over the loopback interface is tried on Linux alone"
)
def test_two_processes_train_one_network_and_score_every_clip_once(tiny_config, tmp_path):
    torchrun(tiny_config, "num_epoch=2", "batch_size=8")
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
