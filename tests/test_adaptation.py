"""Both stages of semi-supervised adaptation, as commands, on a data set made in a second."""

import csv
import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from test_resume import assert_same_run, finish, start, state_of

import main
from conftest import TINY_CONFIG
from data_gen import export_numpy
from net.long_term import LongTerm
from net.st_gcn import Model
from net.utils.layouts import get_skeleton
from net.whitening import Whitening
from processor import io
from processor.metrics import knn_scores, top_k_accuracy
from processor.pretrain import Pretrain

pytestmark = pytest.mark.usefixtures("few_blocks", "blank")

VIEW = "{sampling: [{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}], " \
       "normalise: center_first_frame, augment: [{Rotate: {max_angle: 0.3}}]}"  # fmt: skip
METHODS = {
    "net.skeletonclr.SkeletonCLR": "{queue_size: 40, momentum: 0.9, temperature: 0.2}",
    "net.aimclr.AimCLR": "{queue_size: 40, momentum: 0.9, temperature: 0.2, mining_epoch: 2}",
    "net.vicreg.VICReg": "{feature_dim: 32}",
    "net.long_term.LongTerm": "{queue_size: 40, momentum: 0.9, num_predict: 3, decoder_hidden: 8, embedding: 16}",
}
# What the long-term network has beside: losses that need no labels, the poses to come and their contrast among them.
LOSSES = "{inter_frame: 1.0, intra_frame: 0.1, segment: 0.1, order: 0.1, future: 0.1, pose_contrast: 0.1}"
SCHEDULE = (
    f"schedule: [{{name: partial, num_epoch: 1, losses: {{future: 1.0}}}}, {{name: full, losses: {LOSSES}}}]"
)


def pretrain_config(data: Path, work_dir: Path, method: str) -> str:
    """The tiny recognition config with a method in the place of labels."""
    config = TINY_CONFIG.format(data=data, work_dir=work_dir)
    before, rest = config.split("train_view:")
    after = rest[rest.index("test_view:") :]
    again, more = VIEW, ""
    if method == "net.long_term.LongTerm":
        again, more = f"{VIEW[:-1]}, same_frames: true}}", SCHEDULE
    views = f"views: [{VIEW}, {again}, {VIEW}]\nmethod: {method}\nmethod_args: {METHODS[method]}\n{more}\n"
    return before + views + after


def run(processor: str, config: Path, *args: str) -> int:
    return main.main([processor, "-c", str(config), *map(str, args)])


def result_of(work: Path) -> dict:
    return json.loads((work / "result.json").read_text())


def rows_of(work: Path) -> list[dict]:
    with (work / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=METHODS)
def pretrained(request, tiny_data, tmp_path_factory):
    """(config file, work_dir) of a pre-training run of 4 epochs, by each method."""
    folder = tmp_path_factory.mktemp("pretrained")
    config = folder / "pretrain.yaml"
    config.write_text(pretrain_config(tiny_data, folder / "work", request.param))
    assert run("pretrain", config, "tensorboard=true") == 0
    return config, folder / "work"


@pytest.fixture(scope="module")
def encoder(tiny_data, tmp_path_factory) -> Path:
    """The work_dir of one pre-training run."""
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "pretrain.yaml").write_text(
        pretrain_config(tiny_data, folder / "work", "net.skeletonclr.SkeletonCLR")
    )
    # Long enough for the running statistics to come near to those of the clips.
    assert run("pretrain", folder / "pretrain.yaml", "num_epoch=20") == 0
    return folder / "work"


# -- stage 1 -----------------------------------------------------------------------------------------------


