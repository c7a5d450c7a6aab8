"""The CTR-GCN command, run on small arrays: what it prepares, reports and refuses."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import read_report
from data_gen.ctrgcn_gen_preprocess import main
from data_gen.sources import ctrgcn
from data_gen.ucla_gen_preprocess import main as prepare_ucla
from feeder.prepared import Prepared, open_prepared

V, T = 25, 6


def clip(num_frame: int, num_body: int = 1, seed: int = 0) -> np.ndarray:
    """A row (T, 2 * V * 3) with zeros behind the clip's end and for an absent body."""
    row = np.zeros((T, 2, V, 3), np.float32)
    row[:num_frame, :num_body] = np.random.default_rng(seed).normal(size=(num_frame, num_body, V, 3))
    return row.reshape(T, -1)


def arrays() -> dict[str, np.ndarray]:
    return {
        "x_train": np.stack([clip(3, 1, 1), clip(6, 2, 2), clip(1, 1, 3)]),
        "y_train": np.eye(4)[[2, 0, 3]],
        "x_test": np.stack([clip(5, 2, 4)]),
        "y_test": np.eye(4)[[1]],
    }


def run(
    folder: Path, given: dict[str, np.ndarray], *options: str, name: str = "NTU60_CS.npz"
) -> tuple[int, Path]:
    np.savez_compressed(folder / name, **given)
    return prepare(folder, folder / name, *options)


def prepare(folder: Path, file: Path, *options: str) -> tuple[int, Path]:
    out = folder / "out" / "a.h5"
    return main(["--data_path", str(file), "--out", str(out), "--overwrite", *options]), out


def splits_of(prepared: Prepared) -> dict[str, dict[str, list[int]]]:
    return {name: {part: c.tolist() for part, c in parts.items()} for name, parts in prepared.splits.items()}


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_prepares_both_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(ctrgcn, "BLOCK_BYTES", block)
    given = arrays()
    status, out = run(tmp_path, given)
    assert status == 0 and read_report(out) == []
    prepared = open_prepared(out)
    assert prepared.name.tolist() == ["train_000000", "train_000001", "train_000002", "test_000000"]
    assert prepared.label.tolist() == [2, 0, 3, 1] and prepared.class_names == ["0", "1", "2", "3"]
    assert prepared.num_frame.tolist() == [3, 6, 1, 5] and prepared.num_body.tolist() == [1, 2, 1, 2]
    assert splits_of(prepared) == {"xsub": {"train": [0, 1, 2], "val": [3]}}
    assert (prepared.layout, prepared.channels, prepared.unit) == ("ntu-rgb+d", "xyz", "m")
    rows = [*given["x_train"], *given["x_test"]]
    for number, row in enumerate(rows):
        bodies, frames = prepared.num_body[number], prepared.num_frame[number]
        expected = row.reshape(T, 2, V, 3)[:frames, :bodies].swapaxes(0, 1).reshape(-1, V, 3)
        np.testing.assert_array_equal(prepared.read(np.array([number])), expected)


def test_an_empty_or_missing_part_and_clips_without_a_label(tmp_path: Path) -> None:
    given = arrays()
    empty = {**given, "x_train": given["x_train"][:0], "y_train": given["y_train"][:0]}
    _, out = run(tmp_path, empty, name="made.npz")
    assert splits_of(open_prepared(out)) == {"split": {"train": [], "val": [0]}}
    given["y_train"][1] = 0
    _, out = run(tmp_path, {key: given[key] for key in ("x_train", "y_train")}, "--benchmark", "mine")
    prepared = open_prepared(out)
    assert prepared.label.tolist() == [2, -1, 3]
    assert splits_of(prepared) == {"mine": {"train": [0, 1, 2], "val": []}}
    _, out = run(tmp_path, {"x_train": given["x_train"]})
    assert open_prepared(out).label.tolist() == [-1, -1, -1]


def test_names_of_ntu_s_classes(tmp_path: Path) -> None:
    given = {"x_train": np.stack([clip(2)]), "y_train": np.eye(60)[[0]]}
    _, out = run(tmp_path, given)
    assert open_prepared(out).class_names[:2] == ["drink water", "eat meal/snack"]
    _, out = run(tmp_path, given, name="mine.npz")
    assert open_prepared(out).class_names[:2] == ["0", "1"]


def test_a_layout_says_how_many_bodies_a_row_has(tmp_path: Path) -> None:
    given = {"x_train": np.random.default_rng(0).normal(size=(2, 3, 3 * 17 * 3))}
    assert run(tmp_path, given)[0] == 2
    status, out = run(tmp_path, given, "--layout", "coco")
    assert status == 0 and open_prepared(out).num_body.tolist() == [3, 3]


