"""Whole runs through main.py on a data set made in a second."""

import csv
import json
import math
import pickle
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from page_content import content_of, decode

import main
from conftest import TINY_CONFIG
from data_gen.export_numpy import ARRAYS, export_arrays
from feeder.prepared import PreparedWriter, open_prepared
from net import as_gcn
from net.utils.clip import Clip
from processor import classification, io
from processor.evaluation import Evaluator
from processor.metrics import top_k_accuracy
from processor.recognition import Recognition
from processor.state import differences
from processor.trained import load_trained
from tools import ensemble, report
from torchlight.config import to_yaml

pytestmark = pytest.mark.usefixtures("few_blocks", "blank")


def run(config, *args: str) -> int:
    return main.main(["recognition", "-c", str(config), *args])


def weights_of(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def assert_equal_weights(first, second) -> None:
    first, second = weights_of(first), weights_of(second)
    assert first.keys() == second.keys()
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert not differing


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    """A run of 12 epochs: (config file, work_dir)."""
    folder = tmp_path_factory.mktemp("finished")
    config = folder / "config.yaml"
    config.write_text(TINY_CONFIG.format(data=tiny_data, work_dir=folder / "work"))
    assert run(config, "num_epoch=12", "batch_size=8", "tensorboard=true") == 0
    return config, folder / "work"


def test_its_page_plays_the_clips_it_gets_most_wrong(finished, tiny_data, tmp_path):
    pytest.importorskip("plotly", reason="Plotly is not installed: pip install -e .[page]")
    assert report.main([str(finished[1]), "--out", str(tmp_path / "a.html"), "--num_clip", "5"]) == 0
    arrays = io.load_scores(finished[1] / "scores.npz")
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(arrays["scores"]), torch.from_numpy(arrays["label"]), reduction="none"
    )
    worst = loss.sort(stable=True, descending=True).indices[:5].numpy()
    scenes = content_of(tmp_path / "a.html")["clips"]
    assert [scene["name"] for scene in scenes] == arrays["name"][worst].tolist()
    source = open_prepared(tiny_data)
    (clip,) = np.flatnonzero(source.name == scenes[0]["name"])
    poses = np.nan_to_num(decode(scenes[0]["positions"])).swapaxes(0, 1).reshape(-1, *source.joints.shape[1:])
    np.testing.assert_allclose(poses, source.read(np.array([clip])), atol=1e-3)


