"""Seeds: stable numbers, unrelated streams, one call for all generators."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from torchlight.seed import derive_seed, seed_everything


def test_numbers_that_published_results_depend_on() -> None:
    # printf '[0]' | b2sum -l 64 (and so on), less the lowest bit
    assert derive_seed(0) == 0xAC00623085BF099C >> 1
    assert derive_seed(1, "step", 2, 3) == 0x99EAC9A207B87222 >> 1


def test_every_process_derives_the_same_seed() -> None:
    code = "from torchlight.seed import derive_seed; print(derive_seed(1, 'view', 7))"
    seeds = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert seeds == {str(derive_seed(1, "view", 7))}


def test_what_differs_in_any_way_has_its_own_seed() -> None:
    parts = [
        (),
        (0,),
        (0, 0),
        (1,),
        ("1",),
        (1, 2),
        (2, 1),
        ("1, 2",),
        ("a", "b"),
        ("ab",),
        ("", "ab"),
        (-1,),
    ]
    parts += [(seed, epoch, step) for seed in range(5) for epoch in range(20) for step in range(20)]
    seeds = {derive_seed(*p) for p in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_every_bit_is_used() -> None:
    bits = np.array([[derive_seed(n) >> bit & 1 for bit in range(63)] for n in range(2000)])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.06


def test_a_part_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"not from 0\.5"):
        derive_seed(1, 0.5)  # type: ignore[arg-type]


@pytest.fixture
def backends():
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
    torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def draws() -> list[float]:
    return [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002


def test_one_call_seeds_every_generator(backends: None) -> None:
    seed_everything(3, deterministic=False)
    first = draws()
    seed_everything(3, deterministic=False)
    assert draws() == first
    seed_everything(4, deterministic=False)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_deterministic_asks_for_algorithms_that_repeat(
    backends: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "kept")
    seed_everything(3, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == "kept"
    seed_everything(3, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    seed_everything(3, deterministic=False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    seed_everything(3, deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
