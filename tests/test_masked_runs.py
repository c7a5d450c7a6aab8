"""Runs of the masked methods by command: pre-training, what follows it, and what is refused before data is touched."""

import json
import multiprocessing
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import Given
from test_resume import assert_same_run, finish, start
from torch.nn.parallel import DistributedDataParallel

import main
from feeder.prepared import PreparedWriter
from net import masking
from net.masked_feature import MaskedFeature
from net.masked_motion import MaskedMotion
from net.transformer import Model
from net.utils.layouts import get_skeleton

VIEW = """{sampling: [{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}],
  normalise: center_first_frame, augment: [{Rotate: {max_angle: 0.3}}]}"""
CONFIG = """
data: {{path: {data}, layout: ntu-rgb+d, num_class: 4, val_fraction: 0}}
benchmark: xsub
model: net.transformer.Model
model_args: {{num_class: 4, patch: 4, max_frame: 16, width: 16, depth: 2, num_head: 2}}
test_view: {{sampling: [{{Resize: {{num_frame: 16}}}}], normalise: center_first_frame}}
select: last
batch_size: 8
num_epoch: 2
tensorboard: false
device: cpu
work_dir: {work}
optim: {{optimizer: adamw, lr: 0.001}}
"""
# Of `model_args` above.
SIZES = {"patch": 4, "max_frame": 16, "width": 16, "depth": 2, "num_head": 2}
DECODER = "mask_ratio: 0.5, decoder_width: 8, decoder_depth: 1, decoder_head: 2"
METHODS = {
    "masked_motion": f"method: net.masked_motion.MaskedMotion\nmethod_args: {{{DECODER}}}\nviews: [{VIEW}]\n",
    "masked_feature": f"method: net.masked_feature.MaskedFeature\nmethod_args: {{{DECODER}, projection_dim: 8}}\n"
    f"views: [{VIEW}, {VIEW}]\n",
}