def test_learns_and_leaves_the_files_of_a_run(finished):
    _, work = finished
    result = json.loads((work / "result.json").read_text())
    assert result["top1"] > 0.6  # chance is 0.25
    assert result["part"] == "test"
    assert (result["num_train_clip"], result["num_val_clip"], result["num_test_clip"]) == (48, 16, 32)
    assert result["select"] == "val"
    present = {path.name for path in work.iterdir()}
    # All labels are used; nothing is told early, or predicted; no report was asked for.
    others = {io.REPORT, "labelled.csv", "anticipation.csv", "anticipation.png"}
    others |= {"predictions.npz", "mpjpe.csv", "mpjpe.png", "poses.png"}
    assert set(io.RUN_FILES) - others <= present
    assert not others & present
    assert any(name.startswith("events.out.tfevents") for name in present)
    rows = list(csv.DictReader((work / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    best = max(float(row["val_top1"]) for row in rows)
    assert float(rows[result["epoch"] - 1]["val_top1"]) == best == pytest.approx(result["val_top1"])


def test_scores_tables_and_result_agree(finished):
    _, work = finished
    saved = io.load_scores(work / "scores.npz")
    result = json.loads((work / "result.json").read_text())
    assert saved["name"].tolist() == [f"clip{clip:03d}" for clip in range(64, 96)]
    assert top_k_accuracy(saved["scores"], saved["label"], 1) == pytest.approx(result["top1"])
    confusion = list(csv.reader((work / "confusion.csv").open()))
    assert sum(int(confusion[k][k]) for k in range(1, 5)) == round(result["top1"] * 32)
    recall = {row["class"]: float(row["recall"]) for row in csv.DictReader((work / "per_class.csv").open())}
    assert np.mean(list(recall.values())) == pytest.approx(result["mean_class"])


def test_saved_config_reloads_to_the_same_run(finished, tmp_path):
    _, work = finished
    again = tmp_path / "again"
    assert run(work / "config.yaml", "-w", str(again)) == 0
    assert_equal_weights(work / "last.pt", again / "last.pt")


def test_phase_test_scores_given_weights(finished, tmp_path):
    config, work = finished
    assert run(config, "--phase", "test", "--weights", str(work / "best.pt")) == 0
    expected, found = (io.load_scores(folder / "scores.npz")["scores"] for folder in (work, work / "test"))
    np.testing.assert_array_equal(found, expected)


def test_weights_scored_on_another_input_or_in_another_network_say_so(finished, tmp_path, capsys):
    config, work = finished
    test = ["--phase", "test", "--weights", str(work / "best.pt"), "-w", str(tmp_path)]
    assert run(config, *test) == 0
    assert "warning" not in capsys.readouterr().out
    assert run(config, *test, "stream=bone", "--overwrite") == 0
    said = "warning: these weights were trained"
    assert f"{said} with another input: stream was 'joint', is 'bone'" in capsys.readouterr().out
    assert run(config, *test, "model_args.padding_mode=replicate", "--overwrite") == 0
    found = capsys.readouterr().out
    assert f"{said} in another network: model_args.padding_mode was None, is 'replicate'" in found


def test_weights_of_a_part_that_is_not_built_say_so(tiny_config, tmp_path, capsys):
    arguments = {"num_class": 4, "hidden_channels": 4, "link_hidden": 4, "num_link_frame": 4}
    torch.save(as_gcn.Model(**arguments).state_dict(), tmp_path / "as_gcn.pt")
    changed = yaml.safe_dump({"_delete_": True, **arguments, "num_predict": 0}, default_flow_style=True)
    settings = ["model=net.as_gcn.Model", f"model_args={changed}", "-w", str(tmp_path / "test")]
    assert run(tiny_config, "--phase", "test", "--weights", str(tmp_path / "as_gcn.pt"), *settings) == 0
    assert "'recon_layer_0.gcn" in capsys.readouterr().out


def files_of(folder) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"
    }


def test_nothing_but_overwrite_touches_a_finished_run(finished, tmp_path, capsys):
    config, trained = finished
    work = tmp_path / "work"
    shutil.copytree(trained, work)
    before = files_of(work)
    weights = ["--weights", str(work / "best.pt"), "-w", str(work)]
    for args, said in (
        (["--phase", "test", *weights], "holds a training run (metrics.csv, last.pt, best.pt, …)"),
        (["--phase", "test", *weights, "--overwrite"], "choose another folder"),
        ([*weights, "--overwrite"], "the weights to start from; choose another work_dir"),
        (["-w", str(work)], "holds an earlier run"),
    ):
        assert run(config, *args) == 1
        assert said in capsys.readouterr().err
        assert files_of(work) == before
    assert ensemble.main([str(trained), "--out", str(work), "--overwrite"]) == 1
    assert "holds a training run" in capsys.readouterr().err
    for args in (["-w", str(work), "--debug"], ["--phase", "test", *weights, "--debug"]):
        assert run(config, *args) == 0
        assert files_of(work) == before
    assert (work / "debug" / "result.json").exists()


def test_a_test_is_kept_unless_told_and_one_that_broke_off_is_no_obstacle(finished, tmp_path, capsys):
    config, trained = finished
    test = ["--phase", "test", "--weights", str(trained / "best.pt"), "-w", str(tmp_path)]
    (tmp_path / "config.yaml").write_text("seed: 0")
    (tmp_path / "log.txt").touch()
    assert run(config, *test) == 0
    assert run(config, *test) == 1
    message = capsys.readouterr().err
    assert "holds earlier results" in message
    assert "--resume" not in message
    assert run(config, *test, "--overwrite") == 0


@pytest.mark.parametrize("missing", ["last.pt", "best.pt"])
def test_a_run_without_its_checkpoints_is_not_resumed(finished, tmp_path, capsys, missing):
    config, trained = finished
    work = tmp_path / "work"
    shutil.copytree(trained, work)
    (work / missing).unlink()
    before = files_of(work)
    settings = ["num_epoch=12", "batch_size=8", "tensorboard=true"]
    assert run(config, *settings, "-w", str(work), "--resume") == 1
    assert missing in capsys.readouterr().err
    assert files_of(work) == before


def test_a_work_dir_that_is_a_file_is_kept(tiny_config, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run(tiny_config, "-w", str(tmp_path / "file")) == 1
    assert "is a file; choose a folder with -w" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_repeated_test_views_are_averaged(finished, tmp_path):
    config, work = finished
    test = ["--phase", "test", "--weights", str(work / "best.pt")]
    random_crop = "test_view.sampling=[{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]"
    scores = {}
    for repeat in (1, 2, 64, 65):
        folder = tmp_path / str(repeat)
        assert run(config, *test, "-w", str(folder), random_crop, f"test_repeat={repeat}") == 0
        scores[repeat] = io.load_scores(folder / "scores.npz")["scores"]
    # One more of many changes little; the second of two much.
    assert np.abs(scores[2] - scores[1]).mean() > 10 * np.abs(scores[65] - scores[64]).mean() > 0


def test_phase_test_without_weights_is_refused(finished, capsys):
    config, _ = finished
    assert run(config, "--phase", "test") == 2
    assert "--weights" in capsys.readouterr().err


def test_same_seed_repeats_bit_for_bit_another_does_not(tiny_config, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(tiny_config, "-w", str(tmp_path / name), "num_epoch=2", f"seed={seed}") == 0
    assert_equal_weights(tmp_path / "a/last.pt", tmp_path / "b/last.pt")
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "a/last.pt", tmp_path / "c/last.pt")


def test_an_earlier_run_is_kept_unless_told(tiny_config, work, capsys):
    assert run(tiny_config, "num_epoch=1") == 0
    before = (work / "last.pt").read_bytes()
    assert run(tiny_config, "num_epoch=1") == 1
    assert "--resume" in (message := capsys.readouterr().err)
    assert "--overwrite" in message
    assert (work / "last.pt").read_bytes() == before
    (work / "notes.txt").write_text("mine")
    assert run(tiny_config, "num_epoch=1", "--overwrite", "seed=5") == 0
    assert (work / "last.pt").read_bytes() != before
    assert (work / "notes.txt").read_text() == "mine"


def test_resume_with_another_config_is_refused(tiny_config, capsys):
    assert run(tiny_config, "num_epoch=1") == 0
    assert run(tiny_config, "--resume", "num_epoch=2", "optim.lr=0.5") == 1
    message = capsys.readouterr().err
    assert "num_epoch was 1, is 2" in message
    assert "optim.lr was 0.01, is 0.5" in message


def test_a_key_that_a_run_did_not_have_yet_meant_its_default(tiny_config):
    config = main.read_config(main.parse(["recognition", "-c", str(tiny_config)]))
    earlier = yaml.safe_load(to_yaml(config))
    del earlier["without"], earlier["optim"]["nesterov"]
    assert differences(yaml.safe_dump(earlier), config) == []
    config.without, config.model_args = ["order"], {}
    found = differences(yaml.safe_dump(earlier), config)
    assert "without was [], is ['order']" in found
    assert "model_args.num_class was 4, is None" in found


def test_a_key_that_a_phase_did_not_have_yet_meant_its_default_too(tiny_config):
    phase = "schedule=[{name: a, losses: {cross_entropy: 1}, optim: {lr: 0.3}}]"
    config = main.read_config(main.parse(["recognition", "-c", str(tiny_config), phase]))
    earlier = yaml.safe_load(to_yaml(config))
    del earlier["schedule"][0]["optim"]["accumulate"], earlier["optim"]["accumulate"]
    assert differences(yaml.safe_dump(earlier), config) == []


def test_resume_of_a_finished_run_tests_it_again(tiny_config, work):
    assert run(tiny_config, "num_epoch=1") == 0
    first = (work / "result.json").read_text()
    assert run(tiny_config, "num_epoch=1", "--resume") == 0
    assert (work / "result.json").read_text() == first


@pytest.mark.parametrize(
    ("values", "kept"),
    [((math.nan, math.nan), 2), ((0.5, math.nan), 1), ((math.nan, 0.5), 2), ((0.5, 0.5), 1), ((0.2, 0.5), 2)],
)
def test_the_best_epoch_is_the_first_of_the_highest_and_nan_is_below_all(
    tiny_config, work, monkeypatch, values, kept
):
    evaluate = Recognition.evaluate

    def judged(self, run, loader):
        found = evaluate(self, run, loader)
        return found._replace(metrics={**found.metrics, "top1": values[min(run.epoch, 1)]})

    monkeypatch.setattr(Recognition, "evaluate", judged)
    assert run(tiny_config, "num_epoch=2") == 0
    assert torch.load(work / "best.pt", weights_only=True)["epoch"] == kept


@pytest.mark.parametrize(("figure", "kept"), [("mean_class", 1), ("loss", 2)])
def test_any_figure_can_select_the_epoch(tiny_config, work, monkeypatch, figure, kept):
    """The larger the better, but for the loss."""
    evaluate = Recognition.evaluate

    def judged(self, run, loader):
        found = evaluate(self, run, loader)
        return found._replace(metrics={**found.metrics, "top1": 0.5, figure: (0.4, 0.3)[min(run.epoch, 1)]})

    monkeypatch.setattr(Recognition, "evaluate", judged)
    assert run(tiny_config, "num_epoch=2", f"select_by={figure}") == 0
    assert torch.load(work / "best.pt", weights_only=True)["epoch"] == kept
    assert f"val_{figure}" in json.loads((work / "result.json").read_text())


def test_a_figure_that_there_is_not_is_refused(tiny_config, capsys):
    assert run(tiny_config, "select_by=mean_clas") == 2
    assert "select_by: 'mean_clas' is no metric" in capsys.readouterr().err


class Confidence(Evaluator):
    """The mean of the likeliest class's probability, plus something."""

    metrics = ("confidence",)

    def __init__(self, more: float = 0.0) -> None:
        self.more = more

    def evaluate(self, run, loader, evaluation):
        probability = torch.from_numpy(evaluation.arrays["scores"]).softmax(1)
        assert len(probability) == len(loader.feeder) and not run.method.training
        return {"confidence": float(probability.amax(1).mean()) + self.more}


class Doubt(Confidence):
    """The same, the less the better."""

    metrics = lower_is_better = ("doubt",)

    def evaluate(self, run, loader, evaluation):
        return {"doubt": (0.4, 0.3)[min(run.epoch, 1)]}


class TopOne(Confidence):
    metrics = ("top1",)


class Another(Confidence):
    """Gives a metric that it does not declare."""

    metrics = ("another",)


class Word(Confidence):
    """Gives a metric that is not a number."""

    metrics = ("word",)

    def evaluate(self, run, loader, evaluation):
        return {"word": "high"}


class Letters(Confidence):
    metrics = "letters"


HERE = Path(__file__).stem


def test_figures_of_a_package_are_written_and_select(tiny_config, work):
    listed = f"[{{{HERE}.Confidence: {{more: 3}}}}, {HERE}.Doubt]"
    settings = [f"evaluators={listed}", "select_by=doubt", "--plugin", HERE, "num_epoch=2"]
    assert run(tiny_config, *settings) == 0
    result = json.loads((work / "result.json").read_text())
    scores = torch.from_numpy(io.load_scores(work / "scores.npz")["scores"])
    assert result["confidence"] == pytest.approx(float(scores.softmax(1).amax(1).mean()) + 3, abs=1e-5)
    assert (result["epoch"], result["val_doubt"]) == (2, 0.3)
    assert {"val_confidence", "val_doubt"} <= set(next(csv.DictReader((work / "metrics.csv").open())))
    # Recordings are answered without them.
    assert load_trained(work / "best.pt").config.num_epoch == 2


@pytest.mark.parametrize("name", ["Another", "Word"])
def test_an_evaluator_that_does_not_give_its_metrics_is_named(tiny_config, capsys, name):
    assert run(tiny_config, f"evaluators=[{HERE}.{name}]", "--plugin", HERE, "num_epoch=1") == 1
    assert f"evaluator {name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ([f"evaluators=[{HERE}.Letters]", "--plugin", HERE], "evaluators"),
        (["evaluators=[processor.evaluation.Evaluator]"], "evaluators"),
        ([f"evaluators=[{HERE}.Confidence]"], "evaluators.0"),
        ([f"evaluators=[{HERE}.Confidense]", "--plugin", HERE], "evaluators.0"),
        (["evaluators=[net.st_gcn.Model]"], "evaluators.0"),
        (
            [f"evaluators=[{{{HERE}.Confidence: {{mor: 1}}}}]", "--plugin", HERE],
            f"evaluators.0.{HERE}.Confidence.mor",
        ),
        ([f"evaluators=[{HERE}.TopOne]", "--plugin", HERE], "evaluators"),
        ([f"evaluators=[{HERE}.Confidence]", "--plugin", HERE, "select_by=doubt"], "select_by"),
    ],
)
def test_evaluators_that_cannot_be_are_refused_before_training(tiny_config, work, capsys, settings, key):
    assert run(tiny_config, *settings) == 2
    assert re.search(rf"(^|\s|:){re.escape(key)}: ", capsys.readouterr().err)
    assert not work.exists()


@pytest.mark.parametrize("own", [False, True])
def test_non_finite_loss_stops_names_clips_and_keeps_the_checkpoint(
    tiny_config, work, capsys, monkeypatch, own
):
    step = Recognition.step
    phase = "{name: first, losses: {cross_entropy: 1.0}, optim: {optimizer: adamw, lr: 0.01}}"
    settings = [f"schedule=[{phase}]"] if own else []

    def overflow(self, run, batch):
        losses = step(self, run, batch)
        broken = run.epoch == 1 and run.batch_done == 1
        return {"cross_entropy": losses["cross_entropy"] * float("inf" if broken else 1)}

    with monkeypatch.context() as patched:
        patched.setattr(Recognition, "step", overflow)
        assert run(tiny_config, *settings) == 1
    message = capsys.readouterr().err
    assert "the loss is inf in epoch 2" in message
    assert ("of phase 'first' in the schedule" in message) == own
    assert "clip0" in message
    # The state after the first epoch is whole: the run goes on from there.
    state = torch.load(work / "last.pt", weights_only=True)
    assert (state["epoch"], state["batch_done"]) == (1, 0)
    assert all(value.isfinite().all() for value in state["model"].values())
    assert run(tiny_config, *settings, "--resume") == 0


@pytest.mark.parametrize("moment", ["killed", "stopped"])
def test_a_run_that_ends_in_an_evaluation_evaluates_again(tiny_config, tmp_path, monkeypatch, moment):
    assert run(tiny_config, "num_epoch=3", "-w", str(tmp_path / "whole")) == 0
    evaluate, work = Recognition.evaluate, tmp_path / "work"

    def disturbed(self, run, loader):
        if run.epoch == 1 and moment == "killed":
            raise SystemError
        if run.epoch == 1:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self, run, loader)

    with monkeypatch.context() as patched:
        patched.setattr(Recognition, "evaluate", disturbed)
        with pytest.raises(SystemError if moment == "killed" else SystemExit) as error:
            run(tiny_config, "num_epoch=3")
    if moment == "stopped":
        assert error.value.code == 128 + signal.SIGTERM
    state = torch.load(work / "last.pt", weights_only=True)
    # Three steps an epoch: all of the second are done, or it is over.
    assert (state["epoch"], state["batch_done"]) == ((1, 3) if moment == "killed" else (2, 0))
    assert run(tiny_config, "num_epoch=3", "--resume") == 0
    assert_equal_weights(work / "last.pt", tmp_path / "whole/last.pt")
    curves = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (work, tmp_path / "whole")]
    for row in (row for curve in curves for row in curve):
        del row["seconds"], row["clips_per_second"]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("eval_interval=0", "eval_interval: is 0; it is 1 or more"),
        ("num_epoch=0", "num_epoch: is 0; it is 1 or more"),
        ("batch_size=-1", "batch_size: is -1; it is 1 or more"),
        ("test_repeat=0", "test_repeat: is 0; it is 1 or more"),
        ("optim.lr=-1", "optim.lr: is -1.0; it is 0 or more"),
        ("label_smoothing=2", "label_smoothing: is 2.0; it is 0 or more and below 1"),
        ("optim.schedule=step", "optim.step: is empty; list the epochs"),
        ("optim.grad_clip=0", "optim.grad_clip: is 0.0; it is above 0, or null"),
        ("data.val_fraction=1", "data.val_fraction: is 1.0; it is 0 or more and below 1"),
        ("data.label_fraction=0", "data.label_fraction: is 0.0; it is above 0, up to 1"),
        ("data.num_worker=2", "data.num_worker: is 2, but with data.cache=device nothing is left to read"),
        ("data.num_body=0", "command line: data.num_body: is 0; "),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_anything(tiny_config, work, capsys, setting, said):
    assert run(tiny_config, setting) == 2
    assert said in capsys.readouterr().err
    assert not work.exists()