def test_pretraining_writes_every_loss_the_spread_and_what_neighbours_say(pretrained):
    config, work = pretrained
    method = yaml.safe_load(config.read_text())["method"]
    losses = {
        "net.skeletonclr.SkeletonCLR": [],
        "net.aimclr.AimCLR": ["train_info_nce_loss", "train_extreme_loss", "train_dropped_loss"],
        "net.vicreg.VICReg": ["train_invariance_loss", "train_variance_loss", "train_covariance_loss"],
        "net.long_term.LongTerm": [f"train_{loss.name}_loss" for loss in LongTerm.LOSSES[1:]],
    }[method]
    rows = rows_of(work)
    assert len(rows) == 4
    if method == "net.long_term.LongTerm":  # its first phase is the future alone
        rows = rows[1:]
    for name in ("train_loss", "train_spread", "val_knn_top1", *losses):
        assert all(np.isfinite(float(row[name])) for row in rows), name
    if losses:
        total = sum(float(rows[-1][name]) for name in losses)
        assert total == pytest.approx(float(rows[-1]["train_loss"]), rel=1e-5)
    result = result_of(work)
    assert result["method"] == method
    assert result["knn_k"] == 1
    assert result["epoch"] == 4  # labels choose nothing
    assert "num_label" not in result
    saved = io.load_scores(work / "scores.npz")
    assert top_k_accuracy(saved["scores"], saved["label"], 1) == pytest.approx(result["knn_top1"])
    assert any(path.name.startswith("events.out.tfevents") for path in work.iterdir())


def test_pretraining_and_knn_evaluation_find_the_same_neighbours(pretrained):
    _, work = pretrained
    knn = work.parent / "knn"
    config = str(work / "config.yaml")
    keys = ("method", "method_args", "views", "schedule", "without")
    plain = {key: value for key, value in yaml.safe_load(Path(config).read_text()).items() if key not in keys}
    (work.parent / "knn.yaml").write_text(yaml.safe_dump({**plain, "select": "last"}))
    weights = ["--weights", str(work / "best.pt"), "-w", str(knn)]
    assert run("knn_evaluation", work.parent / "knn.yaml", *weights, "knn_k=1") == 0
    assert result_of(knn)["top1"] == pytest.approx(result_of(work)["knn_top1"])
    assert result_of(knn)["knn_k"] == 1
    np.testing.assert_allclose(
        io.load_scores(knn / "scores.npz")["scores"], io.load_scores(work / "scores.npz")["scores"], rtol=1e-5
    )


def test_knn_scores_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    known, asked = (torch.randn(n, 6, generator=generator) for n in (30, 11))
    label = torch.randint(4, (30,), generator=generator)
    for k in (1, 3, 50):
        scores = knn_scores(known, label, asked, k=k, num_class=4, temperature=0.5)
        for clip in range(11):
            similarity = F.cosine_similarity(asked[clip][None], known)
            nearest = similarity.argsort(descending=True)[:k]
            votes = torch.zeros(4)
            for other in nearest:
                votes[label[other]] += torch.exp((similarity[other] - 1) / 0.5)
            torch.testing.assert_close(scores[clip], votes, rtol=1e-4, atol=1e-6)


def test_a_collapse_is_seen_and_warned_of(tiny_data, tmp_path, capsys):
    config = tmp_path / "collapse.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "work", "net.skeletonclr.SkeletonCLR"))
    # Weights that decay while hardly anything is asked of them leave the last bias alone to speak.
    decay = ["optim.weight_decay=1", "optim.lr=0.1", "optim.optimizer=sgd", "method_args.temperature=1000"]
    assert run("pretrain", config, *decay, "num_epoch=10", "data.val_fraction=0", "seed=2") == 0
    spread = [float(row["train_spread"]) for row in rows_of(tmp_path / "work")]
    assert spread[-1] < 0.1 < spread[0]
    assert "warning: the encoder collapses: the spread of its embeddings is 0.0" in capsys.readouterr().out


def test_an_epoch_that_taught_nothing_is_told():
    said = []
    run = SimpleNamespace(epoch=0, log=SimpleNamespace(info=said.append))
    Pretrain.review(None, run, {"train_loss": 0.1})
    assert not said
    Pretrain.review(None, run, {"train_loss": 0.0})
    assert said[0].startswith("warning: all losses were 0: the encoder has learnt nothing")


