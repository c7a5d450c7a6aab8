"""The same command on two CPU processes: under torchrun itself, and as torchrun would start them."""

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
from processes import run_two
from test_adaptation import pretrain_config
from test_schedule import write_config

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


@pytest.mark.slow
def test_two_processes_train_one_network_and_score_every_clip_once(tiny_config, tmp_path):
    status, error = finish(torchrun(tiny_config, "num_epoch=2", "batch_size=8"))
    assert status == 0, error
    assert "FutureWarning" not in error
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


@pytest.mark.slow
def test_two_processes_pretrain_with_one_queue_and_evaluate(tiny_data, tmp_path):
    for method in ("net.aimclr.AimCLR", "net.vicreg.VICReg"):
        work = tmp_path / method
        config = tmp_path / f"{method}.yaml"
        config.write_text(pretrain_config(tiny_data, work, method))
        settings = ["num_epoch=3", "batch_size=8"]
        run_two(["pretrain", "-c", str(config), *settings], tmp_path)
        model = torch.load(work / "last.pt", weights_only=True)["model"]
        if "queue" in model:
            # 3 epochs of 3 steps of 8 clips of each process go round a queue of 40.
            assert int(model["queue_ptr"]) == 3 * 3 * 2 * 8 % 40
            torch.testing.assert_close(model["queue"].norm(dim=0), torch.ones(40))
        # What two processes found about the neighbours is what one finds with the same weights.
        test = ["--phase", "test", "--weights", str(work / "best.pt"), "-w", str(work / "alone")]
        assert main.main(["pretrain", "-c", str(config), *test]) == 0
        alone, together = (io.load_scores(path / "scores.npz") for path in (work / "alone", work))
        assert alone["name"].tolist() == together["name"].tolist()
        assert abs(alone["scores"] - together["scores"]).max() < 1e-4


def test_two_processes_go_through_the_phases_of_the_long_term_network(tiny_data, tmp_path):
    config, work = write_config(tiny_data, tmp_path), tmp_path / "work"
    run_two(["recognition", "-c", str(config), "num_epoch=3", "batch_size=8"], tmp_path)
    model = torch.load(work / "last.pt", weights_only=True)["model"]
    # The contrast of poses counts in the last epoch: 3 steps of 8 clips of each process, some with two bodies.
    assert int((model["pose_queue.label"] >= 0).sum()) == 32
    torch.testing.assert_close(model["pose_queue.keys"].norm(dim=1), torch.ones(32))
    test = ["--phase", "test", "--weights", str(work / "best.pt"), "-w", str(tmp_path / "alone")]
    assert main.main(["recognition", "-c", str(config), *test]) == 0
    alone, together = (io.load_scores(path / "scores.npz") for path in (tmp_path / "alone", work))
    assert abs(alone["scores"] - together["scores"]).max() < 1e-4
    # The epoch was chosen by the very weights that are kept, whatever statistics each process had.
    words = ["recognition", "-c", str(config), "--weights", str(work / "best.pt")]
    processor = main.make_processor(main.parse(words))
    processor.setup()
    with (work / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[json.loads((work / "result.json").read_text())["epoch"] - 1]
    with torch.no_grad():
        processor.network.eval()
        assert processor.task.evaluate(processor, processor.loaders["val"]).metrics["loss"] == pytest.approx(
            float(row["val_loss"]), abs=3e-6
        )


@pytest.mark.slow
def test_two_processes_train_a_layer_on_features_and_go_on_from_it(tiny_config, tmp_path):
    first = ["num_epoch=1", "-w", str(tmp_path / "first")]
    assert main.main(["recognition", "-c", str(tiny_config), *first]) == 0
    view = "{sampling: [{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]}"
    few = ["num_epoch=3", "batch_size=8", "data.label_fraction=0.5"]
    for processor, start, more in (
        ("linear_evaluation", "first", [f"whiten_view={view}", "whiten_clip=40", "spread={}"]),
        ("finetune_evaluation", "linear_evaluation", ["spread={}"]),
    ):
        weights = ["--weights", str(tmp_path / start / "best.pt"), "-w", str(tmp_path / processor)]
        run_two([processor, "-c", str(tiny_config), *few, *weights, *more], tmp_path)
        alone = [
            "--weights",
            str(tmp_path / processor / "best.pt"),
            "-w",
            str(tmp_path / "alone"),
            "--overwrite",
        ]
        assert main.main([processor, "-c", str(tiny_config), "--phase", "test", *alone]) == 0
        found, expected = (io.load_scores(tmp_path / name / "scores.npz") for name in (processor, "alone"))
        assert abs(found["scores"] - expected["scores"]).max() < 1e-3
    result = json.loads((tmp_path / "finetune_evaluation" / "result.json").read_text())
    assert (result["num_train_clip"], result["num_label"], result["spread"]) == (48, 32, True)


@pytest.mark.slow
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
    assert "last.pt is a run of 2 processes" in capsys.readouterr().err
    again = torchrun(tiny_config, *settings)
    while "resumed in epoch" not in (work / "log.txt").read_text():
        assert again.poll() is None, finish(again)
        time.sleep(0.05)
    again.terminate()
    finish(again)
