"""Folders of other projects: arrays, names and labels; and pickles that would like to do more."""

import io
import os
import pickle
import pickletools
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from feeder.arrays import ArrayFolder, open_source
from feeder.feeder import Feeder
from feeder.plain_pickle import load_plain_pickle
from feeder.prepared import Prepared

LAYOUT = "ntu-rgb+d"


def write_folder(folder, kind="data", *, num_frame=20, dtype=np.float32):
    """Three training and two held-out clips: (arrays, names, labels, their frames, their bodies)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    frames, bodies = {"train": [20, 7, 1], "val": [12, 20]}, {"train": [1, 2, 1], "val": [2, 1]}
    labels = {"train": [0, 2, 1], "val": [1, 0]}
    arrays = {}
    for part, lengths in frames.items():
        array = np.zeros((len(lengths), 3, num_frame, 25, 2), dtype)
        for clip, (length, count) in enumerate(zip(lengths, bodies[part], strict=True)):
            array[clip, :, :length, :, :count] = rng.standard_normal((3, length, 25, count))
        np.save(folder / f"{part}_{kind}.npy", array)
        names = [f"{part}{clip}.skeleton" for clip in range(len(lengths))]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, labels[part])))
        arrays[part] = array
    return arrays


@pytest.mark.parametrize("suffix", ["", ".skeleton"])
def test_names_of_ntu_tell_who_acts(tmp_path, suffix):
    write_folder(tmp_path / "xsub")
    assert open_source(tmp_path / "xsub", LAYOUT).keys == {}
    for part, subjects in (("train", (1, 2, 104)), ("val", (3, 6))):
        names = [f"S017C00{part == 'val':d}P{subject:03d}R002A060{suffix}" for subject in subjects]
        (tmp_path / "xsub" / f"{part}_label.pkl").write_bytes(pickle.dumps((names, [0] * len(names))))
    found = {key: values.tolist() for key, values in open_source(tmp_path / "xsub", LAYOUT).keys.items()}
    assert found["subject"] == [1, 2, 104, 3, 6] and found["camera"] == [0, 0, 0, 1, 1]
    assert found["setup"] == [17] * 5 and found["replication"] == [2] * 5 and found["action"] == [60] * 5
    # One other name, and nothing is known.
    names[0] = "S017C001"
    (tmp_path / "xsub" / "val_label.pkl").write_bytes(pickle.dumps((names, [0, 0])))
    assert open_source(tmp_path / "xsub", LAYOUT).keys == {}
    with pytest.raises(ValueError, match=r"no key 'subject'.* like S001C002P003R002A013"):
        Feeder(tmp_path / "xsub", "xsub", part="train", layout=LAYOUT, num_class=1)


def test_pixels_are_refused(tmp_path):
    arrays = write_folder(tmp_path / "xsub")
    np.save(tmp_path / "xsub" / "train_data.npy", arrays["train"] * 500)
    with pytest.raises(ValueError, match=r"train_data\.npy: a body spans .*pixels"):
        open_source(tmp_path / "xsub", LAYOUT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_padded_arrays_are_read_as_clips_of_their_true_length(tmp_path, dtype):
    arrays = write_folder(tmp_path / "xsub", dtype=dtype)
    source = open_source(tmp_path / "xsub", LAYOUT)
    assert isinstance(source, ArrayFolder)
    assert len(source) == 5
    assert source.num_frame.tolist() == [20, 7, 1, 12, 20]
    assert source.num_body.tolist() == [1, 2, 1, 2, 1]
    assert source.label.tolist() == [0, 2, 1, 1, 0]
    assert source.name.tolist() == [f"train{k}.skeleton" for k in range(3)] + [
        f"val{k}.skeleton" for k in range(2)
    ]
    assert source.class_names == ["0", "1", "2"]
    assert source.layout == LAYOUT
    assert np.isnan(source.frame_rate)
    assert {part: clips.tolist() for part, clips in source.splits["xsub"].items()} == {
        "train": [0, 1, 2],
        "val": [3, 4],
    }
    rows = source.read(np.array([4, 1]))
    assert rows.dtype == np.float32
    expected = [arrays["val"][1, :, :, :, :1], arrays["train"][1, :, :7, :, :2]]
    np.testing.assert_array_equal(
        rows,
        np.concatenate([clip.transpose(3, 1, 2, 0).reshape(-1, 25, 3) for clip in expected]).astype(
            np.float32
        ),
    )


@pytest.mark.parametrize("kind", ["position", "data_joint_pad"])
def test_full_arrays_keep_their_last_frames_empty_or_not(tmp_path, kind):
    write_folder(tmp_path, kind)
    source = ArrayFolder(tmp_path, LAYOUT)
    assert source.num_frame.tolist() == [20] * 5
    assert source.num_body.tolist() == [1, 2, 1, 2, 1]


def test_an_empty_clip_is_one_empty_frame_and_a_lone_second_body_is_two(tmp_path):
    arrays = write_folder(tmp_path)
    arrays["train"][0] = 0
    arrays["train"][1, ..., 0] = 0
    np.save(tmp_path / "train_data.npy", arrays["train"])
    source = ArrayFolder(tmp_path, LAYOUT)
    assert source.num_frame.tolist()[:2] == [1, 7]
    assert source.num_body.tolist()[:2] == [1, 2]
    assert not source.read(np.array([0])).any()


def test_a_long_array_is_scanned_in_blocks(tmp_path, monkeypatch):
    write_folder(tmp_path)
    whole = ArrayFolder(tmp_path, LAYOUT)
    monkeypatch.setattr("feeder.arrays.SCAN_BYTES", 1)
    in_blocks = ArrayFolder(tmp_path, LAYOUT)
    assert whole.num_frame.tolist() == in_blocks.num_frame.tolist()
    assert whole.num_body.tolist() == in_blocks.num_body.tolist()


def test_pickles_without_its_arrays(tmp_path):
    write_folder(tmp_path)
    source = ArrayFolder(tmp_path, LAYOUT)
    packed = pickle.dumps(source)
    assert len(packed) < 10_000
    np.testing.assert_array_equal(pickle.loads(packed).read(np.arange(5)), source.read(np.arange(5)))


def test_a_file_is_opened_as_prepared(tiny_data):
    assert isinstance(open_source(tiny_data, LAYOUT), Prepared)


def test_nan_is_refused_when_read(tmp_path):
    arrays = write_folder(tmp_path)
    arrays["val"][0, 1, 2, 3, 0] = np.nan
    np.save(tmp_path / "val_data.npy", arrays["val"])
    source = ArrayFolder(tmp_path, LAYOUT)
    source.read(np.array([0, 4]))
    with pytest.raises(ValueError, match=r"val_data.npy: clip 'val0.skeleton' holds NaN"):
        source.read(np.array([0, 3]))


@pytest.mark.parametrize("padding", ["zeros", "repeated"])
def test_folders_of_2s_agcn_and_ms_g3d_are_read(tmp_path, padding):
    """`train_data_joint.npy` of 300 frames, (names, labels), beside bones and motion in arrays of their own."""
    arrays = write_folder(tmp_path / "xview", "data_joint", num_frame=300)
    for part, array in arrays.items():
        if padding == "repeated":  # each body on its own, as their code does it
            for clip in array:
                for body in range(2):
                    length = int((clip[..., body] != 0).any((0, 2)).sum())
                    frames = np.arange(300) % max(length, 1)
                    clip[..., body] = clip[:, frames, :, body].transpose(1, 0, 2)
        np.save(tmp_path / "xview" / f"{part}_data_joint.npy", array)
        for other in ("data_bone", "data_joint_motion"):
            np.save(tmp_path / "xview" / f"{part}_{other}.npy", np.zeros_like(array))
    source = open_source(tmp_path / "xview", LAYOUT)
    repeated = padding == "repeated"
    assert source.num_frame.tolist() == ([300] * 5 if repeated else [20, 7, 1, 12, 20])
    assert source.num_body.tolist() == [1, 2, 1, 2, 1]
    np.testing.assert_array_equal(
        source.read(np.array([1]))[: source.num_frame[1]],
        arrays["train"][1, :, : source.num_frame[1], :, 0].transpose(1, 2, 0),
    )


def write_labels(folder, train, val):
    for part, labels in (("train", train), ("val", val)):
        names = [f"{part}{clip}" for clip in range(len(labels))]
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((names, labels)))


def test_labels_from_1_are_refused_unless_the_first_is_said_to_be_1(tmp_path, tiny_data):
    write_folder(tmp_path)
    write_labels(tmp_path, [1, 3, 2], [2, 1])
    with pytest.raises(ValueError, match=r"labels of .* are 1 to 3.*data.first_label=1.*data.first_label=0"):
        open_source(tmp_path, LAYOUT)
    source = open_source(tmp_path, LAYOUT, 1)
    assert (source.label.tolist(), source.class_names) == ([0, 2, 1, 1, 0], ["0", "1", "2"])
    source = open_source(tmp_path, LAYOUT, 0)
    assert (source.label.tolist(), source.class_names) == ([1, 3, 2, 2, 1], ["0", "1", "2", "3"])
    with pytest.raises(ValueError, match=r"has label 1, but data.first_label is 2"):
        open_source(tmp_path, LAYOUT, 2)
    # One clip of class 0 in either part is enough.
    write_labels(tmp_path, [1, 3, 2], [2, 0])
    assert open_source(tmp_path, LAYOUT).label.tolist() == [1, 3, 2, 2, 0]
    with pytest.raises(ValueError, match=r"data.first_label is 1, but .* is a prepared file"):
        open_source(tiny_data, LAYOUT, 1)


# -- folders that are not what they should be ---------------------------------------------------------------


def test_no_array_or_a_missing_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train_position.npy, train_data.npy"):
        ArrayFolder(tmp_path, LAYOUT)
    write_folder(tmp_path)
    (tmp_path / "val_label.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"val_label.pkl.* train_data.npy"):
        ArrayFolder(tmp_path, LAYOUT)


def test_two_kinds_in_one_folder_are_refused(tmp_path):
    write_folder(tmp_path)
    write_folder(tmp_path, "position")
    with pytest.raises(ValueError, match=r"train_position.npy and train_data.npy"):
        ArrayFolder(tmp_path, LAYOUT)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 3, 20, 25), np.float32), r"float32 \(3, 3, 20, 25\)"),
        (np.zeros((3, 3, 20, 25, 2), np.int64), "int64"),
        (np.zeros((0, 3, 20, 25, 2), np.float32), r"\(0, 3, 20, 25, 2\)"),
        (np.zeros((3, 3, 20, 18, 2), np.float32), "18 joints, layout 'ntu-rgb\\+d' has 25"),
        (np.array([{}], object), "no plain NumPy array"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, array, said):
    write_folder(tmp_path)
    np.save(tmp_path / "train_data.npy", array)
    with pytest.raises(ValueError, match=said):
        ArrayFolder(tmp_path, LAYOUT)


def test_a_file_that_is_no_array_is_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train_data.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="no plain NumPy array"):
        ArrayFolder(tmp_path, LAYOUT)


@pytest.mark.parametrize("header", [b"(2, 3, 4", b"\x00" * 40, b"-1, " * 10, b"0x1for"])
def test_a_damaged_header_is_refused(tmp_path, header):
    write_folder(tmp_path)
    file = tmp_path / "val_data.npy"
    content = bytearray(file.read_bytes())
    content[10 : 10 + len(header)] = header
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"val_data.npy is no plain NumPy array, or damaged"):
        ArrayFolder(tmp_path, LAYOUT)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_headers_damaged_at_random_are_refused(tmp_path):
    write_folder(tmp_path)
    file, rng = tmp_path / "val_data.npy", np.random.default_rng(0)
    whole, refused = file.read_bytes(), 0
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, 128, 3):
            content[place] = rng.choice(list(b"()[]{}',:\n\t#\\\"9"))
        file.write_bytes(content)
        try:
            ArrayFolder(tmp_path, LAYOUT)
        except ValueError:
            refused += 1
    assert refused > 200


def test_an_archive_under_an_array_s_name_is_refused(tmp_path):
    write_folder(tmp_path)
    np.savez(tmp_path / "a.npz", np.zeros(3))
    (tmp_path / "a.npz").replace(tmp_path / "train_data.npy")
    with pytest.raises(ValueError, match="no plain NumPy array"):
        ArrayFolder(tmp_path, LAYOUT)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2, 3], "a list of 3"),
        ({"a": 1}, "a dict"),
        ((["a", "b"], [0, 1, 2]), "2 names and 3 labels.* 3 clips"),
        ((["a", "b", "c"], [0, 1, -1]), "label -1"),
        ((["a", "b", "c"], [0, 1.5, 1]), "label 1.5"),
        ((["a", "b", "c"], [0, 1, 10**400]), "label 1000.* below 10,000"),
        ((["a", "b", "c"], [0, 1, float("nan")]), "label nan"),
        ((["a", "b", "c"], [0, 1, True]), "label True"),
        ((["a", "b", "c"], [0, 1, "2"]), "label.pkl has a str "),
        ((["a", "b", "c"], [0, 1, [0, [1]]]), "label.pkl has a list "),
        ((["a", "b", "c"], np.eye(4)[:3] * 2), "row of 4 numbers"),
        ((["a", "b", "c"], np.ones((3, 2))), "row of 2 numbers"),
        ((["a", "b", ["c"]], [0, 1, 2]), "a list among the names"),
    ],
)
def test_labels_of_another_form_are_refused(tmp_path, content, said):
    write_folder(tmp_path)
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=said):
        ArrayFolder(tmp_path, LAYOUT)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("xsub.npz", r"ctrgcn_gen_preprocess.py.*data.path=data/xsub.h5"),
        ("train_data.npy", "give the folder"),
        ("ntu60.pkl", r"pyskl_gen_preprocess.py.*data.path=data/ntu60.h5"),
        ("my poses.pkl", r"--data_path '.*my poses.pkl'.*'data.path=data/my poses.h5'"),
    ],
)
def test_one_file_of_arrays_is_told_from_a_damaged_prepared_file(tmp_path, name, remedy):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"a single file of arrays; .*{remedy}"):
        open_source(tmp_path / name, LAYOUT)


@pytest.mark.parametrize("name", ["gone.npz", "gone.npy", "gone.pkl"])
def test_a_file_of_arrays_that_is_not_there_is_not_to_be_prepared(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        open_source(tmp_path / name, LAYOUT)


# -- pickles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, 1],
        (0, 2, 1),
        np.array([0, 2, 1]),
        [np.int64(0), np.int64(2), np.int32(1)],
        np.array([[0], [2], [1]]),
        np.array([[0, 2, 1]]),
        np.array([0, 2, 1], np.uint8),
        np.array([0, 2, 1], ">i2"),
        [0.0, 2.0, np.float32(1)],
        np.array([0, 2, 1], np.float64),
        np.eye(3)[[0, 2, 1]],
        np.eye(3, dtype=bool)[[0, 2, 1]],
        [[1, 0, 0], (0, 0, 1), np.array([0, 1, 0])],
        np.array([0, np.int8(2), 1.0], object),
    ],
)
@pytest.mark.parametrize(
    "names", [["a", "b", "é"], np.array(["a", "b", "é"]), np.array(["a", "b", "é"], object)]
)
def test_every_protocol_and_kind_of_list_is_read(tmp_path, protocol, labels, names):
    write_folder(tmp_path)
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((names, labels), protocol))
    source = ArrayFolder(tmp_path, LAYOUT)
    assert source.name[:3].tolist() == ["a", "b", "é"]
    assert source.label[:3].tolist() == [0, 2, 1]


def test_a_pickle_of_python_2_is_read(tmp_path):
    # What Python 2's cPickle wrote for (['S001.skeleton', 'S002.skeleton', 'a'], [0, 2, 1]), protocol 2:
    # its text is bytes to Python 3.
    write_folder(tmp_path)
    (tmp_path / "train_label.pkl").write_bytes(
        b"\x80\x02]q\x01(U\rS001.skeletonq\x02U\rS002.skeletonq\x03U\x01aq\x04e]q\x05(K\x00K\x02K\x01e\x86q\x06."
    )
    source = ArrayFolder(tmp_path, LAYOUT)
    assert source.name[:3].tolist() == ["S001.skeleton", "S002.skeleton", "a"]
    assert source.label[:3].tolist() == [0, 2, 1]


def test_arrays_of_numpy_1_and_2_are_read(tmp_path):
    packed = pickle.dumps(np.arange(3.0), 2)
    file = tmp_path / "array.pkl"
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        file.write_bytes(re.sub(rb"numpy\._?core\.multiarray", module, packed))
        np.testing.assert_array_equal(load_plain_pickle(file), np.arange(3.0))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_any_order_shape_and_type_are_read(tmp_path, protocol):
    file = tmp_path / "array.pkl"
    arrays = [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["a", "bcd"]),
        np.array([True, False]),
        np.array(7),
    ]
    file.write_bytes(pickle.dumps((arrays, [np.float32(1.5), np.int64(3)]), protocol))
    found, numbers = load_plain_pickle(file)
    for array, expected in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype.kind == expected.dtype.kind
    assert numbers == [1.5, 3]


class _Touch:
    """Unpickled in the usual way, makes the file named."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class _Forged:
    """A dtype that, set to this state, takes its bytes for addresses of objects."""

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class _Call:
    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def forged_arrays():
    """Arrays of forged addresses, by each way that NumPy's pickles make arrays."""
    address = b"\x41" * 8
    scalar, (_, data) = np.float64(1).__reduce__()
    reconstruct, args, state = np.arange(3.0).__reduce__()
    frombuffer = np.arange(3.0).__reduce_ex__(5)[0]
    assert len(data) == len(address) and len(state) == 5
    yield _Call(scalar, _Forged(), address)
    yield _Call(reconstruct, *args, state=(1, (1,), _Forged(), False, address))
    yield _Call(frombuffer, address, _Forged(), (1,), "C")
    yield _Call(np.ndarray, (1,), _Forged(), address)
    # Shapes that promise more than there is.
    objects = np.dtype("O")
    yield _Call(reconstruct, *args, state=(1, (200,), objects, False, [1]))
    yield _Call(reconstruct, *args, state=(1, (-1,), objects, False, [1]))
    yield _Call(reconstruct, *args, state=(1, (2**32, 2**32), np.dtype("f8"), False, b""))