@pytest.mark.parametrize("queue", [5, 24])
def test_a_batch_may_exceed_the_queue_or_not_divide_it(tiny_data, tmp_path, queue):
    config = tmp_path / "queue.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "work", "net.skeletonclr.SkeletonCLR"))
    assert run("pretrain", config, f"method_args.queue_size={queue}", "num_epoch=2") == 0
    model = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["model"]
    assert int(model["queue_ptr"]) == (2 * 3 * min(16, queue)) % queue
    torch.testing.assert_close(model["queue"].norm(dim=0), torch.ones(queue))


@pytest.mark.slow
def test_a_pretraining_run_that_is_killed_and_resumed_equals_one_that_was_not(tiny_data, tmp_path):
    config = tmp_path / "aimclr.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path, "net.aimclr.AimCLR"))
    # A test view that is drawn at random must not depend on what was trained before it, either.
    drawn = "test_view.sampling=[{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]"
    settings = ["num_epoch=8", drawn]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(config, whole, *settings, processor="pretrain")
    rng = np.random.default_rng()
    for attempt in range(3):
        resume = ["--resume"] if attempt else []
        process = start(config, killed, *settings, *resume, processor="pretrain")
        process.wait_for(killed / "last.pt", changed_since=time.time_ns())
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    finish(config, killed, *settings, "--resume", processor="pretrain")
    assert_same_run(whole, killed)
    assert {"model.queue", "model.queue_ptr"} <= state_of(killed).keys()


# -- stage 2 -----------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tiny_config) -> Path:
    """A config of few labels, whose last epoch counts."""
    settings = {"select": "last", "data": {"val_fraction": 0, "label_fraction": 0.2}}
    config = yaml.safe_load(tiny_config.read_text())
    config["data"] |= settings.pop("data")
    tiny_config.write_text(yaml.safe_dump({**config, **settings}))
    return tiny_config


def test_weights_of_another_layout_are_named_at_once(encoder, labelled, tmp_path, capsys):
    content = torch.load(encoder / "best.pt", weights_only=True)
    skeleton = get_skeleton("kinect-v1").to_dict()
    torch.save({**content, "skeleton": skeleton}, tmp_path / "w.pt")
    assert run("linear_evaluation", labelled, "--weights", str(tmp_path / "w.pt")) == 1
    said = capsys.readouterr().err
    assert "'kinect-v1' (20 joints)" in said and "'ntu-rgb+d' (25 joints)" in said
    assert run("linear_evaluation", labelled, "--weights", str(encoder)) == 1
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("processor", ["linear_evaluation", "finetune_evaluation"])
def test_stage_2_starts_from_the_encoder_of_every_method(pretrained, labelled, tmp_path, processor):
    _, stage1 = pretrained
    settings = ["--weights", stage1 / "best.pt", "num_epoch=2", "optim.lr=0.0", "optim.optimizer=sgd"]
    assert run(processor, labelled, *settings) == 0
    before = torch.load(stage1 / "best.pt", weights_only=True)["model"]
    prefix = "encoder." if "encoder.A" in before else "encoder_q."
    after = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["model"]
    taken = [key for key in after if not key.startswith("fcn.") and prefix + key in before]
    assert len(taken) > 40
    for key in taken:
        moves = "running" in key or "batches" in key
        if processor == "linear_evaluation" or not moves:
            torch.testing.assert_close(after[key], before[prefix + key], msg=key)


