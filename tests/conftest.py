"""What several tests share: where the real data and the published outputs are, and weights made by formula."""

import csv
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

# Workers share the cores; threads of one that wait for cores the others hold cost several times the work itself.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(workers)))

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


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """As if no file could grow past `limit` bytes: to write more is an error, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def free_port() -> int:
    """A port for processes to meet at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment_of_two(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells one of two processes."""
    values = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return {name: str(value) for name, value in values.items()}


@contextmanager
def stopping_at(batch: int) -> Iterator[list[int]]:
    """Send this process SIGTERM in a training batch of a run, counted from 1; gives the number of batches so far."""
    from processor.recognition import Recognition

    taken, step = [0], Recognition.step

    def stopping(self, run, given):
        taken[0] += 1
        if taken[0] == batch:
            signal.raise_signal(signal.SIGTERM)
        return step(self, run, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recognition, "step", stopping)
        yield taken


def read_report(out: Path) -> list[list[str]]:
    """What a data_gen command says it skipped: rows of (file, line, reason)."""
    with Path(f"{out}.report.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def assert_close_to_published(actual: torch.Tensor, expected: object, tolerance: float = 1e-4) -> None:
    """Within tolerance of the largest expected value."""
    expected = torch.as_tensor(np.asarray(expected), dtype=torch.float32)
    error = (actual.detach() - expected).abs().max() / expected.abs().max()
    assert error < tolerance, f"relative error {error:.1e}"


def weights_by_formula(keys: list, *, seed_offset: int, gain: float) -> dict[str, torch.Tensor]:
    """The weights the published outputs were made with; `keys` lists (name, shape) in state-dict order."""
    weights: dict[str, torch.Tensor] = {}
    for name, shape in keys:
        last = name.rsplit(".", 1)[-1]
        if last in ("num_batches_tracked", "A", "PA") or "queue" in name:
            continue
        s = np.random.RandomState(seed_offset + len(weights)).standard_normal(shape)
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


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A prepared file of 4 classes that differ in which limb swings: 64 training and 32 held-out clips."""
    from feeder.prepared import PreparedWriter
    from net.utils.layouts import get_skeleton

    skeleton = get_skeleton("ntu-rgb+d")
    rng = np.random.default_rng(0)
    rest = rng.standard_normal((25, 3)) * 0.3
    limbs = ((4, 5, 6), (8, 9, 10), (12, 13, 14), (16, 17, 18))
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    with PreparedWriter(
        path,
        skeleton=skeleton,
        class_names=["left arm", "right arm", "left leg", "right leg"],
        frame_rate=30.0,
        bodies="energy",
        source="tests",
    ) as writer:
        for clip in range(96):
            label, num_frame = clip % 4, int(rng.integers(20, 60))
            pose = np.tile(rest + np.array([0, 0, 3]), (1 + clip % 3 // 2, num_frame, 1, 1))
            swing = 0.5 * np.sin(np.arange(num_frame) * rng.uniform(0.2, 0.4) + rng.uniform(0, 6))
            pose[:, :, limbs[label], 1] += swing[:, None]
            pose += 0.01 * rng.standard_normal(pose.shape)
            keys = {"subject": clip // 4 % 8, "action": label, "camera": clip // 32}
            writer.append(f"clip{clip:03d}", label, pose.astype(np.float32), **keys)
        train, held_out = list(range(64)), list(range(64, 96))
        writer.finish({"xsub": {"train": train, "val": held_out}})
    return path


# A small ST-GCN on `tiny_data`: 4 epochs of 3 steps, in a few seconds.
TINY_CONFIG = """
data: {{path: {data}, layout: ntu-rgb+d, num_class: 4, val_fraction: 0.25}}
benchmark: xsub
work_dir: {work_dir}
model: net.st_gcn.Model
model_args: {{num_class: 4, layout: ntu-rgb+d, hidden_channels: 8, hidden_dim: 32, dropout: 0.1}}
train_view:
  sampling: [{{RandomResizedCrop: {{num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}}}]
  normalise: center_first_frame
  augment: [{{Rotate: {{max_angle: 0.3}}}}]
test_view:
  sampling: [{{Resize: {{num_frame: 16}}}}]
  normalise: center_first_frame
batch_size: 16
num_epoch: 4
optim: {{optimizer: adamw, lr: 0.01, warmup_epoch: 1}}
tensorboard: false
device: cpu
"""


@pytest.fixture(scope="module")
def few_blocks() -> Iterator[None]:
    """ST-GCN of four blocks in place of ten, for tests of what trains a network: less than half the time.

    They are of every kind. Processes that a test starts have all ten.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("net.st_gcn.BLOCKS", ((1, 1), (2, 2), (4, 2)))
        yield


def leave_pictures_empty(patch: pytest.MonkeyPatch) -> None:
    """Have pictures of a run be empty files, since they take a third of a small run."""
    from processor import io

    for name in ("save_curves", "save_confusion", "draw_poses", "draw_errors"):
        patch.setattr(io, name, lambda *arguments: arguments[-1].touch())


@pytest.fixture
def blank(monkeypatch) -> None:
    """Empty pictures; those of fixtures are drawn."""
    leave_pictures_empty(monkeypatch)


@pytest.fixture
def tiny_config(tiny_data, tmp_path) -> Path:
    """A config file whose run goes into `tmp_path / "work"`."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_CONFIG.format(data=tiny_data, work_dir=tmp_path / "work"))
    return path