def test_a_fall_of_the_rate_past_the_end_is_told(tiny_config, work, capsys):
    steps = ["optim.schedule=step", "num_epoch=2"]
    assert run(tiny_config, *steps, "optim.step=[1, 2, 5]") == 0
    said = "warning: the run has 2 epochs, so that its rate does not fall after [2, 5]; change optim.step"
    assert said in (work / "log.txt").read_text()
    assert run(tiny_config, *steps, "optim.step=[1]", "--overwrite") == 0
    assert "does not fall" not in (work / "log.txt").read_text()


def test_a_run_that_learns_nothing_says_so_half_way_and_at_the_end(tiny_config, finished, work):
    said = " 1.386: the network has learnt"  # the logarithm of 4
    assert said not in (finished[1] / "log.txt").read_text()
    assert run(tiny_config, "optim.lr=1e-9") == 0
    lines = [line for line in (work / "log.txt").read_text().splitlines() if said in line]
    assert ["after 2 of 4 epochs" in line for line in lines] == [True, False]
    assert all("optim.lr, which is 1e-09" in line for line in lines)
    phases = "[{name: only, losses: {cross_entropy: 0.2}, optim: {optimizer: adamw, lr: 1e-9}}]"
    assert run(tiny_config, f"schedule={phases}", "--overwrite") == 0
    text = (work / "log.txt").read_text()
    assert text.count(said) == 2 and "optim.lr of phase 'only' in the schedule" in text


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("balanced", [False, True])
def test_chance_is_the_least_loss_of_scores_equal_for_all_clips(tiny_config, smoothing, balanced):
    settings = [f"label_smoothing={smoothing}", f"data.balanced={balanced}", "min_epoch_clip=3000"]
    processor = main.make_processor(main.parse(["recognition", "-c", str(tiny_config), *settings]))
    processor.setup()
    loader = processor.loaders["train"]
    loader.feeder.label = np.repeat([0, 1, 2, 3], [30, 15, 2, 1])
    drawn = torch.from_numpy(loader.feeder.label)[loader._order()]
    scores = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def loss_of(scores: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(scores, drawn, label_smoothing=smoothing)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(scores.expand(len(drawn), 4))
        loss.backward()
        return loss

    optimizer.step(closure)
    guess, least = classification._chance(processor)
    assert guess == pytest.approx(closure().item(), abs=1e-3)
    target = torch.nn.functional.one_hot(drawn, 4) * (1 - smoothing) + smoothing / 4
    assert least == pytest.approx(float(loss_of((target + 1e-12).log())), abs=1e-3)


def test_balanced_draws_training_clips_alone(tiny_config, work):
    processor = main.make_processor(main.parse(["recognition", "-c", str(tiny_config), "data.balanced=true"]))
    processor.setup()
    assert {part: loader.balanced for part, loader in processor.loaders.items()} == {
        "train": True,
        "val": False,
        "test": False,
    }
    assert run(tiny_config, "data.balanced=true", "num_epoch=2") == 0
    whole = weights_of(work / "last.pt")
    assert run(tiny_config, "num_epoch=2", "--overwrite") == 0
    assert any(not torch.equal(value, whole[key]) for key, value in weights_of(work / "last.pt").items())


def test_nesterov_needs_momentum(tiny_config, capsys):
    assert run(tiny_config, "optim.optimizer=sgd", "optim.momentum=0") == 2
    assert "optim.nesterov: needs a momentum" in capsys.readouterr().err
    assert (
        run(tiny_config, "optim.optimizer=sgd", "optim.momentum=0", "optim.nesterov=false", "num_epoch=1")
        == 0
    )


def test_scores_of_another_number_of_classes_are_refused(tiny_config, monkeypatch, capsys):
    assert run(tiny_config, "model_args.num_class=10") == 2
    assert "model_args.num_class: is 10, but data.num_class is 4" in capsys.readouterr().err
    # A model that takes no num_class.
    monkeypatch.setattr("net.st_gcn.Model.forward", lambda self, x, present: x.mean((2, 4)).flatten(1))
    assert run(tiny_config) == 1
    assert "gives (16, 75) for 16 clips of 4 classes" in capsys.readouterr().err


def test_a_run_on_arrays_with_labels_from_1_needs_to_be_told(tiny_data, tiny_config, tmp_path, capsys):
    folder = tmp_path / "arrays"
    export_arrays(open_prepared(tiny_data), "xsub", ARRAYS["aimclr"], folder, overwrite=False)
    for part in ("train", "val"):
        path = folder / "xsub" / f"{part}_label.pkl"
        names, label = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps((names, np.array(label, np.uint8) + 1)))
    settings = [f"data.path={folder / 'xsub'}", "data.val_by=random", "--debug"]
    with pytest.raises(ValueError, match=r"data\.first_label=1"):
        run(tiny_config, *settings)
    assert run(tiny_config, *settings, "data.first_label=1") == 0
    assert run(tiny_config, *settings, "data.first_label=-1") == 2
    assert "data.first_label: is -1; it is 0 or more, or null" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] can't allocate memory: 1 byte"),
        RuntimeError("CUDA out of memory."),
    ],
)
def test_too_little_memory_says_what_takes_less(tiny_config, monkeypatch, capsys, error):
    def forward(self, x, present=None):
        raise error

    monkeypatch.setattr("net.st_gcn.Model.forward", forward)
    assert run(tiny_config) == 1
    assert re.search(r"error: out of memory .*; lower batch_size", capsys.readouterr().err)
    with pytest.raises(type(error)):
        run(tiny_config, "--debug")