def test_linear_evaluation_trains_one_layer_on_features_made_once(encoder, labelled, tmp_path, monkeypatch):
    seen = []
    encode = Model.encode
    monkeypatch.setattr(Model, "encode", lambda self, clip: seen.append(len(clip.x)) or encode(self, clip))
    weights = str(encoder / "best.pt")
    settings = ["--weights", weights, "num_epoch=30", "optim.lr=0.5", "optim.optimizer=sgd", "train_repeat=3"]
    assert run("linear_evaluation", labelled, *settings) == 0
    # 12 labelled clips of 3 views and 32 test clips of 1, whatever the number of epochs.
    assert sum(seen) == 3 * 12 + 32
    work = tmp_path / "work"
    result = result_of(work)
    assert result["weights"] == weights
    assert (result["num_train_clip"], result["label_fraction"]) == (12, 0.2)
    first, last = (float(rows_of(work)[epoch]["train_loss"]) for epoch in (0, -1))
    assert last < first
    # The whole network, as it is stored, scores the same.
    test = ["--phase", "test", "--weights", str(work / "best.pt")]
    assert run("linear_evaluation", labelled, *test) == 0
    np.testing.assert_allclose(
        io.load_scores(work / "test" / "scores.npz")["scores"],
        io.load_scores(work / "scores.npz")["scores"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_fails_before_neighbours_are_compared_leaves_earlier_results(
    encoder, tiny_config, tmp_path, monkeypatch, capsys
):
    config = {
        key: value for key, value in yaml.safe_load(tiny_config.read_text()).items() if key != "train_view"
    }
    tiny_config.write_text(yaml.safe_dump(config))
    words = ["--weights", str(encoder / "best.pt")]
    assert run("knn_evaluation", tiny_config, *words) == 0
    before = result_of(tmp_path / "work")

    def fail(*args):
        raise ValueError("views of a clip do not differ")

    monkeypatch.setattr("processor.knn_evaluation.fit_whitening", fail)
    view = "whiten_view={sampling: [{Resize: {num_frame: 16}}]}"
    assert run("knn_evaluation", tiny_config, *words, view, "--overwrite") == 1
    assert "views of a clip do not differ" in capsys.readouterr().err
    assert result_of(tmp_path / "work") == before


def test_the_clips_whose_labels_are_used_are_written_down(encoder, labelled, tmp_path):
    work = tmp_path / "work"
    chosen = {}
    for seed in (0, 1):
        settings = ["--weights", encoder / "best.pt", "num_epoch=1", f"data.label_seed={seed}", "--overwrite"]
        assert run("linear_evaluation", labelled, *settings) == 0
        with (work / "labelled.csv").open() as file:
            rows = list(csv.DictReader(file))
        # 16 clips a class: round(0.2 * 16) of each.
        assert np.bincount([int(row["label"]) for row in rows]).tolist() == [3, 3, 3, 3]
        assert {row["part"] for row in rows} == {"train"}
        chosen[seed] = {row["name"] for row in rows}
    assert chosen[0] != chosen[1]


def test_labels_that_choose_the_epoch_are_counted(tiny_config, tmp_path):
    settings = ["num_epoch=1", "data.label_fraction=0.25", "eval_interval=1"]
    assert run("finetune_evaluation", tiny_config, *settings) == 0
    with (tmp_path / "work" / "labelled.csv").open() as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert (parts.count("train"), parts.count("val")) == (12, 4)


def test_encoder_and_head_have_their_own_rates(encoder, labelled, tmp_path):
    settings = [
        "num_epoch=1",
        "encoder_lr=0.001",
        "optim.lr=0.1",
        "optim.optimizer=sgd",
        "optim.schedule=constant",
    ]
    assert run("finetune_evaluation", labelled, "--weights", encoder / "best.pt", *settings) == 0
    rates = [
        group["base_lr"]
        for group in torch.load(tmp_path / "work" / "last.pt", weights_only=True)["optimizer"]["param_groups"]
    ]
    assert rates == [0.001, 0.1]
    row = rows_of(tmp_path / "work")[-1]
    written = [float(row[name]) for name in ("encoder_lr", "lr")]
    assert written == pytest.approx([rate / 2 for rate in rates])  # warm-up
    # From scratch there is nothing to be careful with.
    assert run("finetune_evaluation", labelled, *settings, "weights=null", "--overwrite") == 0
    state = torch.load(tmp_path / "work" / "last.pt", weights_only=True)
    assert [group["base_lr"] for group in state["optimizer"]["param_groups"]] == [0.1, 0.1]


def test_from_scratch_parts_that_nothing_teaches_are_told(labelled, tmp_path):
    as_gcn = "{_delete_: true, num_class: 4, hidden_channels: 4, link_hidden: 4, num_link_frame: 8}"
    settings = ["model=net.as_gcn.Model", f"model_args={as_gcn}", "--debug"]
    assert run("finetune_evaluation", labelled, *settings) == 0
    log = tmp_path / "work" / "debug" / "log.txt"
    assert "losses nll or kl" in log.read_text()
    assert run("finetune_evaluation", labelled, "--debug", "--overwrite") == 0
    assert "nll" not in log.read_text()


def test_fine_tuning_is_in_train_mode_and_a_frozen_encoder_in_eval_mode(encoder, labelled, tmp_path):
    weights = str(encoder / "best.pt")
    before = torch.load(weights, weights_only=True)["model"]
    for freeze in ("false", "true"):
        settings = ["--weights", weights, f"freeze={freeze}", "num_epoch=2", "--overwrite"]
        assert run("finetune_evaluation", labelled, *settings) == 0
        after = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["model"]
        same = [torch.equal(after[key], before["encoder_q." + key]) for key in after if "fcn" not in key]
        assert (
            all(same)
            if freeze == "true"
            else not any(
                torch.equal(after[key], before["encoder_q." + key]) for key in after if "running_mean" in key
            )
        )
        assert after["fcn.weight"].any()
        assert result_of(tmp_path / "work")["freeze"] == (freeze == "true")


def test_few_clips_make_an_epoch_of_many_steps(labelled, tmp_path, capsys):
    settings = ["num_epoch=1", "min_epoch_clip=50", "batch_size=10"]
    assert run("finetune_evaluation", labelled, *settings) == 0
    state = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["optimizer"]["state"]
    assert {int(slots["step"]) for slots in state.values()} == {5}


def test_standardising_gives_deviation_1_but_not_to_what_hardly_changes():
    features = torch.randn(50, 4) * torch.tensor([1.0, 5.0, 0.0, 1e-6]) + 3
    whitening = Whitening(4)
    torch.testing.assert_close(whitening(features), features)
    whitening.standardise(features)
    found = whitening(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0, 0.0]), atol=2e-3, rtol=0
    )


