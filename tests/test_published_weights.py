"""Published weights of AimCLR and of the adaptation to PKU-MMD: loaded, scored and taken over by the commands."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from test_adaptation import pretrain_config, run

import main
from conftest import REFERENCE, assert_close_to_published
from data_gen import ntu_gen_preprocess
from processor import io

STAGE2 = Path(main.__file__).parent / "config" / "adaptation" / "stage2.yaml"
NETWORKS = ("OnePercent", "OneTenth", "SevenTenths", "OneTenth_fullSupervision")


def published_network(name: str, folder: Path) -> Path:
    """A file with all weights of one network; some are published as a head for the encoder of another."""
    path, whole = (REFERENCE / f"ssa_pku51_{each}.pt" for each in (name, "OneTenth"))
    for each in (path, whole):
        if not each.exists():
            pytest.skip(f"no {each} (set LONGSKEL_REFERENCE)")
    head = torch.load(path, weights_only=True)
    if len(head) > 2:
        return path
    torch.save({**torch.load(whole, weights_only=True), **head}, folder / f"{name}.pt")
    return folder / f"{name}.pt"


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


@pytest.mark.parametrize("name", NETWORKS)
def test_raw_files_get_the_published_scores(raw_clips, reference, tmp_path, name):
    published = reference("ntu_preprocess.npz")
    weights = published_network(name, tmp_path)
    data = [f"data.path={raw_clips / 'ntu60.h5'}", f"data.label_map={raw_clips / 'map.csv'}", "benchmark=all"]
    test = ["--phase", "test", "--weights", weights, "-w", tmp_path / "work", "--device", "cpu"]
    assert run("finetune_evaluation", STAGE2, *test, *data) == 0
    found = io.load_scores(tmp_path / "work" / "scores.npz")
    names = published["names"].tolist()
    scores = found["scores"][[found["name"].tolist().index(name) for name in names]]
    expected = published[f"pku51_logits/{name}"]
    assert len(names) == 12
    assert_close_to_published(torch.from_numpy(scores), expected)
    np.testing.assert_array_equal(scores.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("processor", ["linear_evaluation", "finetune_evaluation"])
def test_stage_2_starts_from_a_published_encoder(tiny_config, tmp_path, processor):
    weights = published_network("OneTenth", tmp_path)
    settings = ["model_args.hidden_channels=16", "model_args.hidden_dim=256", "num_epoch=1", "optim.lr=0"]
    assert run(processor, tiny_config, "--weights", weights, *settings) == 0
    before = torch.load(weights, weights_only=True)
    after = torch.load(tmp_path / "work" / "last.pt", weights_only=True)["model"]
    taken = [key for key in after if "fcn" not in key and "running" not in key and "batches" not in key]
    assert len(taken) > 80
    for key in taken:
        torch.testing.assert_close(after[key], before[f"encoder_q.{key}"])


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