def malicious(touched):
    yield pickle.dumps(([_Touch(touched)], [0]))
    yield pickle.dumps(([OrderedDict()], [0]))
    yield pickle.dumps((["a"], [eval]))
    yield b"cos\nsystem\n(S'mkdir " + str(touched).encode() + b"'\ntR."
    yield b"cnumpy\nload\n(S'x'\ntR."
    # A permitted function, told to do what it was not permitted for.
    yield b"c_codecs\nencode\n(S'print(1)'\nS'unicode_escape'\ntR."
    # Changes of what a permitted name stands for stay in this pickle.
    yield b"c_codecs\nencode\n(N}S'__globals__'\nNstb."
    yield b"cnumpy\nndarray\n(N}S'tolist'\nNstb."
    yield from (pickle.dumps(([array], [0])) for array in forged_arrays())


@pytest.mark.parametrize("number", range(15))
def test_a_pickle_that_holds_more_is_refused_and_runs_nothing(tmp_path, number):
    write_folder(tmp_path / "xsub")
    touched = tmp_path / "touched"
    content = list(malicious(touched))[number]
    (tmp_path / "xsub" / "train_label.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"train_label.pkl (was refused|is no pickle)"):
        ArrayFolder(tmp_path / "xsub", LAYOUT)
    assert not touched.exists()


def test_the_refused_name_is_told(tmp_path):
    file = tmp_path / "label.pkl"
    file.write_bytes(pickle.dumps([_Touch(tmp_path / "touched")]))
    pickletools.dis(file.read_bytes(), io.StringIO())  # a well-formed pickle
    with pytest.raises(ValueError, match=f"it refers to {os.mkdir.__module__}.mkdir"):
        load_plain_pickle(file)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps([1, 2])[:-3]])
