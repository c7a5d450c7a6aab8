"""Alone everything does nothing; in two processes values, flags and ragged tensors meet."""

import os
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import environment_of_two, free_port
from torchlight import distributed


def test_alone_everything_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed.init()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    tensor = torch.arange(3)
    assert distributed.all_gather_ragged(tensor) is tensor
    assert distributed.all_gather_object("x") == ["x"]
    assert (distributed.all_reduce_max(15), distributed.all_reduce_max(0)) == (15, 0)
    assert distributed.all_reduce_sum({"a": 2.0}) == {"a": 2.0}
    distributed.barrier()
    distributed.shutdown()


def test_device_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert distributed.device() == distributed.device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device is 'cuda' \(number 0\).* 0 CUDA devices; use device=cpu"):
        distributed.device("cuda")
    with pytest.raises(ValueError, match="device is 'gpu'; choose auto, cpu, cuda"):
        distributed.device("gpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.device("auto") == torch.device("cuda:0")
    assert distributed.device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="number 2"):
        distributed.device("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.device("auto") == distributed.device("cuda") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"device is 'cuda:1'.*; use device=cuda"):
        distributed.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"device is 'cuda' \(number 2\).* 2 CUDA devices"):
        distributed.device("auto")


def test_processes_on_cuda_devices_take_their_own_and_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", asked.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    distributed.init("auto")
    assert asked == [torch.device("cuda:1"), "cpu:gloo,cuda:nccl"]


def gather_all(rank: int, folder: Path) -> dict[str, Any]:
    """What each of two processes finds, for the assertions below."""
    kinds = {
        "float": torch.full((rank + 1, 2, 3), rank + 0.5),
        "nothing from one": torch.full((3 * rank, 2), rank),
        "nothing at all": torch.zeros(0, 4),
        "nothing in a row": torch.zeros(rank + 1, 0),
        "bool": torch.tensor([bool(rank)]),
        "bfloat16": torch.full((2 - rank,), rank, dtype=torch.bfloat16),
        "strided": torch.arange(6).reshape(2, 3).t()[: rank + 1],
    }
    found: dict[str, Any] = {name: distributed.all_gather_ragged(tensor) for name, tensor in kinds.items()}
    for name, tensor in (
        ("shape", torch.zeros(1, 2 + rank)),
        ("type", torch.zeros(1, dtype=[torch.int32, torch.int64][rank])),
    ):
        try:
            distributed.all_gather_ragged(tensor)
        except ValueError as error:
            found[f"other {name}"] = str(error)
    found["max"] = [distributed.all_reduce_max(value) for value in (15 * rank, -rank, 0)]
    found["sum"] = distributed.all_reduce_sum({"a": rank + 1.0, **({"b": 5.0} if rank else {})})
    own = torch.tensor([rank + 1.0, 2.0], requires_grad=True)
    everything = distributed.all_gather_equal(own)
    # Each process minimises the same function of everything, as a loss over all clips is.
    (everything * torch.arange(4)).square().sum().backward()
    found["gathered"], found["gradient"] = everything.detach(), own.grad
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean += rank + 1
    norm.num_batches_tracked += rank
    distributed.broadcast_buffers(norm)
    found["buffers"] = [norm.running_mean, norm.num_batches_tracked]
    found["objects"] = distributed.all_gather_object({"rank": rank})
    found["who"] = (distributed.rank(), distributed.world_size(), distributed.is_main())
    if rank == 0:
        time.sleep(0.5)
        (folder / "from 0").touch()
    distributed.barrier()
    found["barrier"] = (folder / "from 0").exists()
    return found


def process(rank: int, port: int, out: str) -> None:
    os.environ.update(environment_of_two(rank, port))
    torch.set_num_threads(1)
    try:
        distributed.init("cpu")
        torch.save(gather_all(rank, Path(out)), f"{out}/{rank}.pt")
        distributed.shutdown()
        assert distributed.world_size() == 1
    except Exception:
        Path(out, f"{rank}.txt").write_text(traceback.format_exc())
        raise


def test_two_processes_meet(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(process, args=(free_port(), str(tmp_path)), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for rank, own in enumerate(found):
        torch.testing.assert_close(own["float"], torch.tensor([0.5, 1.5, 1.5])[:, None, None].expand(3, 2, 3))
        torch.testing.assert_close(own["nothing from one"], torch.ones(3, 2, dtype=torch.int64))
        assert own["nothing at all"].shape == (0, 4)
        assert own["nothing in a row"].shape == (3, 0)
        assert own["bool"].tolist() == [False, True]
        assert (own["bfloat16"].dtype, own["bfloat16"].tolist()) == (torch.bfloat16, [0, 0, 1])
        assert own["strided"].tolist() == [[0, 3], [0, 3], [1, 4]]
        assert "dtypes and shapes [" in own["other shape"]
        assert "dtypes and shapes [" in own["other type"]
        assert own["max"] == [15, 0, 0]
        assert own["sum"] == {"a": 3.0, "b": 5.0}
        assert own["gathered"].tolist() == [1, 2, 2, 2]
        # d/dx of (k x)^2 is 2 k^2 x, once for each process: averaged by DDP, it is that of one process.
        expected = torch.tensor([[0.0, 4.0], [16.0, 36.0]])[rank] * 2
        torch.testing.assert_close(own["gradient"], expected)
        assert own["buffers"][0].tolist() == [1, 1]
        assert int(own["buffers"][1]) == 0
        assert own["objects"] == [{"rank": 0}, {"rank": 1}]
        assert own["barrier"]
        assert own["who"] == (rank, 2, rank == 0)
