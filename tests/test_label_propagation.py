"""Labels spread between neighbours: against dense algebra, by hand, and through the commands."""

import csv
import json

import h5py
import numpy as np
import pytest
import torch
import yaml
from test_adaptation import pretrain_config, run
from test_resume import assert_same_run

import main
from net.whitening import Whitening
from processor import label_propagation
from processor.experiment import Experiment
from processor.features import extract_features
from processor.label_propagation import propagate_labels
from processor.registry import task_class
from processor.whitening import fit_whitening

pytestmark = pytest.mark.usefixtures("few_blocks", "blank")

PROCESSORS = ("linear_evaluation", "finetune_evaluation")


def spread(features, label, known, **changes):
    arguments = {"num_class": 3, "num_neighbour": 4, "temperature": 0.1, "alpha": 0.8} | changes
    features, label = torch.as_tensor(features, dtype=torch.float32), torch.as_tensor(label)
    return propagate_labels(features, label, torch.as_tensor(known), **arguments)


def by_dense_algebra(features, label, known, *, num_class, num_neighbour, temperature, alpha, take=None):
    """Zhou et al. 2003, section 2: F = (I - alpha S)^-1 Y, then classes brought to their shares."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    tie = np.zeros_like(cosine)
    for clip, row in enumerate(cosine):
        for other in np.argsort(-row)[:num_neighbour]:
            weight = np.exp((row[other] - 1) / temperature)
            tie[clip, other] += weight
            tie[other, clip] += weight
    if take is not None:
        closest = np.sort(np.exp((cosine.max(1) - 1) / temperature))[(len(tie) - 1) // 2]
        tie += 2 * closest * ((take[:, None] == take) & ~np.eye(len(tie), dtype=bool))
    scale = np.diag(tie.sum(1) ** -0.5)
    share = np.bincount(label[known], minlength=num_class)
    given = np.zeros((len(label), num_class))
    given[known, label[known]] = 1 / share[label[known]]
    found = np.linalg.inv(np.eye(len(tie)) - alpha * scale @ tie @ scale) @ given
    for _ in range(30):
        found = found / found.sum(0) * share
        found = found / found.sum(1, keepdims=True)
    return found


@pytest.mark.parametrize("take", [None, np.arange(60) // 2], ids=["no takes", "takes"])
@pytest.mark.parametrize("alpha", [0.1, 0.8, 0.99])
def test_equal_to_dense_algebra(alpha, take):
    rng = np.random.default_rng(0)
    features, label = rng.standard_normal((60, 6)), rng.integers(0, 3, 60)
    known = np.isin(np.arange(60), [*(np.flatnonzero(label == each)[0] for each in range(3)), 10, 20, 30])
    options = {"num_class": 3, "num_neighbour": 5, "temperature": 0.2, "alpha": alpha}
    expected = by_dense_algebra(features, label, known, take=take, **options)
    found = spread(features, label, known, take=None if take is None else torch.from_numpy(take), **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == torch.float32


def test_parts_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    features, label = rng.standard_normal((60, 6)), rng.integers(0, 3, 60)
    known = np.arange(60) < 12
    expected = spread(features, label, known)
    monkeypatch.setattr(label_propagation, "PART", 7)
    torch.testing.assert_close(spread(features, label, known), expected)


@pytest.mark.parametrize("temperature", [1e-4, 1e-6])
def test_ties_too_weak_for_a_number_reach_nobody(temperature):
    features = np.random.default_rng(0).standard_normal((20, 3))
    found = spread(features, [0, 1, 2, *[0] * 17], [True] * 3 + [False] * 17, temperature=temperature)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(1), torch.ones(20))


def test_features_that_are_no_numbers_are_refused():
    features = np.eye(3)
    features[1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        spread(features, [0, 1, 2], [True, True, False])


def test_one_label_a_cluster_is_enough_and_others_are_not_looked_at():
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1, 2], [40, 10, 20])
    features = np.eye(3)[label] + 0.2 * rng.standard_normal((70, 3))
    known = np.isin(np.arange(70), [3, 44, 60])
    found = spread(features, np.where(known, label, 2), known)
    assert (found.argmax(1).numpy() == label).mean() > 0.97
    torch.testing.assert_close(found.sum(1), torch.ones(70))


def test_classes_keep_the_shares_of_the_labelled_clips():
    rng = np.random.default_rng(2)
    features = rng.standard_normal((400, 3))
    # Labels of class 0 lie where many clips are, those of the others beside them.
    label, known = np.zeros(400, int), np.arange(400) < 8
    label[4:6], label[6:8] = 1, 2
    found = spread(features, label, known, num_neighbour=20)
    np.testing.assert_allclose(found.mean(0), [0.5, 0.25, 0.25], atol=0.01)


def test_a_take_ties_clips_however_far_apart_they_lie():
    turn = np.linspace(0, 0.3, 10)
    arc = np.stack([np.cos(turn), np.sin(turn)], 1)
    far = np.stack([-np.ones(3), [-0.1, 0, 0.1]], 1)
    features, label = np.concatenate([arc, arc[:, ::-1], far]), np.repeat([0, 1, 0], [10, 10, 3])
    known = np.isin(np.arange(23), [5, 15])
    options = {"num_class": 2, "num_neighbour": 2}
    alone = spread(features, label, known, **options)
    assert alone[:20].argmax(1).tolist() == label[:20].tolist()
    torch.testing.assert_close(alone[20:], torch.full((3, 2), 0.5))
    for clip, expected in ((0, 0), (19, 1)):
        tied = spread(features, label, known, take=torch.tensor([*range(20), 20, clip, 21]), **options)
        assert tied[20:].argmax(1).tolist() == [expected] * 3


def test_fewer_clips_than_neighbours():
    found = spread(np.eye(3), [0, 1, 2], [True, True, True], num_neighbour=20)
    assert found.argmax(1).tolist() == [0, 1, 2]


# -- through the commands ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "config.yaml").write_text(
        pretrain_config(tiny_data, folder / "work", "net.skeletonclr.SkeletonCLR")
    )
    assert run("pretrain", folder / "config.yaml") == 0
    return folder / "work" / "best.pt"


@pytest.fixture
def few(tiny_config):
    """A config with 3 labels of 16 a class."""
    config = yaml.safe_load(tiny_config.read_text())
    config["data"] |= {"val_fraction": 0, "label_fraction": 0.2}
    view = {"sampling": [{"RandomResizedCrop": {"num_frame": 16, "min_ratio": 0.5, "max_ratio": 1.0}}]}
    tiny_config.write_text(
        yaml.safe_dump(config | {"select": "last", "whiten_view": view, "spread": {"num_neighbour": 5}})
    )
    return tiny_config


@pytest.mark.parametrize("name", PROCESSORS)
def test_unlabelled_clips_learn_by_the_labels_spread_to_them(encoder, few, tmp_path, name):
    words = [name, "-c", str(few), "--weights", str(encoder), "spread.camera_key=camera", "num_epoch=2"]
    assert main.main(words) == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert (result["num_train_clip"], result["num_label"], result["spread"]) == (64, 12, True)
    with (tmp_path / "work" / "labelled.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12

    right = []
    for more in ([], ["spread.camera_key=null"]):
        processor = main.make_processor(main.parse([*words, *more, "-w", str(tmp_path / "other")]))
        processor.setup()
        processor.task.prepare(processor)
        feeder = processor.loaders["train"].feeder
        known = np.isin(feeder.name, processor.labelled["train"].name)
        np.testing.assert_array_equal(processor.targets[known], np.eye(4)[feeder.label[known]])
        take = feeder.take_index("camera")
        seen_twice = np.isin(take, take[known]) & ~known
        right.append((processor.targets.argmax(1).numpy() == feeder.label)[seen_twice].mean())
    # What another camera's clip is labelled, this one is, too.
    assert right[0] > right[1]


@pytest.mark.parametrize("whiten", [True, False], ids=["whitened", "standardised"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_labels_spread_by_the_encoder_s_whitened_features(encoder, few, tmp_path, name, whiten):
    still = "{sampling: [{Resize: {num_frame: 16}}], augment: []}"
    # Where nothing is drawn, what the encoder makes of the clips can be made again.
    words = [
        name,
        "-c",
        str(few),
        "--weights",
        str(encoder),
        f"train_view={still}",
        "-w",
        str(tmp_path / "w"),
    ]
    words += [] if whiten else ["whiten_view=null"]
    processor = main.make_processor(main.parse(words))
    processor.setup()
    processor.task.prepare(processor)
    loader = processor.part_loader(processor.feeder("train", label_fraction=1.0))
    config, feeder = processor.config, loader.feeder
    whitening = Whitening(32)
    seen = [config.test_view]
    if whiten:
        fit_whitening(processor, config, whitening, processor.model)
        seen = [config.whiten_view] * config.whiten_repeat if name == "finetune_evaluation" else seen
    shown = processor.shown(loader, seen)
    features = extract_features(processor.model, shown, shown.iterate(), processor.autocast())
    if not whiten:
        whitening.standardise(features.flatten(0, 1))
    known = np.isin(feeder.clips, processor.labelled["train"].clips)
    expected = spread(
        whitening(features.mean(1)),
        feeder.label,
        known,
        num_class=4,
        num_neighbour=5,
        temperature=0.05,
        alpha=0.9,
    )
    torch.testing.assert_close(processor.targets[~known], expected[~known], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PROCESSORS)
def test_hidden_labels_change_nothing(encoder, few, tmp_path, monkeypatch, name):
    words = [name, "-c", str(few), "--weights", str(encoder), "num_epoch=2", "spread.camera_key=camera"]
    assert main.main(words) == 0
    feeder = Experiment.feeder

    def blind(run, part, **changes):
        found = feeder(run, part, **changes)
        if changes:
            known = np.isin(found.clips, feeder(run, part).clips)
            found.label = np.where(known, found.label, 0)
        return found

    monkeypatch.setattr(Experiment, "feeder", blind)
    assert main.main([*words, "-w", str(tmp_path / "blind")]) == 0
    seen, unseen = (
        torch.load(tmp_path / folder / "last.pt", weights_only=True)["model"] for folder in ("work", "blind")
    )
    assert all(torch.equal(seen[key], unseen[key]) for key in seen)


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_trial_and_a_run_taken_up_again(encoder, few, tmp_path, name):
    words = ["--weights", encoder, "num_epoch=4", "spread.camera_key=camera"]
    assert run(name, few, *words, "test_batch_size=8", "--debug") == 0
    assert run(name, few, *words) == 0

    def stop(task, run, epoch):
        if epoch == 2:
            raise ValueError("stopped here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_class(name), "start_epoch", stop)
        assert run(name, few, *words, "-w", tmp_path / "stopped") == 1
    assert run(name, few, *words, "-w", tmp_path / "stopped", "--resume") == 0
    assert_same_run(tmp_path / "work", tmp_path / "stopped")


def test_a_take_of_two_classes_is_refused(encoder, few, tiny_data, tmp_path, capsys):
    (tmp_path / "data.h5").write_bytes(tiny_data.read_bytes())
    with h5py.File(tmp_path / "data.h5", "r+") as file:
        file["keys/subject"][...] = np.arange(96) // 2
        file["keys/camera"][...] = np.arange(96) % 2
        del file["keys/action"]
    settings = [f"data.path={tmp_path / 'data.h5'}", "spread.camera_key=camera", "data.label_fraction=0.9"]
    assert run("linear_evaluation", few, "--weights", encoder, *settings) == 1
    assert "differ only in key 'camera'" in capsys.readouterr().err


def test_views_that_do_not_differ_tell_nothing(encoder, few, capsys):
    still = "whiten_view={_delete_: true, sampling: [{Resize: {num_frame: 16}}]}"
    for name in PROCESSORS:
        assert run(name, few, "--weights", encoder, still) == 1
        assert "whiten_view=null" in capsys.readouterr().err


def test_from_scratch_there_is_nothing_to_spread_by(few, tmp_path):
    assert run("finetune_evaluation", few, "num_epoch=1") == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert (result["num_train_clip"], result["spread"]) == (12, False)


@pytest.mark.parametrize("name", PROCESSORS)
def test_with_all_labels_there_is_nothing_to_spread_to(encoder, few, tmp_path, name):
    settings = ["--weights", encoder, "num_epoch=1", "data.label_fraction=1"]
    assert run(name, few, *settings) == 0
    assert json.loads((tmp_path / "work" / "result.json").read_text())["spread"] is False
    assert run(name, few, *settings, "spread=null", "-w", tmp_path / "without") == 0
    spread, without = (
        torch.load(tmp_path / folder / "last.pt", weights_only=True)["model"]
        for folder in ("work", "without")
    )
    assert all(torch.equal(spread[key], without[key]) for key in spread)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("linear_evaluation", ["spread.alpha=1.0"], "spread.alpha: is 1.0; it is above 0, up to 0.99"),
        ("linear_evaluation", ["spread.camera_key=subject"], "spread.camera_key"),
        ("linear_evaluation", ["spread.num_neighbour=0"], "spread.num_neighbour: is 0; it is 1 or more"),
        ("finetune_evaluation", ["spread.temperature=0"], "spread.temperature: is 0"),
        (
            "finetune_evaluation",
            ["data.balanced=true"],
            "data.balanced is true, but the classes of unlabelled",
        ),
        ("finetune_evaluation", ["spread.camera_key=view"], "has no key 'view'"),
    ],
)
def test_what_cannot_be_spread_is_explained(encoder, few, capsys, name, settings, message):
    assert run(name, few, "--weights", encoder, *settings) != 0
    assert message in capsys.readouterr().err