def config(folder: Path, data: Path, name: str, more: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(CONFIG.format(data=data, work=folder / name) + more)
    return file


def run(processor: str, file: Path, *words: str) -> int:
    return main.main([processor, "-c", str(file), *words])


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.fixture(scope="module", params=METHODS)
def pretrained(request, tiny_data, tmp_path_factory):
    """Folder, data and weights of a run of two epochs."""
    folder = tmp_path_factory.mktemp(request.param)
    file = config(folder, tiny_data, request.param, METHODS[request.param])
    assert run("pretrain", file) == 0
    result = json.loads((folder / request.param / "result.json").read_text())
    assert 0 <= result["knn_top1"] <= 1
    return folder, tiny_data, folder / request.param / "best.pt"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_killed_and_resumed_has_the_same_masks(tiny_data, tmp_path, name):
    losses = {"masked_motion": "{motion: 1.0}", "masked_feature": "{feature: 1.0, contrast: 0.1}"}[name]
    schedule = f"schedule: [{{name: all, losses: {losses}}}]\n"
    file = config(tmp_path, tiny_data, name, METHODS[name] + schedule)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = ["num_epoch=8", "model_args.drop_path=0.2"]
    finish(file, whole, *settings, processor="pretrain")
    process = start(file, killed, *settings, processor="pretrain")
    process.wait_for(killed / "last.pt", changed_since=time.time_ns())
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finish(file, killed, *settings, "--resume", processor="pretrain")
    assert_same_run(whole, killed)


@pytest.mark.parametrize("processor", ["linear_evaluation", "finetune_evaluation", "knn_evaluation"])
def test_the_encoder_is_evaluated_and_adapted(pretrained, processor):
    folder, data, weights = pretrained
    more = {
        "linear_evaluation": f"train_view: {VIEW}\n",
        "finetune_evaluation": f"train_view: {VIEW}\nspread: {{}}\n",
        "knn_evaluation": "",
    }[processor]
    file = config(folder, data, processor, more)
    words = ["data.label_fraction=0.5"] if processor != "knn_evaluation" else []
    if processor == "finetune_evaluation":
        words += ["optim.layer_decay=0.8", "optim.decayed=weights", "model_args.drop_path=0.2"]
    if processor == "knn_evaluation":
        words += ["optim={}"]
    assert run(processor, file, "--weights", str(weights), "--overwrite", *words) == 0
    if processor == "linear_evaluation":
        found, expected = weights_of(folder / processor / "best.pt"), weights_of(weights)
        assert torch.equal(found["embed.weight"], expected["encoder.embed.weight"])


def test_weights_of_a_network_with_other_heads_are_announced(pretrained, capsys):
    folder, data, weights = pretrained
    file = config(folder, data, "heads", "")
    words = ["--weights", str(weights), "--overwrite", "optim={}"]
    assert run("knn_evaluation", file, *words) == 0
    assert "warning" not in capsys.readouterr().out
    assert run("knn_evaluation", file, *words, "model_args.num_head=4") == 0
    assert "model_args.num_head was 2, is 4" in capsys.readouterr().out


def test_features_are_predicted_from_weights_of_masked_motion(tiny_data, tmp_path):
    first = config(tmp_path, tiny_data, "masked_motion", METHODS["masked_motion"])
    assert run("pretrain", first) == 0
    second = config(tmp_path, tiny_data, "masked_feature", METHODS["masked_feature"])
    weights = tmp_path / "masked_motion" / "best.pt"
    assert run("pretrain", second, "--weights", str(weights), "num_epoch=1", "optim.lr=0") == 0
    found, expected = weights_of(tmp_path / "masked_feature" / "best.pt"), weights_of(weights)
    for part in ("encoder", "slow_encoder"):
        assert torch.equal(found[f"{part}.embed.weight"], expected["encoder.embed.weight"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["views.0.sampling.0.RandomResizedCrop.num_frame=14"], "views.0.sampling: gives 14 frames"),
        (["views.0.sampling.0.RandomResizedCrop.num_frame=2"], "views.0.sampling: gives 2 frames"),
        (["views.0.sampling.0.RandomResizedCrop.num_frame=20"], "takes at most 16"),
        (["model=net.st_gcn.Model", "model_args={_delete_: true}"], "is not a net.tokens.TokenEncoder"),
        (["method_args.mask_ratio=1.0"], "mask_ratio is 1.0"),
        (["method_args.mask_ratio=0.0"], "mask_ratio is 0.0"),
        (["method_args.mask_ratio=0.999"], "mask_ratio is 0.999"),
    ],
)
def test_what_does_not_fit_is_named(tiny_data, tmp_path, capsys, settings, named):
    file = config(tmp_path, tiny_data, "masked_motion", METHODS["masked_motion"])
    assert run("pretrain", file, *settings) in (1, 2)
    assert named in capsys.readouterr().err
    assert not (tmp_path / "masked_motion" / "last.pt").exists()


@pytest.mark.parametrize("method", [None, "masked_feature"])
@pytest.mark.parametrize(
    "changes", [{"depth": 3}, {"depth": 1}, {"patch": 8}, {"max_frame": 32}, {"width": 32}]
)
def test_all_weights_of_another_size_are_listed(pretrained, capsys, method, changes):
    folder, data, weights = pretrained
    of_linear = f"train_view: {VIEW}\n"
    file = config(folder, data, "refused", of_linear if method is None else METHODS[method])
    settings = [f"model_args.{key}={value}" for key, value in changes.items()]
    processor = "linear_evaluation" if method is None else "pretrain"
    assert run(processor, file, "--weights", str(weights), *settings) == 1
    said = capsys.readouterr().err
    ((key, value),) = changes.items()
    assert f"model_args.{key} was {SIZES[key]}, is {value}" in said and "ignore_weights" not in said
    listed = set(re.findall(r"(?:encoder\.)?((?:embed|position|blocks)\.[\w.]+) \(", said))
    had = {key: value.shape for key, value in encoder_with().state_dict().items()}
    given = {key: value.shape for key, value in encoder_with(**changes).state_dict().items()}
    differing = {key for key in had.keys() | given.keys() if had.get(key) != given.get(key)}
    assert {key for key in differing if not key.startswith("fc.")} <= listed