def test_scores_that_tie_are_wrong_in_training_and_in_tests(tiny_config, work, monkeypatch):
    # A model whose `forward` is its own.
    monkeypatch.setattr(
        "net.st_gcn.Model.forward",
        lambda self, x, present: 0 * self.encode(Clip(x, present)).pool().sum() + x.new_zeros(len(x), 4),
    )
    assert run(tiny_config, "num_epoch=1") == 0
    (row,) = csv.DictReader((work / "metrics.csv").open())
    result = json.loads((work / "result.json").read_text())
    assert [float(row[name]) for name in ("train_top1", "val_top1", "val_mean_class")] == [0, 0, 0]
    assert (result["top1"], result["mean_class"]) == (0, 0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("width", ["hidden_channels: 8, hidden_dim: 32", "base_channels: 8"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trains_and_resumes_on_cuda(tiny_config, work, width, precision):
    text = tiny_config.read_text().replace("hidden_channels: 8, hidden_dim: 32", width)
    tiny_config.write_text(text.replace("st_gcn", "ctr_gcn") if "base" in width else text)
    settings = ["device=cuda", f"precision={precision}", "num_epoch=2", "eval_interval=2"]
    assert run(tiny_config, *settings) == 0
    result = json.loads((work / "result.json").read_text())
    assert result["device"] == torch.cuda.get_device_name()
    assert run(tiny_config, *settings, "--resume") == 0


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_precision_is_that_of_products_and_convolutions(tiny_config, precision, tf32):
    assert run(tiny_config, "--debug", f"precision={precision}") == 0
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")


@pytest.mark.parametrize(("supported", "used"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_used_where_the_cpu_has_it(tiny_config, work, monkeypatch, supported, used):
    monkeypatch.setattr("processor.experiment.cpu_has_bf16", lambda: supported)
    assert run(tiny_config, "precision=bf16", "num_epoch=1") == 0
    assert json.loads((work / "result.json").read_text())["precision"] == used
    assert ("no instructions for bf16" in (work / "log.txt").read_text()) == (not supported)
    # The config stays as it was given, so that another machine may resume the run.
    assert "precision: bf16" in (work / "config.yaml").read_text()


def test_select_last_and_select_test_say_so(tiny_config, tmp_path):
    last = tmp_path / "last"
    assert run(tiny_config, "-w", str(last), "select=last", "num_epoch=2", "data.val_fraction=0") == 0
    result = json.loads((last / "result.json").read_text())
    assert (result["select"], result["epoch"]) == ("last", 2)
    assert_equal_weights(last / "best.pt", last / "last.pt")
    test = tmp_path / "test"
    assert run(tiny_config, "-w", str(test), "select=test", "num_epoch=2") == 0
    result = json.loads((test / "result.json").read_text())
    assert "test part" in result["warning"]
    assert result["test_top1"] == result["top1"]


def test_select_val_without_validation_part_is_refused_before_anything(tiny_config, work, capsys):
    assert run(tiny_config, "data.val_fraction=0") == 2
    assert "select" in capsys.readouterr().err
    assert not work.exists()


def test_debug_runs_two_batches_beside_the_real_run(tiny_config, work):
    assert run(tiny_config, "--debug") == 0
    assert run(tiny_config, "--debug") == 0
    assert [path.name for path in work.iterdir()] == ["debug"]
    rows = list(csv.DictReader((work / "debug/metrics.csv").open()))
    assert len(rows) == 2


def test_bf16_sgd_clipping_and_smoothing_train(tiny_config, work, monkeypatch):
    monkeypatch.setattr("processor.experiment.cpu_has_bf16", lambda: True)
    settings = ["precision=bf16", "optim.optimizer=sgd", "optim.lr=0.05", "optim.grad_clip=1.0"]
    # Alignment multiplies by matrices, which must stay in float32 in training and in evaluation.
    settings += ["train_view.normalise=align_torso", "test_view.normalise=align_torso"]
    assert run(tiny_config, *settings, "label_smoothing=0.1", "num_epoch=3", "batch_size=8") == 0
    rows = list(csv.DictReader((work / "metrics.csv").open()))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_fine_tuning_starts_from_weights_and_lists_what_differs(finished, tiny_config, work, capsys):
    _, trained = finished
    weights = str(trained / "best.pt")
    assert run(tiny_config, "--weights", weights, "model_args.hidden_dim=8") == 1
    message = capsys.readouterr().err
    assert "model_args.hidden_dim was 32, is 8" in message and "ignore_weights" not in message
    assert "fcn.weight" in message
    assert not (work / "last.pt").exists()
    assert run(tiny_config, "--weights", weights, "num_epoch=1", "optim.lr=0.0", "select=last") == 0
    fixed = [key for key in weights_of(weights) if "running" not in key and "num_batches" not in key]
    for key in fixed:
        assert torch.equal(weights_of(weights)[key], weights_of(work / "last.pt")[key])


def test_print_config_shows_what_would_run_and_touches_nothing(tiny_config, work, capsys):
    assert run(tiny_config, "--print_config", "stream=bone") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["stream"] == "bone"
    assert shown["optim"]["momentum"] == 0.9
    assert not work.exists()


def test_every_problem_of_a_config_is_told_at_once(tiny_config, work, capsys):
    settings = ["batch_size=ten", "numepoch=4", "model_args.hiden_dim=3", "stream=bones", "data.layout=ntu"]
    assert run(tiny_config, *settings) == 2
    message = capsys.readouterr().err
    for word in ("batch_size", "num_epoch", "hidden_dim", "bones", "ntu-rgb+d"):
        assert word in message
    assert run(tiny_config, "train_view.sampling=[Foo]", "test_view.normalise=center") == 2
    message = capsys.readouterr().err
    for word in (
        "2 problems",
        "command line: train_view.sampling.0: 'Foo'",
        "command line: test_view.normalise: ",
    ):
        assert word in message
    assert not work.exists()


def test_missing_data_names_the_command_that_makes_it(tiny_config, work, capsys):
    assert run(tiny_config, "data.path=nowhere.h5") == 1
    message = capsys.readouterr().err
    assert "nowhere.h5" in message
    assert "make demo" in message
    assert not work.exists()


# -- anticipation ------------------------------------------------------------------------------------------


def with_other_ends(data, path, ratio):
    """The same clips, of which other frames follow after a share; and one of those that end there."""
    source = open_prepared(data)
    changed, cut = ({"path": path / name, "tracks": []} for name in ("changed.h5", "cut.h5"))
    for clip in range(len(source.name)):
        shape = (source.num_body[clip], source.num_frame[clip], 25, 3)
        tracks = source.read(np.array([clip])).reshape(shape)
        seen = round(shape[1] * ratio)
        cut["tracks"].append(tracks[:, :seen])
        changed["tracks"].append(np.concatenate((tracks[:, :seen], 2 - tracks[:, seen:][:, ::-1, ::-1]), 1))
    for each in (changed, cut):
        with PreparedWriter(
            each["path"],
            skeleton=source.skeleton,
            class_names=source.class_names,
            frame_rate=30.0,
            bodies="energy",
            source="tests",
        ) as writer:
            for clip, tracks in enumerate(each["tracks"]):
                keys = {key: int(values[clip]) for key, values in source.keys.items()}
                writer.append(str(source.name[clip]), int(source.label[clip]), tracks, **keys)
            writer.finish({"xsub": {part: list(map(int, c)) for part, c in source.splits["xsub"].items()}})
    return changed["path"], cut["path"]


def anticipated(config, work, *args: str) -> dict[str, float]:
    assert run(config, "--phase", "test", "--overwrite", "-w", str(work), *args) == 0
    return json.loads((work / "result.json").read_text())


@pytest.mark.parametrize("normalise", ["center_first_frame", "align_shoulders"])
def test_an_action_is_told_from_the_part_that_was_seen_alone(
    finished, tiny_data, tmp_path, monkeypatch, normalise
):
    config, trained = finished
    scores, evaluate = [], Recognition.evaluate
    monkeypatch.setattr(
        Recognition,
        "evaluate",
        lambda self, run, loader: [scores.append(made := evaluate(self, run, loader)), made][1],
    )
    changed, cut = with_other_ends(tiny_data, tmp_path, 0.5)
    settings = ["--weights", str(trained / "best.pt"), f"test_view.normalise={normalise}"]
    early = "observe_ratio=[0.5, 0.1, 1.0, 0.5]"
    result = anticipated(config, tmp_path / "whole", *settings, early)
    assert list(result["anticipation"]) == ["0.1", "0.5", "1.0"]
    assert result["anticipation"]["1.0"] == result["top1"]
    # Of all that is seen nothing is worked out twice.
    whole, tenth, half = (each.arrays["scores"] for each in scores)
    assert not np.allclose(tenth, half, atol=1e-3)
    scores.clear()
    almost = anticipated(config, tmp_path / "almost", *settings, "observe_ratio=[0.999999]")
    assert almost["top1"] == result["top1"]
    np.testing.assert_array_equal(whole, scores[1].arrays["scores"])
    scores.clear()
    assert anticipated(config, tmp_path / "cut", *settings, f"data.path={cut}")["top1"] == pytest.approx(
        result["anticipation"]["0.5"]
    )
    np.testing.assert_allclose(scores[0].arrays["scores"], half, atol=1e-5)
    scores.clear()
    anticipated(config, tmp_path / "changed", *settings, f"data.path={changed}", "observe_ratio=[0.5]")
    other, half_again = (each.arrays["scores"] for each in scores)
    np.testing.assert_array_equal(half_again, half)
    assert not np.allclose(other, whole, atol=1e-3)


def test_table_and_curve_of_what_was_seen(finished, tmp_path, capsys):
    config, trained = finished
    ratios = [number / 10 for number in range(1, 11)]
    settings = ["--weights", str(trained / "best.pt"), f"observe_ratio={ratios}"]
    result = anticipated(config, tmp_path, *settings)
    whole = list(csv.DictReader((tmp_path / "anticipation.csv").open()))
    assert len(whole) == 5 * len(ratios)  # of all actions, and of each of four
    rows = whole[: len(ratios)]
    assert [float(row["observed"]) for row in rows] == ratios
    assert [float(row["top1"]) for row in rows] == list(result["anticipation"].values())
    assert float(rows[-1]["top1"]) == result["top1"]
    assert (tmp_path / "anticipation.png").stat().st_size > 1000
    said = f"top1 by share observed: 10 % {float(rows[0]['top1']):.4f}, 20 % "
    assert said in capsys.readouterr().out


def test_a_finished_run_may_be_asked_for_it(finished, tmp_path):
    _, trained = finished
    work = tmp_path / "work"
    shutil.copytree(trained, work)
    words = ["recognition", "-c", str(work / "config.yaml"), "-w", str(work), "--resume"]
    assert main.main([*words, "observe_ratio=[0.5]"]) == 0
    assert list(json.loads((work / "result.json").read_text())["anticipation"]) == ["0.5"]


@pytest.mark.parametrize("ratios", ["[0.0, 0.5]", "[0.5, 1.5]", "[.nan]"])
def test_shares_that_cannot_be_seen_are_refused(tiny_config, work, capsys, ratios):
    assert run(tiny_config, f"observe_ratio={ratios}") == 2
    message = capsys.readouterr().err
    assert "observe_ratio: is [" in message
    assert "it is shares of a clip, above 0, up to 1" in message
    assert not work.exists()
