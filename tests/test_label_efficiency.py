"""The grid over labels, and the map of features, as commands."""

import csv
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_adaptation import pretrain_config

import main
from conftest import TINY_CONFIG
from tools import embed, label_efficiency

pytestmark = pytest.mark.usefixtures("few_blocks", "blank")


@pytest.fixture(scope="module")
def study(tiny_data, tmp_path_factory) -> Path:
    """A folder with weights of an encoder, configs of both protocols, and a grid of them."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "pretrain.yaml").write_text(
        pretrain_config(tiny_data, folder / "stage1", "net.skeletonclr.SkeletonCLR")
    )
    assert main.main(["pretrain", "-c", str(folder / "pretrain.yaml"), "num_epoch=1"]) == 0
    config = yaml.safe_load(TINY_CONFIG.format(data=tiny_data, work_dir=folder / "unused"))
    config["data"]["val_fraction"] = 0
    config |= {"select": "last", "num_epoch": 2, "weights": str(folder / "stage1" / "best.pt")}
    for name in ("linear", "finetune"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    del config["train_view"]
    (folder / "knn.yaml").write_text(yaml.safe_dump(config))
    grid = {
        "weights": config["weights"],
        "work_dir": str(folder / "grid"),
        "fractions": [0.25, 1.0],
        "seeds": 2,
    }
    grid |= {name: str(folder / f"{name}.yaml") for name in ("linear", "finetune")}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    return folder


def run(study: Path, *args: object) -> int:
    return label_efficiency.main(["-c", str(study / "grid.yaml"), *map(str, args)])


def test_a_grid_is_run_summed_up_and_not_run_again(study, tmp_path, capsys, monkeypatch):
    assert run(study, "-w", tmp_path) == 0
    said = capsys.readouterr().out
    with (tmp_path / "label_efficiency.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    labels = {float(row["fraction"]): int(row["num_label"]) for row in rows}
    assert labels == {0.25: 16, 1.0: 64}
    cells = pd.DataFrame(rows).astype({"top1": float, "fraction": float})
    of = cells[(cells.protocol == "linear") & (cells.fraction == 0.25)].top1 * 100
    text = (tmp_path / "label_efficiency.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| 25 % (16)"))
    assert f"| {of.mean():.1f} ± {of.std():.1f} |" in row
    assert "smallest share of labels within … of its own figure with all labels" in text
    assert text in said
    assert (tmp_path / "label_efficiency.png").stat().st_size > 5000

    def refuse(words):
        raise AssertionError(f"{words} is run again")

    monkeypatch.setattr(main, "main", refuse)
    assert run(study, "-w", tmp_path, "--protocols", "scratch", "linear") == 0
    with (tmp_path / "label_efficiency.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 2


def test_a_setting_behind_options_of_several_values_is_a_setting():
    words = ["-c", "a=b.yaml", "--fractions", "0.1", "1", "settings=[x=1]", "--weights", "w", "seeds=2"]
    assert label_efficiency.settings_first(words) == [
        "settings=[x=1]", "seeds=2", "-c", "a=b.yaml", "--fractions", "0.1", "1", "--weights", "w"
    ]  # fmt: skip


def test_what_a_cell_runs(study):
    config = label_efficiency.load_config(
        study / "grid.yaml", ["settings=[precision=bf16]"], label_efficiency.GridConfig
    )
    grid = label_efficiency.Grid(config, overwrite=False, plugins=["net"])
    for protocol, processor, weights in (
        ("linear", "linear_evaluation", config.weights),
        ("finetune", "finetune_evaluation", str(Path(config.work_dir, "linear", "0.25", "seed3", "best.pt"))),
        ("scratch", "finetune_evaluation", None),
    ):
        words = grid.words(label_efficiency.Cell(protocol, 0.25, 3))
        assert words[0] == processor
        args = main.parse(words)
        assert args.plugin == ["net"]
        run_config = main.read_config(args)
        assert run_config.weights == weights
        assert (run_config.data.label_fraction, run_config.data.label_seed, run_config.seed) == (0.25, 3, 3)
        assert run_config.precision == "bf16"
        assert Path(run_config.work_dir) == Path(config.work_dir, protocol, "0.25", "seed3")


def test_fine_tuning_may_start_from_the_encoder(study):
    settings = ["finetune_from=encoder", "protocols=[finetune]"]
    config = label_efficiency.load_config(
        study / "grid.yaml", settings, label_efficiency.GridConfig, check=label_efficiency.check
    )
    grid = label_efficiency.Grid(config, overwrite=False)
    assert grid.weights(grid.cells[0]) == config.weights
    cells = label_efficiency.Grid(
        label_efficiency.GridConfig("w", "e", "l", "f", protocols=["scratch", "finetune", "linear"]),
        overwrite=False,
    ).cells
    # What a cell starts from is made before it.
    assert [cell.protocol for cell in cells[:9:3]] == ["linear", "finetune", "scratch"]


def test_a_cell_that_broke_off_goes_on(study, tmp_path):
    only = [
        "finetune_from=encoder",
        "--protocols",
        "finetune",
        "--fractions",
        "1",
        "--seeds",
        "1",
        "-w",
        tmp_path,
    ]
    assert run(study, *only) == 0
    cell = tmp_path / "finetune" / "1" / "seed0"
    (cell / "result.json").unlink()
    assert run(study, *only) == 0
    assert "all 2 epochs are done" in (cell / "log.txt").read_text()


def test_a_cell_of_another_config_or_of_older_weights_is_not_taken(study, tmp_path, capsys):
    only = ["--protocols", "linear", "--fractions", "1", "--seeds", "1", "-w", tmp_path]
    assert run(study, *only) == 0
    assert run(study, *only, "settings=[optim.lr=0.5]") == 1
    message = capsys.readouterr().err
    assert "was run with another config (optim.lr was 0.01, is 0.5)" in message
    assert "--overwrite" in message
    result = tmp_path / "linear" / "1" / "seed0" / "result.json"
    long_ago = time.time() - 1e6
    os.utime(result, (long_ago, long_ago))
    assert run(study, *only) == 1
    assert "best.pt changed" in capsys.readouterr().err
    assert run(study, *only, "--overwrite") == 0
    assert result.stat().st_mtime > long_ago + 1e5


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--fractions", "0", "1"], 2, "fractions: has 0.0; a fraction is above 0, up to 1"),
        (["--seeds", "0"], 2, "seeds: is 0; it is 1 or more"),
        (["protocols=[finetune]"], 2, "finetune_from: is 'linear'"),
        (["weights=null"], 2, "weights: is null; name those of the encoder with --weights FILE"),
        (["protocols=[]"], 2, "protocols: is empty; name one or more"),
        (["settings=[optim.rl=1]"], 2, "optim.rl: unknown key; choose from"),
        (["weights=nowhere.pt"], 1, "weights nowhere.pt not found; train them first"),
    ],
)
def test_what_goes_wrong(study, tmp_path, capsys, args, status, said):
    assert run(study, "-w", tmp_path, *args) == status
    assert said in capsys.readouterr().err


def means_of(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["protocol", "fraction", "mean"])


def test_the_sentence_by_hand():
    means = means_of(
        ("linear", 0.05, 84.0),
        ("linear", 0.3, 88.5),
        ("linear", 1.0, 90.0),
        ("scratch", 0.3, 70.0),
        ("scratch", 1.0, 89.0),
    )
    assert label_efficiency.enough(means) == [
        "linear: smallest share of labels within … of its own figure with all labels (90.0 %): "
        "1 point: 100 %, 2 points: 30 %, 5 points: 30 %.",
        "linear: smallest share of labels within … of training from scratch with all labels (89.0 %): "
        "1 point: 30 %, 2 points: 30 %, 5 points: 5 %.",
        "scratch: smallest share of labels within … of its own figure with all labels (89.0 %): "
        "1 point: 100 %, 2 points: 100 %, 5 points: 100 %.",
    ]
    assert "fraction 1" in label_efficiency.enough(means_of(("linear", 0.3, 88.5)))[0]
    low = means_of(("linear", 1.0, 50.0), ("scratch", 1.0, 89.0))
    assert "1 point: none, 2 points: none, 5 points: none." in label_efficiency.enough(low)[1]


# -- the map -----------------------------------------------------------------------------------------------


def test_embed_draws_every_clip_and_keeps_neighbours_together(study, tmp_path, capsys):
    weights = str(study / "stage1" / "best.pt")
    words = ["-c", str(study / "knn.yaml"), "--weights", weights, "--out", str(tmp_path / "map")]
    assert embed.main([*words, "--perplexity", "5"]) == 0
    with (tmp_path / "map" / "embed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"clip{clip:03d}" for clip in range(64, 96)]
    assert [row["class"] for row in rows][:4] == ["left arm", "right arm", "left leg", "right leg"]
    assert (tmp_path / "map" / "embed.png").stat().st_size > 5000
    assert embed.main([*words, "--perplexity", "5"]) == 1
    assert "holds an earlier map; replace it with --overwrite" in capsys.readouterr().err
    words.append("--overwrite")
    assert embed.main([*words, "--perplexity", "32"]) == 1
    assert "perplexity is 32 for 32 clips" in capsys.readouterr().err
    assert embed.main([*words, "--part", "train", "--perplexity", "5"]) == 0
    assert "64 clips" in capsys.readouterr().out
    assert embed.main([*words[:3], "nowhere.pt", *words[4:]]) == 1
    assert embed.main([*words, "knn_k=0"]) == 2


def test_tsne_separates_what_is_far_apart():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.standard_normal((20, 8)) * 0.1 + centre for centre in np.eye(8)[:2] * 3])
    places = embed.embed(features, perplexity=5, seed=0)
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert ((distance.argmin(1) < 20) == (np.arange(40) < 20)).all()
