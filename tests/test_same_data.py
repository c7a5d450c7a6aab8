"""NW-UCLA's own files, and the same clips in each format that holds data sets: training gives the same weights."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.io
import torch

import main as recognise
from data_gen import (
    ctrgcn_gen_preprocess,
    custom_gen_preprocess,
    pyskl_gen_preprocess,
    ucla_gen_preprocess,
)
from data_gen.sources.ucla import ACTIONS, LABEL, parse_name

CONFIG = """
data: {{path: {data}, layout: kinect-v1, num_class: 10, num_body: 1, val_fraction: 0}}
benchmark: xview
work_dir: {work_dir}
model: net.st_gcn.Model
model_args: {{num_class: 10, layout: kinect-v1, hidden_channels: 8, hidden_dim: 16, dropout: 0.1}}
train_view:
  sampling: [{{RandomResizedCrop: {{num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}}}]
  normalise: center_first_frame
  augment: [{{Rotate: {{max_angle: 0.3}}}}]
test_view: {{sampling: [{{Resize: {{num_frame: 16}}}}], normalise: center_first_frame}}
batch_size: 16
num_epoch: 2
select: last
tensorboard: false
device: cpu
"""


class Clip(NamedTuple):
    """A clip (T, 20, 3) of NW-UCLA, and what its name says."""

    name: str
    poses: np.ndarray
    label: int
    subject: int
    part: str


@pytest.fixture(scope="module")
def clips(shared_data) -> list[Clip]:
    """Two of each action and view, in the order of parts; CTR-GCN's arrays cannot say that a last frame is empty."""
    found, count = [], {}
    for path in sorted(shared_data("nw_ucla/all_sqe").glob("*.json")):
        numbers = parse_name(path.stem)
        place = numbers["action"], numbers["view"]
        frames = json.loads(path.read_text())["skeletons"]
        if count.get(place) == 2 or not all(frames):
            continue
        count[place] = count.get(place, 0) + 1
        part = "test" if numbers["view"] == 3 else "train"
        poses = np.array(frames, np.float32)
        found.append(Clip(path.stem, poses, LABEL[numbers["action"]], numbers["subject"], part))
    return sorted(found, key=lambda clip: clip.part, reverse=True)


def as_json(folder: Path, clips: list[Clip]) -> list[str]:
    for clip in clips:
        content = {"file_name": clip.name, "skeletons": clip.poses.tolist(), "label": clip.label + 1}
        (folder / f"{clip.name}.json").write_text(json.dumps(content))
    return ["--data_path", str(folder)]


def as_mat(folder: Path, clips: list[Clip]) -> list[str]:
    """A file a clip, axes in MATLAB's order, and a table."""
    lines = ["file,label,subject,split_xview"]
    for clip in clips:
        skeleton = clip.poses.transpose(1, 2, 0).astype(np.float64)
        scipy.io.savemat(folder / f"{clip.name}.mat", {"skeleton": skeleton}, do_compression=True)
        lines.append(f"{clip.name}.mat,{clip.label},{clip.subject},{clip.part}")
    (folder / "clips.csv").write_text("\n".join(lines))
    (folder / "names.txt").write_text("\n".join(ACTIONS.values()))
    options = {"table": folder / "clips.csv", "data_path": folder, "layout": "kinect-v1", "axes": "vct"}
    options |= {"class_names": folder / "names.txt"}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def as_pyskl(folder: Path, clips: list[Clip]) -> list[str]:
    annotations = [
        {"frame_dir": clip.name, "label": clip.label, "keypoint": clip.poses[None]} for clip in clips
    ]
    split = {
        f"xview_{part}": [clip.name for clip in clips if clip.part == part] for part in ("train", "test")
    }
    (folder / "a.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    return ["--data_path", str(folder / "a.pkl")]


def as_ctrgcn(folder: Path, clips: list[Clip]) -> list[str]:
    arrays = {}
    for part in ("train", "test"):
        some = [clip for clip in clips if clip.part == part]
        rows = np.zeros((len(some), max(len(clip.poses) for clip in some), 2, 20, 3), np.float32)
        for row, clip in zip(rows, some, strict=True):
            row[: len(clip.poses), 0] = clip.poses
        arrays |= {
            f"x_{part}": rows.reshape(*rows.shape[:2], -1),
            f"y_{part}": np.eye(10)[[clip.label for clip in some]],
        }
    np.savez_compressed(folder / "a_CV.npz", **arrays)
    return ["--data_path", str(folder / "a_CV.npz")]


Writer = Callable[[Path, list[Clip]], list[str]]


def weights(folder: Path, clips: list[Clip], write: Writer, prepare: Callable[[list[str]], int]) -> dict:
    """Of a small network, trained for two epochs on clips that a command prepared."""
    (folder / "clips").mkdir(parents=True)
    out = folder / "made.h5"
    assert prepare([*write(folder / "clips", clips), "--out", str(out), "--num_worker", "1"]) == 0
    (folder / "config.yaml").write_text(CONFIG.format(data=out, work_dir=folder / "work"))
    assert recognise.main(["recognition", "-c", str(folder / "config.yaml")]) == 0
    return torch.load(folder / "work" / "best.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def expected(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The weights of NW-UCLA's own files."""
    return weights(tmp_path_factory.mktemp("json"), clips, as_json, ucla_gen_preprocess.main)


@pytest.mark.parametrize(
    ("write", "prepare"),
    [
        (as_mat, custom_gen_preprocess.main),
        (as_pyskl, pyskl_gen_preprocess.main),
        (as_ctrgcn, ctrgcn_gen_preprocess.main),
    ],
    ids=["mat", "pyskl", "ctr-gcn"],
)
def test_the_same_weights(
    tmp_path: Path, clips: list[Clip], expected: dict, write: Writer, prepare: Callable[[list[str]], int]
) -> None:
    found = weights(tmp_path, clips, write, prepare)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
