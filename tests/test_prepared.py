"""The prepared file: round trips, what is refused, and that nothing can leave half a file."""

import pickle
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from feeder.prepared import FORMAT_VERSION, NO_LABEL, PreparedWriter, open_prepared
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

ROOT = Path(__file__).resolve().parents[1]
CHAIN = Skeleton(
    name="chain", joints=("a", "b", "c"), parents=(0, 0, 1), centre=0, swap=(0, 1, 2), spine=0, torso=(0, 1)
)
SPLITS = {"xsub": {"train": [0, 2, 4], "val": [3, 1]}, "xview": {"train": np.arange(5), "val": []}}


def make_clips(skeleton: Skeleton = CHAIN, num_channel: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = [(1, 4), (2, 1), (3, 2), (1, 1), (2, 5)]
    return [
        generator.normal(size=(*shape, skeleton.num_joint, num_channel)).astype(np.float32)
        for shape in shapes
    ]


def new_writer(
    path: Path, *, skeleton: Skeleton = CHAIN, overwrite: bool = False, **channels: str
) -> PreparedWriter:
    return PreparedWriter(
        path,
        skeleton=skeleton,
        class_names=["sit", "höra"],
        frame_rate=25,
        bodies="first",
        source="made up",
        overwrite=overwrite,
        **channels,
    )


def write(path: Path, clips: list[np.ndarray] | None = None, **kwargs: object) -> None:
    with new_writer(path, **kwargs) as writer:  # type: ignore[arg-type]
        for index, tracks in enumerate(make_clips() if clips is None else clips):
            writer.append(f"clip{'é' * index}", index % 2, tracks, subject=10 + index, camera=3)
        writer.finish(SPLITS, {"num_bad": 7})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "new" / "a.h5")
    prepared = open_prepared(tmp_path / "new" / "a.h5")
    for index, tracks in enumerate(make_clips()):
        start, frames, bodies = (
            int(field[index]) for field in (prepared.start, prepared.num_frame, prepared.num_body)
        )
        rows = prepared.joints[start : start + frames * bodies]
        np.testing.assert_array_equal(rows.reshape(bodies, frames, 3, 3), tracks)
    assert prepared.skeleton == CHAIN and prepared.layout == "chain"
    assert prepared.class_names == ["sit", "höra"] and prepared.frame_rate == 25
    assert prepared.name.tolist() == ["clip" + "é" * index for index in range(5)]
    assert prepared.label.tolist() == [0, 1, 0, 1, 0] and len(prepared) == 5
    assert {key: values.tolist() for key, values in prepared.keys.items()} == {
        "subject": [10, 11, 12, 13, 14],
        "camera": [3] * 5,
    }
    assert {
        name: {part: clips.tolist() for part, clips in parts.items()}
        for name, parts in prepared.splits.items()
    } == {"xsub": {"train": [0, 2, 4], "val": [3, 1]}, "xview": {"train": [0, 1, 2, 3, 4], "val": []}}
    assert prepared.attrs["bodies"] == "first" and prepared.attrs["source"] == "made up"
    assert prepared.attrs["num_bad"] == 7 and prepared.attrs["num_row"] == len(prepared.joints) == 23
    for array in (prepared.start, prepared.num_frame, prepared.label, prepared.splits["xview"]["val"]):
        assert array.dtype == np.int64


def test_read_gives_rows_end_to_end_in_the_order_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    clips = make_clips()
    prepared = open_prepared(tmp_path / "a.h5")
    expected = np.concatenate([clips[index].reshape(-1, 3, 3) for index in (4, 0, 4)])
    rows = prepared.read(np.array([4, 0, 4]))
    np.testing.assert_array_equal(rows, expected)
    assert rows.flags.writeable and rows.flags.c_contiguous
    assert prepared.read(np.array([], np.int64)).shape == (0, 3, 3)


def test_joints_are_mapped_from_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    prepared = open_prepared(tmp_path / "a.h5")
    assert isinstance(prepared.joints.base, np.memmap) and not prepared.joints.flags.writeable
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["joints"].chunks is None and file["joints"].compression is None
        np.testing.assert_array_equal(file["joints"][...], prepared.joints)


def test_pickles_as_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5", [np.ones((1, 9000, 3, 3), np.float32)] * 5)
    monkeypatch.chdir(tmp_path)
    prepared = open_prepared("a.h5")
    dump = pickle.dumps(prepared)
    monkeypatch.chdir("/")
    assert len(dump) < 1000
    np.testing.assert_array_equal(pickle.loads(dump).read(np.array([1])), prepared.read(np.array([1])))


