import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_gen import export_numpy, ntu_gen_preprocess
from data_gen.export_numpy import main
from feeder.arrays import open_source
from feeder.feeder import Feeder
from feeder.prepared import PreparedWriter, open_prepared
from net.utils.layouts import get_skeleton

SCRIPT = Path(export_numpy.__file__)
SKELETON = get_skeleton("ntu-rgb+d")


def tracks(num_body: int, num_frame: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_body, num_frame, 25, 3)).astype(np.float32)


def gaps() -> np.ndarray:
    """Two bodies in 9 frames: the first misses frame 4 and leaves after 7, the second comes in frame 2 and misses 5."""
    both = tracks(2, 9, 3)
    both[0, [4, 7, 8]] = 0
    both[1, [0, 1, 5]] = 0
    return both


CLIPS = {"one": tracks(1, 7, 0), "two": tracks(2, 310, 1), "three": tracks(3, 4, 2), "gaps": gaps()}
LABELS = {"one": 2, "two": 0, "three": 1, "gaps": 2}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "made.h5"
    with PreparedWriter(
        path, skeleton=SKELETON, class_names=list("abc"), frame_rate=30, bodies="made", source="made"
    ) as writer:
        for subject, (name, clip) in enumerate(CLIPS.items(), 1):
            writer.append(name, LABELS[name], clip, subject=subject)
        writer.finish({"xsub": {"train": [3, 0, 1], "val": [2]}, "all": {"train": [0, 1, 2, 3], "val": []}})
    return path


def run(data: Path, out: Path, name: str, *options: str) -> int:
    return main(["--data", str(data), "--benchmark", "xsub", "--format", name, "--out", str(out), *options])


def read(folder: Path, kind: str) -> dict[str, np.ndarray]:
    """Clip name -> (C, T, V, M), both parts."""
    clips = {}
    for part in ("train", "val"):
        with (folder / f"{part}_label.pkl").open("rb") as file:
            names, labels = pickle.load(file)
        array = np.load(folder / f"{part}_{kind}.npy")
        assert len(names) == len(labels) == len(array) and array.dtype == np.float32
        clips |= dict(zip(names, array, strict=True))
    return clips


