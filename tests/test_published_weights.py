"""Published weights of AimCLR and of the adaptation to PKU-MMD: loaded, scored and taken over by the commands."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from test_adaptation import pretrain_config, run

import main
from conftest import REFERENCE, assert_close_to_published
from data_gen import ntu_gen_preprocess
from net.st_gcn import Model
from processor import io

STAGE2 = Path(main.__file__).parent / "config" / "adaptation" / "stage2.yaml"
NETWORKS = ("OnePercent", "OneTenth", "SevenTenths", "OneTenth_fullSupervision")
# Of these a head alone is published, for the encoder of OneTenth.
HEADS = ("OnePercent", "SevenTenths")


def published(name: str) -> Path:
    path = REFERENCE / f"ssa_pku51_{name}.pt"
    if not path.exists():
        pytest.skip(f"no {path} (set LONGSKEL_REFERENCE)")
    return path


@pytest.fixture(scope="module")
def raw_clips(shared_data, tmp_path_factory) -> Path:
    """Real raw files prepared by the command, with a benchmark that tests all of them."""
    folder = tmp_path_factory.mktemp("raw")
    command = [
        "--data_path",
        str(shared_data("ntu_raw")),
        "--out",
        str(folder / "ntu60.h5"),
        "--bodies",
        "first",
    ]
    assert ntu_gen_preprocess.main(command) == 0
    with h5py.File(folder / "ntu60.h5", "r+") as file:
        everything = np.arange(len(file["label"]))
        file["splits/all/train"], file["splits/all/val"] = everything[:0], everything
    (folder / "map.csv").write_text("source,target\n" + "".join(f"{source},0\n" for source in range(60)))
    return folder


@pytest.fixture(scope="module")
def pretrained_head(tmp_path_factory) -> tuple[Path, Path]:
    """Weights of an encoder under a head of five classes, and a file of a head alone with AimCLR's names."""
    folder = tmp_path_factory.mktemp("head")
    model = Model(num_class=5, layout="ntu-rgb+d", hidden_channels=8, hidden_dim=32)
    torch.save({"model": model.state_dict()}, folder / "encoder.pt")
    head = {"encoder_q.fc.weight": torch.randn(4, 32), "encoder_q.fc.bias": torch.randn(4)}
    torch.save(head, folder / "head.pt")
    return folder / "encoder.pt", folder / "head.pt"


@pytest.mark.parametrize("name", NETWORKS)
def test_raw_files_get_the_published_scores(raw_clips, reference, tmp_path, name):
    arrays, weights = reference("ntu_preprocess.npz"), published(name)
    data = [f"data.path={raw_clips / 'ntu60.h5'}", f"data.label_map={raw_clips / 'map.csv'}", "benchmark=all"]
    if name in HEADS:
        data.append(f"head_weights={weights}")
        weights = published("OneTenth")
    test = ["--phase", "test", "--weights", weights, "-w", tmp_path / "work", "--device", "cpu"]
    assert run("finetune_evaluation", STAGE2, *test, *data) == 0
    found = io.load_scores(tmp_path / "work" / "scores.npz")
    names = arrays["names"].tolist()
    scores = found["scores"][[found["name"].tolist().index(name) for name in names]]
    expected = arrays[f"pku51_logits/{name}"]
    assert len(names) == 12
    assert_close_to_published(torch.from_numpy(scores), expected)
    np.testing.assert_array_equal(scores.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("processor", ["linear_evaluation", "finetune_evaluation"])
def test_stage_2_starts_from_a_published_encoder(tiny_config, tmp_path, processor):
    weights = published("OneTenth")
    settings = ["model_args.hidden_channels=16", "model_args.hidden_dim=256", "num_epoch=1", "optim.lr=0"]
    assert run(processor, tiny_config, "--weights", weights, *settings) == 0
    before = torch.load(weights, weights_only=True)
    after = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["model"]
    taken = [key for key in after if "fcn" not in key and "running" not in key and "batches" not in key]
    assert len(taken) > 80
    for key in taken:
        torch.testing.assert_close(after[key], before[f"encoder_q.{key}"])


def test_a_head_of_its_own_file_is_scored_on_an_encoder(pretrained_head, tiny_config, tmp_path):
    encoder, head = pretrained_head
    test = ["--phase", "test", "-w", tmp_path / "work"]
    assert run("finetune_evaluation", tiny_config, "--weights", encoder, f"head_weights={head}", *test) == 0
    assert json.loads((tmp_path / "work" / "result.json").read_text())["head_weights"] == str(head)
    state, of_head = torch.load(encoder, weights_only=True)["model"], torch.load(head, weights_only=True)
    state["fcn.weight"] = of_head["encoder_q.fc.weight"][..., None, None]
    state["fcn.bias"] = of_head["encoder_q.fc.bias"]
    torch.save(state, tmp_path / "merged.pt")
    test = ["--phase", "test", "-w", tmp_path / "merged"]
    assert run("recognition", tiny_config, "--weights", tmp_path / "merged.pt", *test) == 0
    found, expected = (io.load_scores(tmp_path / name / "scores.npz") for name in ("work", "merged"))
    np.testing.assert_array_equal(found["scores"], expected["scores"])


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ("encoder", [], "head_weights is .*head.pt, which is for --phase test"),
        (None, [], "head_weights: is .*head.pt, but weights is null"),
        (
            "encoder",
            ["head_weights={encoder}", "--phase", "test"],
            r"encoder.pt .*\n.*of another shape: fcn.weight .5, 32, 1, 1. in the file",
        ),
        ("encoder", ["head_weights=absent.pt", "--phase", "test"], "no checkpoint at absent.pt"),
    ],
    ids=["training", "no encoder", "another width", "no file"],
)
def test_a_head_that_does_not_go_is_explained(pretrained_head, tiny_config, capsys, given, settings, message):
    encoder, head = pretrained_head
    weights = ["--weights", encoder] if given else []
    more = [each.format(encoder=encoder) for each in settings]
    assert run("finetune_evaluation", tiny_config, *weights, f"head_weights={head}", *more) != 0
    assert re.search(message, capsys.readouterr().err)


def test_pretraining_goes_on_from_weights_with_aimclr_s_names(tiny_data, tmp_path):
    config = tmp_path / "aimclr.yaml"
    config.write_text(pretrain_config(tiny_data, tmp_path / "first", "net.aimclr.AimCLR"))
    assert run("pretrain", config, "num_epoch=1") == 0
    state = torch.load(tmp_path / "first" / "last.pt", weights_only=True)["model"]
    assert "encoder_k.fcn.2.weight" in state
    torch.save(
        {key.replace(".fcn.", ".fc."): value for key, value in state.items()}, tmp_path / "published.pt"
    )
    frozen = ["num_epoch=1", "optim.lr=0", "optim.weight_decay=0", "-w", tmp_path / "second"]
    assert run("pretrain", config, "--weights", tmp_path / "published.pt", *frozen) == 0
    after = torch.load(tmp_path / "second" / "last.pt", weights_only=True)["model"]
    for key in ("encoder_q.fcn.0.weight", "encoder_q.data_bn.weight"):
        torch.testing.assert_close(after[key], state[key])
