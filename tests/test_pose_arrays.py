"""Arrays of poses in any order of axes, in archives, with joints that were not seen; bad ones are one clear error."""

import io
import pickle
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from test_pose_files import read, refused

from feeder.recordings import archives
from feeder.recordings.axes import arrange, check_axes
from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton

COCO = get_skeleton("coco")


def poses(*shape: int, seed: int = 0) -> np.ndarray:
    """(*shape, 17, 3) metres, 3 m before the camera."""
    made = np.random.default_rng(seed).uniform(-1, 1, (*shape, 17, 3))
    made[..., 2] += 3
    return made.round(4).astype(np.float32)


@pytest.mark.parametrize("order", ["tvc", "vct", "tcv", "ctv", "vtc", "cvt"])
def test_orders_of_one_body(order: str) -> None:
    clip = poses(20)
    array = clip.transpose(["tvc".index(axis) for axis in order])
    for axes in (None, order):
        tracks, said = arrange(array, num_joint=17, num_channels=(3, 2), axes=axes)
        np.testing.assert_array_equal(tracks, clip[None])
        assert (said is None) == (axes is not None or order == "tvc")
        assert said is None or ", ".join(order.upper()) in said


@pytest.mark.parametrize("order", ["mtvc", "tmvc", "ctvm", "mctv", "vctm"])
def test_orders_of_two_bodies(order: str) -> None:
    clip = poses(2, 20)
    array = clip.transpose(["mtvc".index(axis) for axis in order])
    for axes in (None, order):
        np.testing.assert_array_equal(arrange(array, num_joint=17, num_channels=(3,), axes=axes)[0], clip)


def test_rows_of_numbers() -> None:
    clip = poses(2, 20)
    rows = clip.swapaxes(0, 1).reshape(20, -1)
    np.testing.assert_array_equal(arrange(rows, num_joint=17, num_channels=(3,))[0], clip)


@pytest.mark.parametrize(
    ("shape", "axes", "word"),
    [
        ((5, 18, 3), None, "(5, 18, 3)"),
        ((17, 3), None, "(17, 3)"),
        ((3, 17, 5), None, "(3, 17, 5)"),  # of 5 frames: too few to be sure
        ((17, 3, 17), None, "tcv or vct"),
        ((3, 17, 5), "tvc", "c 5"),
        ((3, 17, 5), "mtvc", "3 axes"),
        ((0, 17, 3), None, "(0, 17, 3)"),
        ((2, 2, 2, 17, 3), None, "17, 3"),
    ],
)
def test_shapes_that_fit_nothing(shape: tuple[int, ...], axes: str | None, word: str) -> None:
    with pytest.raises(RecordingError) as error:
        arrange(np.ones(shape), num_joint=17, num_channels=(3, 2), axes=axes)
    assert word in str(error.value)


def test_axes_settle_what_is_left() -> None:
    clip = poses(5)
    array = clip.transpose(2, 1, 0)
    np.testing.assert_array_equal(arrange(array, num_joint=17, num_channels=(3,), axes="cvt")[0], clip[None])
    square = np.arange(17 * 17 * 3.0).reshape(17, 17, 3)
    np.testing.assert_array_equal(arrange(square, num_joint=17, num_channels=(3,))[0][0], square)
    other = arrange(square, num_joint=17, num_channels=(3,), axes="vtc")[0][0]
    np.testing.assert_array_equal(other, square.swapaxes(0, 1))
    for wrong in ("tv", "tvx", "ttvc", "mtv", ""):
        with pytest.raises(ValueError, match="axes"):
            check_axes(wrong)


def write_mat73(path: Path, **arrays: np.ndarray) -> None:
    """As MATLAB writes -v7.3: HDF5 after a block of 512 bytes, arrays with their axes the other way round."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T, compression="gzip").attrs["MATLAB_class"] = np.bytes_(
                "double"
            )
        file.create_group("#refs#")


@pytest.mark.parametrize("kind", ["npz", "compressed", "mat", "compressed mat", "mat 4", "mat 7.3"])
def test_archives(tmp_path: Path, kind: str) -> None:
    clip = poses(2, 20)
    array = clip.reshape(2 * 20, -1) if kind == "mat 4" else clip
    path = tmp_path / ("a.mat" if "mat" in kind else "a.npz")

    def save(**arrays: np.ndarray) -> None:
        if "mat" not in kind:
            (np.savez_compressed if kind == "compressed" else np.savez)(path, **arrays)
        elif kind == "mat 7.3":
            write_mat73(path, **arrays)
        else:
            scipy.io.savemat(path, arrays, do_compression="comp" in kind, format="4" if "4" in kind else "5")

    expected = array.reshape(-1, 17, 3)[None] if kind == "mat 4" else clip
    save(poses=array, frame_rate=np.array([[30.0]]))
    np.testing.assert_allclose(read(path, COCO).tracks, expected, rtol=1e-6)
    save(poses=array, other=array[..., :2])
    assert "poses 2x20x17x3" in str(refused(path, COCO)) or "poses 40x51" in str(refused(path, COCO))
    np.testing.assert_allclose(read(path, COCO, variable="poses").tracks, expected, rtol=1e-6)
    assert "no numeric array 'pose'" in str(refused(path, COCO, variable="pose"))
    path.write_bytes(path.read_bytes()[:-300])
    assert refused(path, COCO)


def test_matlab_s_order(tmp_path: Path) -> None:
    scipy.io.savemat(
        tmp_path / "a.mat", {"skel": poses(20).transpose(1, 2, 0).astype(np.float64), "name": "wave"}
    )
    found = read(tmp_path / "a.mat", COCO)
    np.testing.assert_allclose(found.tracks[0], poses(20), rtol=1e-6)
    assert "(V, C, T)" in found.assumptions[0]


class Code:
    def __reduce__(self):
        return (open, ("/tmp/was-run", "w"))


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    objects = np.array([Code()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", poses=objects)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Code()))
    for name in ("a.npy", "a.npz", "b.npz"):
        assert refused(tmp_path / name, COCO)
    assert not Path("/tmp/was-run").exists()


def zip_bomb(path: Path, shape: tuple[int, ...], num_byte: int) -> None:
    """A member whose header asks for `shape`, with so many zeros behind it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("poses.npy", "w") as member,
    ):
        member.write(header.getvalue())
        for _ in range(num_byte >> 20):
            member.write(bytes(1 << 20))