def prepare(shared_data: Callable[[str], Path], out: Path, bodies: str) -> Path:
    raw = str(shared_data("ntu_raw"))
    assert ntu_gen_preprocess.main(["--data_path", raw, "--bodies", bodies, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("kind", ["position", "motion"])
def test_aimclr_as_published(
    kind: str, shared_data: Callable[[str], Path], reference: Callable[[str], dict], tmp_path: Path
) -> None:
    published = reference("ntu_preprocess.npz")
    assert run(prepare(shared_data, tmp_path / "ntu.h5", "first"), tmp_path, "aimclr") == 0
    made = read(tmp_path / "xsub", kind)
    for name, expected in zip(published["names"], published[f"frame50_{kind}"], strict=True):
        np.testing.assert_allclose(made[name], expected, atol=1e-4)


def test_as_gcn_as_published(
    shared_data: Callable[[str], Path], reference: Callable[[str], dict], tmp_path: Path
) -> None:
    published = reference("ntu_preprocess.npz")
    assert run(prepare(shared_data, tmp_path / "ntu.h5", "energy"), tmp_path, "as_gcn") == 0
    made = read(tmp_path / "xsub", "data_joint_pad")
    for name in published["names"]:
        expected = published[f"{name}/energy_two_bodies_normalised"]
        repeated = expected[:, np.arange(300) % expected.shape[1]]
        np.testing.assert_allclose(made[name], repeated, atol=1e-5)


def test_ctr_gcn_from_published_tracks(
    shared_data: Callable[[str], Path], reference: Callable[[str], dict], tmp_path: Path
) -> None:
    """Against its steps written out: from the first frame of the first actor, and frames of zeros stay zero."""
    published = reference("ntu_preprocess.npz")
    data = prepare(shared_data, tmp_path / "ntu.h5", "denoise")
    assert run(data, tmp_path, "ctr_gcn") == 0
    prepared = open_prepared(data)
    archive = np.load(tmp_path / "xsub.npz", allow_pickle=False)
    label = dict(zip(published["names"].tolist(), published["label"].tolist(), strict=True))
    for part, name in (("train", "train"), ("val", "test")):
        clips = prepared.name[prepared.splits["xsub"][part]]
        assert archive[f"x_{name}"].shape == (len(clips), 300, 150)
        assert archive[f"y_{name}"].argmax(1).tolist() == [label[clip] for clip in clips]
        for clip, made in zip(clips, archive[f"x_{name}"], strict=True):
            given = published[f"{clip}/denoised"].astype(np.float64)
            expected = np.zeros((300, 150))
            origin = given[given[:, :75].any(1)][0, 3:6]
            for frame, pose in enumerate(given):
                for body in range(len(pose) // 75):
                    part_of = np.s_[75 * body : 75 * body + 75]
                    if pose[part_of].any():
                        expected[frame, part_of] = pose[part_of] - np.tile(origin, 25)
            np.testing.assert_allclose(made, expected, atol=1e-5)


def test_each_body_is_filled_by_itself(data: Path, tmp_path: Path) -> None:
    """As AS-GCN does it, frame by frame, before it centres and turns."""
    run(data, tmp_path, "as_gcn")
    made = read(tmp_path / "xsub", "data_joint_pad")
    clip = gaps()
    first = np.stack([clip[0][t % 7] for t in range(300)])
    second = np.stack([clip[1][[2, 3, 4, 6, 7, 8]][t % 6] for t in range(300)])
    filled = np.stack([first, second])
    present = filled.any((2, 3))
    np.testing.assert_array_equal(made["gaps"].any((0, 2)).T, present)
    # A turn keeps distances; where the first body is missing, the origin stays where it was last.
    latest = np.maximum.accumulate(np.where(present[0], np.arange(300), 0))
    origin = filled[0][latest, 1:2]
    for body in (0, 1):
        expected = np.linalg.norm(filled[body] - origin, axis=-1) * present[body][:, None]
        np.testing.assert_allclose(np.linalg.norm(made["gaps"][..., body], axis=0), expected, atol=1e-4)
    one = np.linalg.norm(CLIPS["one"][0] - CLIPS["one"][0][:, 1:2], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(made["one"][..., 0], axis=0), one[np.arange(300) % 7], atol=1e-4
    )
    assert not made["one"][..., 1].any()


def test_ctr_gcn_layout(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_numpy, "BATCH_SIZE", 2)
    assert run(data, tmp_path, "ctr_gcn") == 0
    archive = np.load(tmp_path / "xsub.npz", allow_pickle=False)
    assert {name: array.shape for name, array in archive.items()} == {
        "x_train": (3, 300, 150),
        "y_train": (3, 3),
        "x_test": (1, 300, 150),
        "y_test": (1, 3),
    }
    np.testing.assert_array_equal(archive["y_train"], np.eye(3)[[2, 2, 0]])
    long = CLIPS["two"][:, :300]
    expected = (long - long[0, 0, 1]).transpose(1, 0, 2, 3).reshape(300, 150)
    np.testing.assert_allclose(archive["x_train"][2], expected, atol=1e-6)
    three = (CLIPS["three"] - CLIPS["three"][0, 0, 1])[:2].transpose(1, 0, 2, 3).reshape(4, 150)
    np.testing.assert_allclose(archive["x_test"][0, :4], three, atol=1e-6)
    assert not archive["x_test"][0, 4:].any()
    assert sorted(os.listdir(tmp_path)) == ["made.h5", "xsub.npz"]


def test_batches_do_not_matter(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, size in (("a", 64), ("b", 1)):
        monkeypatch.setattr(export_numpy, "BATCH_SIZE", size)
        for name in ("as_gcn", "aimclr"):
            run(data, tmp_path / folder / name, name)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 10
    for file in files:
        a, b = tmp_path / "a" / file, tmp_path / "b" / file
        if file.suffix == ".pkl":
            assert a.read_bytes() == b.read_bytes()
        else:
            np.testing.assert_allclose(np.load(a), np.load(b), atol=1e-5)


@pytest.mark.parametrize("name", ["as_gcn", "aimclr"])
def test_the_feeder_reads_the_arrays(data: Path, tmp_path: Path, name: str) -> None:
    run(data, tmp_path, name)
    source = open_source(tmp_path / "xsub", "ntu-rgb+d")
    assert source.name.tolist() == ["gaps", "one", "two", "three"] and source.label.tolist() == [2, 2, 0, 1]
    feeder = Feeder(tmp_path / "xsub", "xsub", part="test", layout="ntu-rgb+d", num_class=3, val_fraction=0)
    assert feeder.name.tolist() == ["three"] and feeder.num_body_of.tolist() == [2]


def test_a_benchmark_without_held_out_clips(data: Path, tmp_path: Path) -> None:
    command = ["--data", str(data), "--benchmark", "all", "--format"]
    for name in export_numpy.FORMATS:
        assert main([*command, name, "--out", str(tmp_path / name)]) == 0
    assert np.load(tmp_path / "aimclr" / "all" / "val_position.npy").shape == (0, 3, 50, 25, 2)
    assert np.load(tmp_path / "ctr_gcn" / "all.npz")["x_test"].shape == (0, 300, 150)


def test_what_exists_is_kept(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, file in (("aimclr", "xsub/val_label.pkl"), ("ctr_gcn", "xsub.npz")):
        assert run(data, tmp_path, name) == 0
        before = (tmp_path / file).stat().st_ino
        assert run(data, tmp_path, name) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert (tmp_path / file).stat().st_ino == before
        assert run(data, tmp_path, name, "--overwrite") == 0
        assert (tmp_path / file).stat().st_ino != before


@pytest.mark.parametrize("name", export_numpy.FORMATS)
def test_a_full_disk_leaves_nothing(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []

    def write_array(*args: object) -> None:
        written.append(args)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_numpy, "write_array", write_array)
    assert run(data, tmp_path / "out", name) == 2
    assert "No space left" in capsys.readouterr().err
    assert not [file for _, _, files in os.walk(tmp_path / "out") for file in files]


def test_bad_input(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.h5", tmp_path, "aimclr") == 2
    assert "not found" in capsys.readouterr().err
    assert (
        main(["--data", str(data), "--benchmark", "xset", "--format", "aimclr", "--out", str(tmp_path)]) == 2
    )
    assert "--benchmark 'xset'" in capsys.readouterr().err
    flat = tmp_path / "flat.h5"
    with PreparedWriter(
        flat, skeleton=SKELETON, class_names=["a"], frame_rate=30, bodies="made", source="made", channels="xy"
    ) as writer:
        writer.append("a", 0, tracks(1, 3, 0)[..., :2])
        writer.finish({"xsub": {"train": [0], "val": []}})
    assert run(flat, tmp_path, "aimclr") == 2 and "2 channels" in capsys.readouterr().err
    coco = tmp_path / "coco.h5"
    with PreparedWriter(
        coco, skeleton=get_skeleton("coco"), class_names=["a"], frame_rate=30, bodies="made", source="made"
    ) as writer:
        writer.append("a", 0, tracks(1, 3, 0)[:, :, :17])
        writer.finish({"xsub": {"train": [0], "val": []}})
    assert run(coco, tmp_path / "out", "as_gcn") == 2 and "needs torso" in capsys.readouterr().err
    assert run(coco, tmp_path / "out", "aimclr") == 0


def test_it_runs_as_a_script(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--benchmark", "xsub"]
    command += ["--format", "aimclr", "--out", "arrays"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "xsub train: 3 clips" in done.stdout and (tmp_path / "arrays" / "xsub" / "val_motion.npy").exists()
