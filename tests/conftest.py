"""What several tests share: where the real data and the published outputs are, and weights made by formula."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA = Path(os.environ.get("LONGSKEL_DATA", SHARED / "data"))
REFERENCE = Path(os.environ.get("LONGSKEL_REFERENCE", SHARED / "reference"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a file or folder of real data, or skip."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"real data {name!r} not found in {DATA} (set LONGSKEL_DATA)")
        return DATA / name

    return find


@pytest.fixture(scope="session")
def reference() -> Callable[[str], dict]:
    """Arrays of one file of published outputs, `meta` parsed, or skip."""

    def load(name: str) -> dict:
        if not (REFERENCE / name).exists():
            pytest.skip(f"reference outputs {name!r} not found in {REFERENCE} (set LONGSKEL_REFERENCE)")
        with np.load(REFERENCE / name, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        if "meta" in arrays:
            arrays["meta"] = json.loads(str(arrays["meta"]))
        return arrays

    return load


def weights_by_formula(keys: list, *, seed_offset: int, gain: float) -> dict[str, torch.Tensor]:
    """The weights the published outputs were made with; `keys` lists (name, shape) in state-dict order."""
    weights: dict[str, torch.Tensor] = {}
    for name, shape in keys:
        last = name.rsplit(".", 1)[-1]
        if last in ("num_batches_tracked", "A", "PA") or "queue" in name:
            continue
        s = np.random.RandomState(seed_offset + len(weights)).standard_normal(shape)  # noqa: NPY002
        if last == "running_var":
            value = 0.5 + 0.5 * s**2
        elif last == "running_mean":
            value = 0.1 * s
        elif "edge_importance" in name:
            value = 1 + 0.2 * s
        elif len(shape) >= 2:
            value = s * np.sqrt(gain / np.prod(shape[1:]))
        elif last == "weight":
            value = 1 + 0.1 * s
        else:
            value = 0.1 * s
        weights[name] = torch.as_tensor(np.asarray(value), dtype=torch.float32)
    return weights