def test_bad_clips_are_reported_and_the_rest_prepared(tmp_path: Path) -> None:
    given = arrays()
    nan, far, nobody = clip(3), clip(3), clip(0)
    nan[1, 4] = np.nan
    rows = [clip(2), nan, far * 1000, nobody, clip(2), clip(2)]
    labels = np.eye(4)[[0, 1, 2, 3, 0, 0]]
    labels[4, 1] = 1
    given |= {"x_train": np.stack(rows), "y_train": labels}
    status, out = run(tmp_path, given)
    prepared = open_prepared(out)
    assert status == 1 and prepared.name.tolist() == ["train_000000", "train_000005", "test_000000"]
    found = {file.rpartition("_")[2]: reason for file, _, reason in read_report(out)}
    assert found.keys() == {"000001", "000002", "000003", "000004"}
    assert prepared.label.tolist() == [0, 0, 1]


def one(array: np.ndarray, name: str = "x_train") -> dict[str, np.ndarray]:
    return {name: array}


@pytest.mark.parametrize(
    "given",
    [
        one(np.zeros((2, 3))),
        one(np.ones((2, 3, 149))),
        one(np.asfortranarray(np.random.default_rng(0).normal(size=(4, 3, 150)))),
        one(np.full((2, 3, 150), "x")),
        one(np.array([None, 1], object)),
        one(np.ones((2, 3, 150)), "x"),
        one(np.ones((0, 3, 150))),
        one(np.ones((2, 0, 150))),
        one(np.ones((1000, 300, 150), np.float32)),  # it unpacks to a thousand times its size
        {**arrays(), "y_train": np.eye(4)[:2]},
        {**arrays(), "y_train": np.zeros(3, int)},
        {**arrays(), "y_test": np.eye(5)[[1]]},
        {**arrays(), "x_test": np.ones((1, 3, 120))},
    ],
    ids=range(13),
)
def test_what_is_no_such_file_is_one_error(
    tmp_path: Path, given: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = run(tmp_path, given)
    said = capsys.readouterr().err
    assert status == 2 and said.startswith("error: ") and said.count("\n") == 1 and not out.exists()


def member(header: bytes, data: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x_train.npy", header + data)
    return file.getvalue()


def test_damage_is_one_error_and_what_was_made_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = run(tmp_path, arrays())
    before, file = out.read_bytes(), tmp_path / "NTU60_CS.npz"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    npy = io.BytesIO()
    np.save(npy, np.ones((2, 3, 150), np.float32))
    huge = (
        npy.getvalue()[:128].replace(b"(2, 3, 150)", b"(2, 3000000000, 150)").replace(b" " * 9 + b"\n", b"\n")
    )
    for damaged in (
        b"",
        b"PK",
        b"letters",
        whole[:-40],
        bytes(flipped),
        member(b"letters"),
        member(huge, b"0" * 800),
    ):
        file.write_bytes(damaged)
        assert prepare(tmp_path, file)[0] == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1
    assert out.read_bytes() == before and len(list(out.parent.iterdir())) == 2


def test_the_same_data_as_json(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """NW-UCLA written as arrays is prepared to the poses of its JSON files, but for empty frames at the end."""
    whole = tmp_path / "json.h5"
    assert prepare_ucla(["--data_path", str(shared_data("nw_ucla/all_sqe")), "--out", str(whole)]) == 0
    expected = open_prepared(whole)
    given = {}
    for part, name in (("train", "train"), ("val", "test")):
        places = expected.splits["xview"][part]
        rows = np.zeros((len(places), int(expected.num_frame.max()), 2, 20, 3), np.float32)
        for row, place in zip(rows, places, strict=True):
            row[: expected.num_frame[place], 0] = expected.read(np.array([place]))
        given |= {
            f"x_{name}": rows.reshape(*rows.shape[:2], -1),
            f"y_{name}": np.eye(10)[expected.label[places]],
        }
    status, out = run(tmp_path, given, name="NW-UCLA_CV.npz")
    made = open_prepared(out)
    order = np.concatenate([expected.splits["xview"][part] for part in ("train", "val")])
    assert status == 0 and made.skeleton == expected.skeleton
    np.testing.assert_array_equal(made.label, expected.label[order])
    for number, place in enumerate(order):
        rows = expected.read(np.array([place]))
        np.testing.assert_array_equal(made.read(np.array([number])), rows[: made.num_frame[number]])
        assert not rows[made.num_frame[number] :].any()
    assert splits_of(made)["xview"]["val"] == list(range(1020, 1484))