def test_a_damaged_pickle_is_refused(tmp_path, content):
    file = tmp_path / "label.pkl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"no pickle, or damaged|was refused"):
        load_plain_pickle(file)


def promising_pickles():
    """Pickles of a few bytes whose reading, or whose labels, would take gigabytes; by name."""
    huge = (2**40).to_bytes(8, "little")
    yield "bytearray", b"\x80\x05\x96" + huge + b"."
    yield "bytes", b"\x80\x04\x8e" + huge + b"."
    yield "text", b"\x80\x04\x8d" + huge + b"."
    yield "short bytes", b"\x80\x03B" + (2**32 - 1).to_bytes(4, "little") + b"."
    yield "Python 2's text", b"\x80\x02T" + (2**31 - 1).to_bytes(4, "little") + b"."
    yield "integer", b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"."
    yield "frame", b"\x80\x04\x95" + huge + b"N."
    yield "memo", b"\x80\x02Nr\xff\xff\xff\x7f."
    yield "memo in text", b"Np2147483647\n."
    yield "buffer", b"\x80\x05\x97."
    # One text of a megabyte, and a thousand arrays, or copies, of it.
    text = b"\x80\x02X" + (2**20).to_bytes(4, "little") + b"a" * 2**20 + b"q\x00"
    encode = b"c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x02"
    yield "copies", text + encode + b"](" + b"h\x01h\x00h\x02\x86R" * 5000 + b"e."
    kind = b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1K\x00K\x01tRq\x01"
    scalar = b"cnumpy.core.multiarray\nscalar\nq\x02"
    data = (
        text + encode.replace(b"q\x01X", b"q\x03X").replace(b"q\x02", b"q\x04") + b"h\x03h\x00h\x04\x86Rq\x05"
    )
    yield "arrays", data + kind + scalar + b"](" + b"h\x02h\x01h\x05\x86R" * 5000 + b"e."
    # Lists of ten times the same list, thirty deep, for names, for labels, for a name, a type, a shape, an encoding.
    nested = b"](" + b"N" * 10 + b"eq\x00"
    for _ in range(30):
        nested = nested + b"0](" + b"h\x00" * 10 + b"eq\x00"
    begin = b"\x80\x02" + nested + b"0"
    one = b"](X\x01\x00\x00\x00ae"
    yield "names", begin + b"h\x00](K\x00e\x86."
    yield "labels", begin + one + b"h\x00\x86."
    yield "name", begin + b"](h\x00e](K\x00e\x86."
    yield "label", begin + one + b"](h\x00e\x86."
    yield "pair", begin + b"h\x00."
    yield "type", begin + b"cnumpy\ndtype\n(h\x00K\x00K\x01tR."
    yield "encoding", begin + b"c_codecs\nencode\n(X\x01\x00\x00\x00ah\x00tR."
    array = b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(K\x01"
    objects = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR"
    yield "shape", begin + array + b"h\x00" + objects + b"I00\n](NNetb."
    yield "objects", begin + one + array + b"K\x01\x85" + objects + b"I00\n](h\x00etb\x86."


LIMITED = """
import resource, sys, time
from pathlib import Path
import numpy as np
from feeder.arrays import ArrayFolder
folder = Path(sys.argv[1])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), resource.RLIM_INFINITY))
for file in sorted(folder.glob("*.pkl"), key=lambda file: int(file.stem)):
    (folder / "one" / "train_label.pkl").write_bytes(file.read_bytes())
    began = time.perf_counter()
    try:
        ArrayFolder(folder / "one", "ntu-rgb+d")
        said = "read"
    except ValueError as error:
        said = str(error)
    print(time.perf_counter() - began < 20, len(said) < 2000, said)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as Linux does it")
def test_a_pickle_takes_no_more_memory_than_it_has_bytes_for(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    for part in ("train", "val"):
        np.save(folder / f"{part}_data.npy", np.zeros((1, 3, 2, 25, 1), np.float32))
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps((["a"], [0])))
    pickles = dict(promising_pickles())
    for number, content in enumerate(pickles.values()):
        (tmp_path / f"{number}.pkl").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(pickles)
    for name, line in zip(pickles, lines, strict=True):
        assert line.startswith("True True "), (name, line)
        assert "train_label.pkl" in line and "MemoryError" not in line, (name, line)