def test_weights_of_another_layout_are_refused_by_name(pretrained, capsys):
    folder, _, weights = pretrained
    other = folder / "kinect.h5"
    if not other.exists():
        write_few(other)
    file = config(folder, other, "refused", f"train_view: {VIEW}\n")
    settings = ["data.layout=kinect-v1", "model_args.layout=kinect-v1"]
    assert run("linear_evaluation", file, "--weights", str(weights), *settings) == 1
    assert "was trained on layout 'ntu-rgb+d'" in capsys.readouterr().err


def write_few(path: Path) -> None:
    """Eight clips of layout kinect-v1, in four classes."""
    classes = ["a", "b", "c", "d"]
    kinect = get_skeleton("kinect-v1")
    rng = np.random.default_rng(0)
    with PreparedWriter(
        path, skeleton=kinect, class_names=classes, frame_rate=30.0, bodies="first", source="tests"
    ) as writer:
        for clip in range(8):
            tracks = rng.standard_normal((1, 20, kinect.num_joint, 3)).astype(np.float32)
            writer.append(f"clip{clip}", clip % 4, tracks)
        writer.finish({"xsub": {"train": range(4), "val": range(4, 8)}})


def encoder_with(**changes) -> Model:
    torch.manual_seed(0)
    return Model(**SIZES | changes)


SMALL_DECODER = {"mask_ratio": 0.5, "decoder_width": 8, "decoder_depth": 1, "decoder_head": 2}
OF_TWO = {
    "masked_motion": (lambda: MaskedMotion(encoder_with(), **SMALL_DECODER), ("motion",)),
    "masked_feature": (
        lambda: MaskedFeature(encoder_with(), projection_dim=6, **SMALL_DECODER),
        ("feature", "contrast"),
    ),
}


def gradients(network: torch.nn.Module, wanted: Sequence[str], first: int, last: int) -> list[torch.Tensor]:
    """Of some of four clips, whose masks do not depend on how they are shared out."""
    generator = torch.Generator().manual_seed(0)
    x, other = (torch.randn(4, 3, 16, 25, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    x[0, :, 6:] = 0  # one rank has fewer tokens than the other
    other[1] = 0  # and fewer clips with a body in both views
    noise = torch.rand(4, 100, generator=generator)
    masking.draw_noise = lambda *_: noise[first:last]
    losses = network(Given([x[first:last], other[first:last]]).batch(), wanted).losses
    sum(losses.values()).backward()
    return [parameter.grad for parameter in network.parameters() if parameter.requires_grad]


def of_one_rank(rank: int, folder: Path, name: str) -> None:
    """In a process of its own. The two meet by a file: another test could take a port that was free."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2
    )
    make, wanted = OF_TWO[name]
    torch.manual_seed(1)
    method = make().double()
    network = DistributedDataParallel(method, find_unused_parameters=method.has_unused_parameters)
    torch.save(gradients(network, wanted, 2 * rank, 2 * rank + 2), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="gloo over the loopback interface is tried on Linux alone"
)
@pytest.mark.parametrize("name", OF_TWO)
def test_two_processes_have_the_gradients_of_one(tmp_path, monkeypatch, name):
    monkeypatch.setattr(masking, "draw_noise", masking.draw_noise)  # restored at the end
    make, wanted = OF_TWO[name]
    torch.manual_seed(1)
    expected = gradients(make().double(), wanted, 0, 4)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=of_one_rank, args=(rank, tmp_path, name), daemon=True) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected)