def test_the_same_clips_make_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    time.sleep(1.01)
    write(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_two_channels_and_the_ntu_skeleton(tmp_path: Path) -> None:
    skeleton = get_skeleton("ntu-rgb+d")
    write(tmp_path / "a.h5", make_clips(skeleton, 2), skeleton=skeleton, channels="xy", unit="px")
    prepared = open_prepared(tmp_path / "a.h5")
    assert prepared.joints.shape == (23, 25, 2) and prepared.skeleton == skeleton
    assert (prepared.channels, prepared.unit) == ("xy", "px")


@pytest.mark.parametrize(("num_channel", "channels"), [(2, "xy"), (3, "xyz")])
def test_a_file_that_does_not_say_its_channels_has_coordinates_in_metres(
    tmp_path: Path, num_channel: int, channels: str
) -> None:
    write(tmp_path / "a.h5", make_clips(num_channel=num_channel), channels=channels)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for attribute in ("channels", "unit"):
            del file.attrs[attribute]
    prepared = open_prepared(tmp_path / "a.h5")
    assert (prepared.channels, prepared.unit) == (channels, "m")


@pytest.mark.parametrize("wrong", [{"channels": "zyx"}, {"unit": "ft"}])
def test_unknown_channels_are_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong.values()))!r} is not one of"):
        new_writer(tmp_path / "a.h5", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_may_have_no_label(tmp_path: Path) -> None:
    with new_writer(tmp_path / "a.h5") as writer:
        writer.append("a", NO_LABEL, ONE)
        writer.append("b", 1, ONE)
        writer.finish({})
    assert open_prepared(tmp_path / "a.h5").label.tolist() == [-1, 1]


ONE = np.zeros((1, 2, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "first"}, "'first' was added before"),
        ({"label": 2}, "label 2 is not one of 0 to 1"),
        ({"label": -2}, "label -2 is not one of 0 to 1"),
        ({"tracks": ONE[0]}, r"shape \(2, 3, 3\); needed is .* 3 joints of layout 'chain'"),
        ({"tracks": ONE[:, :, :2]}, "shape"),
        ({"tracks": ONE[:, :0]}, "with none of them 0"),
        ({"tracks": ONE[..., :2]}, "2 channels; needed are 'xyz'"),
        ({"tracks": np.full_like(ONE, np.nan)}, "NaN, infinite or too large"),
        ({"tracks": np.full(ONE.shape, 1e39)}, "NaN, infinite or too large"),
        ({"keys": {"subject": 1}}, r"keys \['subject'\], but \['camera', 'subject'\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_append_refuses(tmp_path: Path, change: dict, message: str) -> None:
    clip = {"name": "second", "label": 1, "tracks": ONE, "keys": {"subject": 1, "camera": 1}, **change}
    with new_writer(tmp_path / "a.h5") as writer:
        writer.append("first", 0, ONE, subject=1, camera=1)
        with pytest.raises(ValueError, match=message):
            writer.append(clip["name"], clip["label"], clip["tracks"], **clip["keys"])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": [0]}, r"has parts \['train'\]"),
        ({"train": [0], "test": [1]}, "needed are"),
        ({"train": [0, 1], "val": [1]}, "names clip 1 more than once"),
        ({"train": [0, 0], "val": [1]}, "names clip 0 more than once"),
        ({"train": [0], "val": [2]}, "names clip 2; clips are 0 to 1"),
        ({"train": [-1], "val": [1]}, "names clip -1"),
    ],
)
def test_finish_refuses_splits(tmp_path: Path, split: dict, message: str) -> None:
    with new_writer(tmp_path / "a.h5") as writer:
        writer.append("a", 0, ONE)
        writer.append("b", 0, ONE)
        with pytest.raises(ValueError, match=message):
            writer.finish({"xsub": split})
    assert list(tmp_path.iterdir()) == []


def test_finish_refuses_no_clips(tmp_path: Path) -> None:
    with new_writer(tmp_path / "a.h5") as writer, pytest.raises(ValueError, match="no clip to write"):
        writer.finish({})


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="--overwrite"):
        new_writer(path)
    assert path.read_text() == "precious"
    write(path, overwrite=True)
    assert len(open_prepared(path)) == 5
    for overwrite in (False, True):
        with pytest.raises(IsADirectoryError, match="is a folder; name the file to make"):
            new_writer(tmp_path, overwrite=overwrite)


