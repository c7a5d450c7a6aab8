"""Checkpoints: whole or absent, no code from files, weights that fit or a list of why not."""

import collections
import os
import pickle
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import full_disk
from torchlight.checkpoint import (
    CheckpointError,
    WeightsError,
    load_checkpoint,
    load_weights,
    rng_state,
    save_checkpoint,
    set_rng_state,
)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_full_disk_is_an_os_error_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    with full_disk(100_000), pytest.raises(OSError, match=r"last.pt was not written: File too large"):
        save_checkpoint(path, {"big": torch.zeros(100_000)})
    assert load_checkpoint(path) == {"epoch": 1}
    assert names_in(tmp_path) == {"last.pt"}


# ---- states


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    network(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    state = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "numbers": [1, 0.1, True, None, "text", b"bytes", (1, (2.5,))],
        "numpy": {"a": np.float64(0.5), "b": np.int64(3), "c": np.bool_(True)},
        "half": torch.ones(2, dtype=torch.bfloat16),
        "none": torch.zeros(0, 3),
    }
    save_checkpoint(tmp_path / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert loaded["numbers"] == state["numbers"]
    assert loaded["numpy"] == {"a": 0.5, "b": 3, "c": True}
    assert [type(value) for value in loaded["numpy"].values()] == [float, int, bool]
    assert loaded["half"].dtype == torch.bfloat16
    assert loaded["none"].shape == (0, 3)
    assert list(loaded["model"]) == list(network.state_dict())
    assert all(torch.equal(loaded["model"][key], value) for key, value in network.state_dict().items())
    again = torch.optim.SGD(network.parameters(), lr=1.0)
    again.load_state_dict(loaded["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1
    slots = again.state_dict()["state"]
    assert all(
        torch.equal(slots[i]["momentum_buffer"], s["momentum_buffer"])
        for i, s in optimizer.state_dict()["state"].items()
    )


@pytest.mark.parametrize("value", [np.zeros(3), Path("x"), {1, 2}, torch.Size([3]), object(), torch.float32])
def test_what_could_not_be_loaded_is_refused_at_once(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=rf"\b{type(value).__name__} .*'best.1.x'"):
        save_checkpoint(tmp_path / "last.pt", {"best": [0, {"x": value}]})
    assert names_in(tmp_path) == set()


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    torch.save({"model": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil.pt holds a pickled \S*mkdir\b"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"evil.pt"):
        load_weights(nn.Linear(1, 1), path)
    assert names_in(tmp_path) == {"evil.pt"}


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"holds a pickled torch.nn.modules.linear.Linear"):
        load_checkpoint(tmp_path / "module.pt")


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere.pt"):
        load_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path)
    path = tmp_path / "x.pt"
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(100), os.urandom(1000), pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"x.pt (is damaged|holds a list)"):
            load_checkpoint(path)
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"x.npz is damaged"):
        load_checkpoint(tmp_path / "x.npz")
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match=r"x.pt holds a list; a checkpoint is a dict"):
        load_checkpoint(path)


def test_a_cut_or_flipped_file_never_loads(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"model": {"w": torch.arange(500.0)}, "epoch": 3})
    content = path.read_bytes()
    for cut in range(1, len(content), 97):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    for at in (content.find(torch.arange(500.0).numpy().tobytes()) + 1000, content.find(b"epoch") + 2):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(CheckpointError, match=r"x.pt is damaged: the checksum of \S+ is wrong"):
            load_checkpoint(path)
    path.write_bytes(content)
    assert load_checkpoint(str(path))["epoch"] == 3


def test_the_older_format_of_torch_loads(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "old.pt")["w"].tolist() == [1, 1]


# ---- weights


def network(num_class: int = 5) -> nn.Module:
    return nn.Sequential(
        collections.OrderedDict(conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4), fc=nn.Linear(4, num_class))
    )


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("under", [None, "model", "state_dict"])
def test_weights_load_from_files_of_either_form(tmp_path: Path, prefix: str, under: str | None) -> None:
    source, target = network(), network()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({"epoch": 3, under: state} if under else state, tmp_path / "w.pt")
    assert load_weights(target, tmp_path / "w.pt") == []
    assert equal(source, target)


def test_all_that_does_not_fit_is_listed_and_nothing_is_loaded() -> None:
    state = network(num_class=7).state_dict()
    state["extra.weight"] = torch.zeros(2, 3)
    del state["bn.running_mean"], state["conv.bias"]
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(target, state)
    assert str(caught.value).splitlines() == [
        "the given state does not fit torch.nn.modules.container.Sequential:",
        "  missing in the file: conv.bias (4,)",
        "  missing in the file: bn.running_mean (4,)",
        "  not in the network: extra.weight (2, 3)",
        "  of another shape: fc.weight (7, 4) in the file, (5, 4) in the network",
        "  of another shape: fc.bias (7,) in the file, (5,) in the network",
        "  list keys that need not be loaded in ignore_weights, e.g. "
        "ignore_weights=[bn.running_mean, conv.bias, extra, fc]",
    ]
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_what_is_ignored_keeps_its_values_and_the_rest_loads() -> None:
    source, target = network(num_class=7), network()
    state = source.state_dict()
    state["extra.weight"] = torch.zeros(2, 3)
    del state["bn.num_batches_tracked"]
    fc = target.get_submodule("fc").weight.clone()
    kept = load_weights(target, state, ignore=["fc", "ext*", "*.num_batches_tracked"])
    assert kept == ["bn.num_batches_tracked", "fc.weight", "fc.bias"]
    assert torch.equal(target.get_submodule("fc").weight, fc)
    assert torch.equal(target.get_submodule("conv").weight, source.get_submodule("conv").weight)