def test_whitening_makes_views_of_a_clip_differ_alike_in_all_directions():
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(300, 1, 5, generator=generator)
    mixing = torch.randn(5, 5, generator=generator)
    noise = torch.randn(300, 4, 5, generator=generator) * torch.tensor([3.0, 1.0, 0.3, 0.1, 1.0])
    features = clips + noise @ mixing
    whitening = Whitening(5)
    whitening.by_views(features, eps=0.0)
    mapped = whitening(features)
    within = (mapped - mapped.mean(1, keepdim=True)).flatten(0, 1)
    covariance = within.T @ within / len(within)
    torch.testing.assert_close(covariance, covariance[0, 0] * torch.eye(5), atol=1e-3, rtol=0)
    assert float(mapped.square().mean()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(mapped.mean((0, 1)), torch.zeros(5), atol=1e-4, rtol=0)
    # Without the share of the largest variance, a direction in which nothing differs would count endlessly.
    features[..., 4] = features[:, :1, 4]
    whitening.by_views(features)
    assert whitening(features).isfinite().all()


def test_whitening_takes_unlabelled_clips_and_is_stored_with_the_network(
    encoder, labelled, tmp_path, monkeypatch
):
    seen = []
    encode = Model.encode
    monkeypatch.setattr(Model, "encode", lambda self, clip: seen.append(len(clip.x)) or encode(self, clip))
    view = "whiten_view={sampling: [{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]}"
    whiten = [view, "whiten_repeat=3", "whiten_clip=60", "test_batch_size=20"]
    settings = [
        "--weights",
        encoder / "best.pt",
        "num_epoch=30",
        "optim.lr=0.1",
        "optim.optimizer=sgd",
        *whiten,
    ]
    assert run("linear_evaluation", labelled, *settings) == 0
    # 3 views of 60 of the 64 training clips; one of the 12 labelled and of the 32 test clips.
    assert sum(seen) == 3 * 60 + 12 + 32
    work = tmp_path / "work"
    assert result_of(work)["whitened"] is True
    test = ["--phase", "test", "--weights", work / "best.pt", *whiten]
    assert run("linear_evaluation", labelled, *test) == 0
    np.testing.assert_allclose(
        io.load_scores(work / "test" / "scores.npz")["scores"],
        io.load_scores(work / "scores.npz")["scores"],
        rtol=1e-3,
        atol=1e-4,
    )
    config = {
        key: value for key, value in yaml.safe_load(labelled.read_text()).items() if key != "train_view"
    }
    labelled.write_text(yaml.safe_dump(config))
    scores = {}
    for name, more in (("plain", []), ("whitened", whiten)):
        knn = ["--weights", encoder / "best.pt", "-w", tmp_path / name, *more]
        assert run("knn_evaluation", labelled, *knn) == 0
        assert result_of(tmp_path / name)["whitened"] is (name == "whitened")
        with (tmp_path / name / "labelled.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 12
        scores[name] = io.load_scores(tmp_path / name / "scores.npz")["scores"]
    assert not np.allclose(scores["plain"], scores["whitened"])


@pytest.mark.parametrize("whiten", [False, True])
def test_fine_tuning_starts_where_a_linear_evaluation_ended(encoder, labelled, tmp_path, whiten):
    view = "{sampling: [{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]}"
    settings = [
        "num_epoch=30",
        "optim.lr=0.1",
        "optim.optimizer=sgd",
        *([f"whiten_view={view}"] if whiten else []),
    ]
    linear = tmp_path / "linear"
    assert run("linear_evaluation", labelled, "--weights", encoder / "best.pt", *settings, "-w", linear) == 0
    expected = io.load_scores(linear / "scores.npz")["scores"]
    # A rate of 0 leaves all as it was but the running statistics, which a frozen encoder keeps.
    still = ["--weights", linear / "best.pt", "num_epoch=1", "optim.lr=0", "freeze=true"]
    assert run("finetune_evaluation", labelled, *still) == 0
    found = io.load_scores(tmp_path / "work" / "scores.npz")["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # The stored network is an ordinary one, and that of the linear evaluation can be scored as one.
    for processor, weights in (
        ("recognition", linear / "best.pt"),
        ("recognition", tmp_path / "work" / "best.pt"),
    ):
        test = ["--phase", "test", "--weights", weights, "--overwrite", "-w", tmp_path / "test"]
        assert run(processor, labelled, *test) == 0
        found = io.load_scores(tmp_path / "test" / "scores.npz")["scores"]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "change", ["data.label_fraction=0.1", "data.label_seed=1", "data.label_fraction=1.0"]
)
def test_a_head_that_knows_other_labels_is_refused(encoder, labelled, tmp_path, capsys, change):
    linear = tmp_path / "linear"
    assert (
        run("linear_evaluation", labelled, "--weights", encoder / "best.pt", "num_epoch=1", "-w", linear) == 0
    )
    weights = ["--weights", linear / "best.pt", "num_epoch=1"]
    assert run("finetune_evaluation", labelled, *weights, change) == 1
    said = capsys.readouterr().err
    assert f"{linear / 'best.pt'} is a linear evaluation" in said
    assert f"({change.split('=')[0]} was" in said
    assert "ignore_weights=[fcn]" in said
    assert run("finetune_evaluation", labelled, *weights, change, "ignore_weights=[fcn]") == 0


def test_an_encoder_that_has_collapsed_is_not_evaluated(encoder, labelled, tmp_path, capsys):
    content = torch.load(encoder / "best.pt", weights_only=True)
    for key, value in content["model"].items():
        if key.startswith("encoder_q.st_gcn_networks.") and value.is_floating_point():
            value.zero_()
    torch.save(content, tmp_path / "collapsed.pt")
    weights = ["--weights", tmp_path / "collapsed.pt"]
    view = "whiten_view={sampling: [{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]}"
    for more in ([], [view]):
        assert run("linear_evaluation", labelled, *weights, *more) == 1
        assert "has collapsed" in capsys.readouterr().err
    config = {
        key: value for key, value in yaml.safe_load(labelled.read_text()).items() if key != "train_view"
    }
    labelled.write_text(yaml.safe_dump(config))
    assert run("knn_evaluation", labelled, *weights) == 1
    assert "has collapsed" in capsys.readouterr().err


def test_a_head_of_other_classes_is_not_taken(encoder, labelled, tmp_path, capsys):
    linear = tmp_path / "linear"
    names = "\n".join(f"{number}: {number // 2}" for number in range(4))
    (tmp_path / "two.yaml").write_text(names)
    two = [f"data.label_map={tmp_path / 'two.yaml'}", "data.num_class=2", "model_args.num_class=2"]
    settings = ["--weights", encoder / "best.pt", "num_epoch=1", *two, "-w", linear]
    assert run("linear_evaluation", labelled, *settings) == 0
    assert run("finetune_evaluation", labelled, "--weights", linear / "best.pt", "num_epoch=1") == 0
    test = ["--phase", "test", "--weights", linear / "best.pt"]
    assert run("recognition", labelled, *test) == 1
    assert "of another shape: fcn.weight (2, 32) in the file, (4, 32, 1, 1) in" in capsys.readouterr().err


def test_both_stages_from_arrays_on_disk(tiny_data, tiny_config, tmp_path, capsys):
    folder = tmp_path / "frame50"
    export = ["--data", str(tiny_data), "--benchmark", "xsub", "--format", "aimclr", "--out", str(folder)]
    assert export_numpy.main(export) == 0
    config = tmp_path / "pretrain.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "stage1", "net.aimclr.AimCLR"))
    data = [f"data.path={folder / 'xsub'}", "data.val_by=random", "num_epoch=1"]
    assert run("pretrain", config, *data) == 0
    weights = ["--weights", tmp_path / "stage1" / "best.pt"]
    assert run("finetune_evaluation", tiny_config, *data, *weights, "data.label_fraction=0.5") == 0
    assert result_of(tmp_path / "work")["num_train_clip"] == 24
    label = folder / "xsub" / "train_label.pkl"
    label.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    assert run("pretrain", config, *data, "-w", tmp_path / "again") == 1
    assert "system" in capsys.readouterr().err
    assert not Path("owned").exists()
    label.unlink()
    assert run("pretrain", config, *data, "-w", tmp_path / "again") == 1
    assert "train_label.pkl" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


# -- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processor", "settings", "said"),
    [
        ("linear_evaluation", [], "weights: is null; name those of the encoder with --weights FILE"),
        ("knn_evaluation", [], "weights: is null; name those of the encoder with --weights FILE"),
        ("knn_evaluation", ["knn_k=0", "weights=x"], "knn_k: is 0; it is 1 or more"),
        ("finetune_evaluation", ["freeze=true"], "freeze: is true, but weights is null"),
        ("finetune_evaluation", ["encoder_lr=-1"], "encoder_lr: is -1.0; it is 0 or more"),
        ("linear_evaluation", ["train_repeat=0", "weights=x"], "train_repeat: is 0; it is 1 or more"),
        (
            "linear_evaluation",
            ["whiten_repeat=1", "weights=x"],
            "whiten_repeat: is 1; it is 2 or more, so that",
        ),
        (
            "knn_evaluation",
            ["whiten_view={sampling: [Foo]}", "weights=x"],
            "whiten_view.sampling.0: 'Foo' is unkn",
        ),
        ("finetune_evaluation", ["min_epoch_clip=-1"], "min_epoch_clip: is -1; it is 0 or more"),
    ],
)
def test_configs_that_cannot_run(tiny_config, capsys, processor, settings, said):
    keys = ("train_view",) if processor == "knn_evaluation" else ()
    config = {key: value for key, value in yaml.safe_load(tiny_config.read_text()).items() if key not in keys}
    tiny_config.write_text(yaml.safe_dump(config))
    assert run(processor, tiny_config, *settings) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.label_fraction=0.5"], "data.label_fraction: is 0.5; "),
        (["data.balanced=true"], "data.balanced: is true; "),
        (["method=net.aimclr.AimCRL"], "method: net.aimclr has no class 'AimCRL'; did you mean 'AimCLR'?"),
        (["method=net.st_gcn.Model"], "method: net.st_gcn.Model is not a net.method.Method"),
        (
            ["model=net.aimclr.AimCLR", "model_args={_delete_: true, base_encoder: x}"],
            "model: net.aimclr.AimCLR is not a net.encoder.Encoder",
        ),
        (
            ["method_args.queue_siz=3"],
            "method_args.queue_siz: net.skeletonclr.SkeletonCLR takes no such argument",
        ),
        (["method_args.base_encoder=3"], "method_args.base_encoder: the program passes this argument"),
        (
            ["schedule=[{name: a, losses: {future: 1.0}}]"],
            "schedule.0.losses.future: the network has no such loss",
        ),
        (["views=[]"], "views.0: is null; losses info_nce take 2 views of a clip"),
        (["views.1.sampling=[Nothing]"], "views.1.sampling.0: 'Nothing' is unknown"),
        (["stream=bones"], "stream: is 'bones', which is not one of"),
    ],
)
def test_pretraining_configs_that_cannot_run(tiny_data, tmp_path, capsys, settings, said):
    config = tmp_path / "pretrain.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "work", "net.skeletonclr.SkeletonCLR"))
    assert run("pretrain", config, *settings) == 2
    assert said in capsys.readouterr().err