def test_a_file_made_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with new_writer(path) as writer:
        writer.append("a", 0, ONE)
        path.write_text("precious")
        with pytest.raises(FileExistsError, match="--overwrite"):
            writer.finish({})
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "a.h5"
    path.write_text("precious")

    def fail(*_: object) -> None:
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file is there
        raise error

    with pytest.raises(error), new_writer(path, overwrite=True) as writer:
        writer.append("a", 0, ONE)
        raise error
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr("os.fsync", fail)
        write(path, overwrite=True)
    with new_writer(path, overwrite=True) as writer:
        writer.append("a", 0, ONE)  # and no finish
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writing past it fails just so, at each stage."""
    code = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        sys.path[:0] = sys.argv[2:]
        import test_prepared
        path = Path(sys.argv[1])
        path.write_text("precious")
        for limit, frames in ((50, 1), (100, 200), (3000, 200), (30_000, 200), (44_000, 200), (3_000_000, 200)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                test_prepared.write(path, [np.ones((1, frames, 3, 3), np.float32)] * 5, overwrite=True)
            except OSError as error:
                print(limit, error)
                assert path.read_text() == "precious", path.read_text()
            assert list(path.parent.iterdir()) == [path], list(path.parent.iterdir())
        print(len(test_prepared.open_prepared(path)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / "a.h5", ROOT, ROOT / "tests"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *failed, clips = done.stdout.splitlines()
    assert [line.split()[0] for line in failed] == ["50", "100", "3000", "30000", "44000"]
    assert clips == "5"
    assert all(f"{tmp_path / 'a.h5'} was not written" in line for line in failed)


def test_missing_file_names_the_commands(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ntu_gen_preprocess.*make demo"):
        open_prepared(tmp_path / "a.h5")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("no HDF5")
    with pytest.raises(ValueError, match="not a prepared file"):
        open_prepared(path)
    write(path, overwrite=True)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(ValueError, match="cut short"):
        open_prepared(path)


def set_attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def set_values(name: str, index: object, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(index, value)


def replace(name: str, values: np.ndarray, **kwargs: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, **kwargs)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (set_attribute("format_version", FORMAT_VERSION + 1), "format version 2, this program reads 1"),
        (lambda file: file.attrs.__delitem__("format_version"), "format version None"),
        (lambda file: file.attrs.__delitem__("class_names"), "damaged: .*class_names"),
        (set_attribute("skeleton", "{}"), "damaged"),
        (set_attribute("class_names", '["one"]'), "clip 'clipé' has label 1 of 1 classes"),
        (set_values("label", 1, -2), "label -2"),
        (set_attribute("channels", "xy"), "3 channels, .*'xy'"),
        (set_attribute("unit", "ft"), "unit 'ft' is not one of"),
        (set_values("start", 2, -1), "'clipéé' lies outside the 23 rows"),
        (set_values("num_frame", 4, 6), "lies outside"),
        (set_values("num_frame", 4, 0), "lies outside"),
        (set_values("num_body", 0, 0), "lies outside"),
        (replace("label", np.zeros(4, np.int64)), r"label has shape \(4,\) for 5 clips"),
        (replace("keys/subject", np.zeros(6, np.int64)), r"subject has shape \(6,\)"),
        (replace("joints", np.zeros((23, 3, 3))), "joints are float64"),
        (replace("joints", np.zeros((23, 3, 3), "f4"), chunks=(23, 3, 3)), "not contiguous"),
        (replace("joints", np.zeros((23, 9), "f4")), "not contiguous float32"),
        (replace("joints", np.zeros((23, 4, 3), "f4")), "4 joints, but layout 'chain' has 3"),
        (set_values("splits/xsub/val", 0, 5), "names clip 5"),
        (lambda file: file.__delitem__("splits/xsub/val"), "has parts"),
        (lambda file: file.__delitem__("name"), "damaged"),
        (lambda file: [file.move("name", "names"), file.move("splits", "name")], "damaged"),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: Callable[[h5py.File], None], message: str) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=message):
        open_prepared(tmp_path / "a.h5")


@pytest.mark.parametrize("signature", [b"TREE", b"HEAP", b"SNOD", b"GCOL"])
def test_damage_to_hdf5s_own_tables_is_found(tmp_path: Path, signature: bytes) -> None:
    path = tmp_path / "a.h5"
    write(path)
    data = path.read_bytes()
    pieces = data.split(signature)
    assert len(pieces) > 1
    for place in range(1, len(pieces)):
        path.write_bytes(signature.join(pieces[:place]) + b"oops" + signature.join(pieces[place:]))
        with pytest.raises(ValueError, match=r"damaged|not a prepared file"):
            open_prepared(path)