def test_ignore_means_whole_names_not_their_beginnings() -> None:
    state = {"fcn.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"not in the network: fcn\.weight"):
        load_weights(nn.Identity(), state, ignore=["fc"])
    with pytest.raises(WeightsError, match=r"not in the network: fcn\.weight"):
        load_weights(nn.Identity(), state, ignore=["fcn.weigh", "FCN"])
    with pytest.raises(WeightsError, match=r"ignore_weights=\['fcn.weight'\]"):
        load_weights(nn.Identity(), state, ignore=["fcn.weight"])


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        (lambda: two_heads(num_class=7), "ignore_weights=[fc, inner.fc]"),
        (lambda: two_heads(width=3), "config.yaml"),
        (lambda: nn.Conv2d(1, 1, 1), "weights of another network"),
    ],
)
def test_suggested_ignore_weights_keep_all_that_fits(source: Callable, remedy: str) -> None:
    """Cases: a head inside a part, all parts of another size, another network."""
    with pytest.raises(WeightsError) as caught:
        load_weights(two_heads(), source().state_dict())
    assert remedy in str(caught.value).splitlines()[-1]


def two_heads(num_class: int = 5, width: int = 4) -> nn.ModuleDict:
    layers = {f"l{number}": nn.Linear(width, width) for number in range(9)}
    inner = nn.ModuleDict({**layers, "norm": nn.BatchNorm1d(4), "fc": nn.Linear(4, num_class)})
    return nn.ModuleDict({"inner": inner, "fc": nn.Linear(4, num_class)})


def test_weights_of_another_project_are_translated() -> None:
    source, target = network(), network()
    state = {key.replace("fc.", "classifier."): value for key, value in source.state_dict().items()}
    asked = []

    def translate(given: dict) -> dict:
        asked.append(sorted(given) == sorted(state))
        return {key.replace("classifier.", "fc."): value for key, value in given.items()}

    load_weights(target, state, translate=translate)
    assert equal(source, target)
    assert asked == [True]
    with pytest.raises(WeightsError, match="not in the network: classifier"):
        load_weights(target, state)


@pytest.mark.parametrize("key", ["model", "state_dict", "net", "model_state_dict", "weights", None])
@pytest.mark.parametrize("prefix", ["", "backbone.", "module.", "net.model."])
def test_a_prefix_of_all_keys_that_keeps_them_from_fitting_is_dropped(key: str | None, prefix: str) -> None:
    source, target = network(), network()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    load_weights(target, state if key is None else {key: state, "epoch": 3})
    assert equal(source, target)


def test_a_prefix_that_the_network_has_is_never_dropped() -> None:
    state = {f"inner.more.{name}": value for name, value in two_heads().state_dict().items()}
    with pytest.raises(WeightsError, match=r"not in the network: inner\.more\.fc\.weight"):
        load_weights(two_heads(), state)


def test_a_prefix_is_dropped_before_names_are_translated_and_of_what_else_differs() -> None:
    source, target = network(), network()
    state = {f"backbone.{name}".replace("fc.", "classifier."): v for name, v in source.state_dict().items()}

    def translate(given: dict) -> dict:
        return {re.sub(r"^classifier\.", "fc.", key): value for key, value in given.items()}

    load_weights(target, state, translate=translate)
    assert equal(source, target)
    # The list of what differs has the network's names.
    state["backbone.classifier.bias"] = torch.zeros(7)
    with pytest.raises(WeightsError, match=r"of another shape: fc.bias \(7,\) in the file"):
        load_weights(target, state, translate=translate)
    # What fits with no prefix dropped is listed as it is named.
    other = {f"backbone.x.{name}": value for name, value in source.state_dict().items()}
    with pytest.raises(WeightsError, match=r"not in the network: other.fc.bias"):
        load_weights(target, {"other.fc.bias": torch.zeros(3), "fc.weight": torch.zeros(3, 4)})
    with pytest.raises(WeightsError, match=r"not in the network: y.0.weight"):
        load_weights(target, {"y.0.weight": torch.zeros(3)})
    load_weights(target, other)


def test_weights_of_a_head_alone_keep_its_name() -> None:
    source, target = network(), network()
    head = {key: value for key, value in source.state_dict().items() if key.startswith("fc.")}
    rest = [key for key in source.state_dict() if not key.startswith("fc.")]
    assert load_weights(target, head, ignore=rest) == rest
    assert torch.equal(target.state_dict()["fc.bias"], head["fc.bias"])


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "empty"), ({"epoch": 3}, "'epoch'"), ({"model": {"a": 1}}, "'a'")],
)
def test_a_file_without_a_state_dict(content: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"no state dict, .* model, .* weights: .*{message}"):
        load_weights(network(), content)


# ---- generators


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]  # noqa: NPY002


def test_generators_continue_where_they_were_saved(tmp_path: Path) -> None:
    draws()  # an odd number of Gaussian draws, so that a second one is in store
    save_checkpoint(tmp_path / "last.pt", {"rng": rng_state()})
    expected = [draws() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    set_rng_state(load_checkpoint(tmp_path / "last.pt")["rng"])
    assert [draws() for _ in range(3)] == expected


def test_states_of_devices_that_are_not_here_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["a", "b"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: asked.append((state, index)))
    set_rng_state(rng_state())
    assert asked == [("a", 0)]


def test_saving_is_quick(tmp_path: Path) -> None:
    state = {"model": {str(i): torch.zeros(250_000) for i in range(20)}}  # 20 MB
    began = time.perf_counter()
    save_checkpoint(tmp_path / "last.pt", state)
    assert time.perf_counter() - began < 5