def test_weights_that_are_not_there_or_of_another_width_or_layout(encoder, labelled, capsys):
    assert run("linear_evaluation", labelled, "--weights", "nowhere/best.pt") == 1
    assert "weights nowhere/best.pt not found; train them first" in capsys.readouterr().err
    weights = ["--weights", str(encoder / "best.pt")]
    assert run("linear_evaluation", labelled, *weights, "model_args.hidden_channels=16") == 1
    said = capsys.readouterr().err
    for key in ("st_gcn_networks.0.gcn.conv.weight", "st_gcn_networks.2.tcn.2.bias"):
        assert f"of another shape: {key}" in said
    assert run("linear_evaluation", labelled, *weights, "model_args.strategy=uniform") == 1
    assert (
        "of another shape: A (3, 25, 25) in the file, (1, 25, 25) in the network" in capsys.readouterr().err
    )
    assert (
        run("linear_evaluation", labelled, *weights, "model=net.ctr_gcn.Model", "model_args={_delete_: true}")
        == 1
    )
    said = capsys.readouterr().err
    assert "missing in the file: l1." in said
    assert "not in the network: st_gcn_networks." in said


def test_weights_of_another_method_list_every_mismatch(encoder, tiny_data, tmp_path, capsys):
    config = tmp_path / "vicreg.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "work", "net.vicreg.VICReg"))
    assert run("pretrain", config, "--weights", encoder / "best.pt") == 1
    said = capsys.readouterr().err
    for line in (
        "missing in the file: encoder.A",
        "not in the network: encoder_k.A",
        "not in the network: queue",
    ):
        assert line in said


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_both_stages_on_cuda(tiny_data, tiny_config, tmp_path, method, precision):
    config = tmp_path / "pretrain.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "stage1", method))
    settings = ["device=cuda", f"precision={precision}", "num_epoch=3"]
    assert run("pretrain", config, *settings) == 0
    assert run("pretrain", config, *settings, "--resume") == 0
    few, view = ["data.label_fraction=0.5", "whiten_repeat=2"], f"whiten_view={VIEW}"
    for processor, source, more in (
        ("linear_evaluation", "stage1", [*few, view, "train_repeat=2"]),
        ("finetune_evaluation", "linear_evaluation", few[:1]),
        ("finetune_evaluation", "stage1", [few[0], view, "spread={}"]),
        ("finetune_evaluation", "stage1", ["freeze=true", "model_args.skip_empty_bodies=true"]),
    ):
        weights = ["--weights", tmp_path / source / "best.pt", "-w", tmp_path / processor, "--overwrite"]
        assert run(processor, tiny_config, *settings, *weights, *more) == 0
    config = {
        key: value for key, value in yaml.safe_load(tiny_config.read_text()).items() if key != "train_view"
    }
    tiny_config.write_text(yaml.safe_dump(config))
    weights = ["--weights", tmp_path / "stage1" / "best.pt", "-w", tmp_path / "knn"]
    assert run("knn_evaluation", tiny_config, *settings, *weights, *few, view) == 0