def test_bombs_take_no_memory(tmp_path: Path, monkeypatch) -> None:
    """Those of more bytes than a recording may have, and those of fewer that are next to nothing in the file."""
    monkeypatch.setattr(archives, "MAX_BYTES", 64 << 20)
    zip_bomb(tmp_path / "large.npz", (10**5, 17, 3), 100 << 20)
    zip_bomb(tmp_path / "liar.npz", (10**9, 17, 3), 1 << 20)
    zip_bomb(tmp_path / "zeros.npz", (10**5, 17, 3), 39 << 20)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    for name, size in (("large", 100), ("zeros", 40)):
        packed = zlib.compress(bytes(size << 20), 9)
        (tmp_path / f"{name}.mat").write_bytes(
            head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
        )
    for name, count in (("virtual", 10**8), ("unwritten", 10**5)):
        with h5py.File(tmp_path / f"{name}.mat", "w") as file:
            file.create_dataset("poses", (count, 17, 3), "f8", chunks=(1000, 17, 3), compression="gzip")
    del packed
    tracemalloc.start()
    for name in (
        *("large.npz", "liar.npz", "zeros.npz", "large.mat", "zeros.mat", "virtual.mat", "unwritten.mat"),
    ):
        assert "MiB" in str(refused(tmp_path / name, COCO)), name
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_nan_in_space_needs_max_gap(tmp_path: Path) -> None:
    clip = poses(30)
    gap = clip.copy()
    gap[5, 3] = np.nan
    gap[10:20, 4] = 0
    gap[29, 5, 1] = np.nan
    np.save(tmp_path / "a.npy", gap)
    assert "--max_gap" in str(refused(tmp_path / "a.npy", COCO))
    found = read(tmp_path / "a.npy", COCO, max_gap=3)
    assert found.gaps == (1, 11) and found.channels == "xyz"
    np.testing.assert_allclose(found.tracks[0, 5, 3], (clip[4, 3] + clip[6, 3]) / 2, atol=1e-6)
    assert not found.tracks[0, 12, 4].any() and not found.tracks[0, 29, 5].any()
    assert read(tmp_path / "a.npy", COCO, max_gap=10).gaps == (11, 1)
    np.save(tmp_path / "a.npy", clip * np.nan)
    assert "origin" in str(refused(tmp_path / "a.npy", COCO, max_gap=3))


def test_poses_in_the_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(10, 400, (20, 17, 3)).astype(np.float32)
    pixels[..., 2] = 0.5
    pixels[3, 4] = 0
    pixels[5, 6, 0] = np.nan
    np.save(tmp_path / "a.npy", pixels)
    found = read(tmp_path / "a.npy", COCO, channels="xyc")
    assert (found.channels, found.unit, found.gaps) == ("xyc", "px", (2, 0))
    found = read(tmp_path / "a.npy", COCO, picture=(640, 480))
    assert (found.channels, found.unit) == ("xyc", "picture")
    np.testing.assert_allclose(found.tracks[0, 0, :, 0], (pixels[0, :, 0] - 320) / 480, atol=1e-6)
    np.save(tmp_path / "b.npy", pixels[..., :2])
    assert read(tmp_path / "b.npy", COCO).channels == "xy"
    # Neither are they metres, nor are metres poses in the picture.
    assert "confidence" in str(refused(tmp_path / "a.npy", COCO, max_gap=3))
    np.save(tmp_path / "c.npy", poses(20))
    assert "confidence" in str(refused(tmp_path / "c.npy", COCO, channels="xyc"))
    np.save(tmp_path / "a.npy", pixels * np.nan)
    assert "no frame has a body" in str(refused(tmp_path / "a.npy", COCO, channels="xyc"))
