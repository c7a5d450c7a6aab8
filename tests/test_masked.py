"""A masked transformer of another package, `masked.py`, goes through every command; nothing in the project knows it."""

from pathlib import Path

import pytest
import torch
from batches import Given
from masked import Masked, Transformer

import main
from net.utils.clip import Clip
from torchlight.checkpoint import load_checkpoint

VIEW = """
  sampling: [{{RandomResizedCrop: {{num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}}}]
  normalise: center_first_frame"""
CONFIG = """
data: {{path: {data}, layout: ntu-rgb+d, num_class: 4, val_fraction: 0}}
benchmark: xsub
model: masked.Transformer
model_args: {{width: 16, depth: 4, max_frame: 16}}
test_view: {{sampling: [{{Resize: {{num_frame: 16}}}}], normalise: center_first_frame}}
select: last
batch_size: 8
num_epoch: 2
tensorboard: false
device: cpu
optim: {{optimizer: adamw, lr: 0.001}}
work_dir: {work}
"""
PRETRAIN = "method: masked.Masked\nmethod_args: {{width: 16}}\nviews:\n- &view" + VIEW.replace("\n", "\n  ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masked")


@pytest.fixture(scope="module")
def pretrained(tiny_data, folder):
    """Weights after two epochs of pre-training."""
    assert run(folder, tiny_data, "pretrain", PRETRAIN) == 0
    return folder / "pretrain" / "best.pt"


def run(folder: Path, data: Path, processor: str, keys: str, *words: str, name: str | None = None) -> int:
    work = folder / (name or processor)
    config = folder / f"{work.name}.yaml"
    config.write_text((CONFIG + keys).format(data=data, work=work))
    return main.main([processor, "-c", str(config), "--plugin", "masked", *words])


def test_a_token_that_is_hidden_changes_nothing():
    torch.manual_seed(0)
    encoder = Transformer(width=16, depth=2, max_frame=16).eval()
    x = torch.randn(2, 3, 16, 25, 1)
    keep = torch.tensor([[0, 7, 60], [99, 3, 5]])
    changed = x.clone()
    changed[0, :, 4:8, 1] += 1  # token 26 of the first clip
    with torch.no_grad():
        found, other = (encoder.encode(Clip.of(each), keep).tokens for each in (x, changed))
        assert found.shape == (2, 3, 16)
        assert torch.equal(found, other)
        assert not torch.allclose(encoder.encode(Clip.of(x)).tokens, encoder.encode(Clip.of(changed)).tokens)


def test_what_is_seen_is_not_judged_and_a_batch_without_bodies_has_loss_0():
    torch.manual_seed(0)
    method = Masked(Transformer(width=16, depth=2, max_frame=16), width=16)
    loss = method(Given([torch.randn(3, 3, 16, 25, 2)]).batch(), ("motion",)).losses["motion"]
    loss.backward()
    assert 0.5 < float(loss.detach()) < 2  # the targets have variance 1
    assert float(method(Given([torch.zeros(3, 3, 16, 25, 2)]).batch(), ("motion",)).losses["motion"]) == 0


def test_pre_training_resumes(pretrained, tiny_data, folder):
    half = ["num_epoch=2", "--resume"]
    assert run(folder, tiny_data, "pretrain", PRETRAIN, *half) == 0  # all is done; the test is made again
    content = load_checkpoint(pretrained)
    assert content["processor"] == "pretrain"
    assert any(key.startswith("encoder.blocks.layers.3.") for key in content["model"])


@pytest.mark.parametrize(
    ("processor", "keys"),
    [
        ("linear_evaluation", "train_view:" + VIEW),
        ("finetune_evaluation", "train_view:" + VIEW),
        ("knn_evaluation", ""),
    ],
)
def test_every_evaluation_takes_its_encoder_over(pretrained, tiny_data, folder, processor, keys):
    assert run(folder, tiny_data, processor, keys, "--weights", str(pretrained)) == 0
    assert (folder / processor / "result.json").exists()


def test_layers_near_the_input_learn_slower(pretrained, tiny_data, folder):
    settings = ["--weights", str(pretrained), "optim.layer_decay=0.5", "optim.decayed=weights", "num_epoch=1"]
    assert run(folder, tiny_data, "finetune_evaluation", "train_view:" + VIEW, *settings, name="layers") == 0
    groups = load_checkpoint(folder / "layers" / "last.pt")["optimizer"]["param_groups"]
    # The embedding is five layers below the head, each block one less; norm and head learn at the full rate.
    factors = [group.get("factor", 1.0) for group in groups if group["weight_decay"] > 0]
    assert factors == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5, 1.0]
    in_first = [len(group["params"]) for group in groups if group.get("factor") == 0.5**5]
    assert in_first == [1, 3]  # a matrix; its bias, and the embeddings of frames and joints


def test_it_is_trained_from_scratch_and_tested_again(tiny_data, folder):
    assert run(folder, tiny_data, "recognition", "train_view:" + VIEW) == 0
    best = str(folder / "recognition" / "best.pt")
    words = ["--phase", "test", "--weights", best]
    assert run(folder, tiny_data, "recognition", "train_view:" + VIEW, *words, name="again") == 0


def test_a_clip_longer_than_its_positions_is_refused_before_data_is_touched(folder, capsys):
    keys = "train_view:" + VIEW
    assert run(folder, Path("nowhere.h5"), "recognition", keys, "model_args.max_frame=8", name="long") == 2
    said = capsys.readouterr().err
    assert "train_view.sampling: gives 16 frames; masked.Transformer takes at most 8" in said


def test_a_method_of_tokens_refuses_an_encoder_of_maps(folder, capsys):
    words = ["model=net.st_gcn.Model", "model_args={_delete_: true}"]
    assert run(folder, Path("nowhere.h5"), "pretrain", PRETRAIN, *words, name="maps") == 2
    assert "model: net.st_gcn.Model is not a net.tokens.TokenEncoder" in capsys.readouterr().err
