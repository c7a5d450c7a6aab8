"""Readers of single recordings: every kind of file, equal to preparation; parts, units, frame rates, lines of JSON."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from raw_skeleton import make_frames, to_text

from data_gen.ntu_gen_preprocess import main as prepare_ntu
from data_gen.pku_sequence import Label, cut
from data_gen.ucla_gen_preprocess import main as prepare_ucla
from feeder.prepared import open_prepared
from feeder.recordings import bodies, pku
from feeder.recordings.array import read_tracks
from feeder.recordings.cuts import find_cuts, is_cut
from feeder.recordings.files import ReadOptions, Recorded, find_recordings, read_recordings, recorded_poses
from feeder.recordings.lines import parse_frame
from feeder.recordings.recording import Recording, RecordingError, refuse_other_units
from feeder.recordings.resample import resample
from net.utils.layouts import get_skeleton

COCO, NTU, KINECT = (get_skeleton(name) for name in ("coco", "ntu-rgb+d", "kinect-v1"))


def poses(*shape: int, num_joint: int = 17, seed: int = 0) -> np.ndarray:
    """(*shape, V, 3), a metre or two wide, 3 m from the camera."""
    made = np.random.default_rng(seed).uniform(-1, 1, (*shape, num_joint, 3))
    made[..., 2] += 3
    return made.round(4).astype(np.float32)


def read(path: Path, skeleton=COCO, *, scale: float = 1.0, how: str = "as given") -> Recorded:
    (found,) = read_recordings(path.stem, path, ReadOptions(skeleton, scale), bodies=how)
    assert isinstance(found, Recorded), found
    return found


def refused(path: Path, skeleton=COCO) -> RecordingError:
    (found,) = read_recordings(path.stem, path, ReadOptions(skeleton), bodies="as given")
    assert isinstance(found, RecordingError), found
    return found


def test_arrays_in_every_form_are_the_same(tmp_path: Path) -> None:
    tracks = poses(2, 5)
    np.save(tmp_path / "a.npy", tracks)
    (tmp_path / "b.json").write_text(json.dumps(tracks.tolist()))
    with (tmp_path / "c.CSV").open("w", newline="") as file:
        csv.writer(file).writerows(tracks.swapaxes(0, 1).reshape(5, -1).tolist())
    for name in ("a.npy", "b.json", "c.CSV"):
        found = read(tmp_path / name)
        np.testing.assert_allclose(found.tracks, tracks, atol=1e-6)
        assert found.skeleton is None and found.frame_rate is None
    np.save(tmp_path / "mm.npy", (1000 * tracks).round().astype(np.int32))
    np.testing.assert_allclose(read(tmp_path / "mm.npy", scale=0.001).tracks, tracks, atol=1e-3)


@pytest.mark.parametrize("how", list(bodies.CHOICES))
def test_a_raw_ntu_file_under_any_name_is_as_prepared(tmp_path: Path, shared_data, how: str) -> None:
    raw = shared_data("ntu_raw")
    assert prepare_ntu(["--data_path", str(raw), "--out", str(tmp_path / "ntu.h5"), "--bodies", how]) == 0
    prepared = open_prepared(tmp_path / "ntu.h5")
    for clip, name in enumerate(prepared.name):
        shutil.copy(raw / f"{name}.skeleton", tmp_path / "yesterday.skeleton")
        found = read(tmp_path / "yesterday.skeleton", NTU, how=how)
        assert (found.skeleton, found.frame_rate) == (NTU, 30.0)
        rows = prepared.read(np.array([clip]))
        np.testing.assert_array_equal(found.tracks.reshape(rows.shape), rows)


def test_ntu_bodies_without_the_data_s_choice_are_those_of_largest_spread(tmp_path: Path) -> None:
    data = to_text(make_frames(np.random.default_rng(0), [3, 3, 3, 3]))
    (tmp_path / "a.skeleton").write_bytes(data)
    expected = read(tmp_path / "a.skeleton", NTU, how="energy").tracks
    np.testing.assert_array_equal(read(tmp_path / "a.skeleton", NTU, how="as given").tracks, expected)


def test_a_pku_file_is_as_prepared(tmp_path: Path, shared_data) -> None:
    path = shared_data("pku_sample/A10N08-L.txt")
    shutil.copy(path, tmp_path / "any.txt")
    rows = pku.parse_poses(path.read_bytes())
    for how in pku.CHOICES:
        found = read(tmp_path / "any.txt", NTU, how=how)
        np.testing.assert_array_equal(found.tracks, cut(rows, Label(1, 1, 1, len(rows)), bodies=how))
        # Bodies are chosen within a part.
        part = found.choose(found.recording.part(99, 200))
        np.testing.assert_array_equal(part, cut(rows, Label(1, 1, 100, 200), bodies=how))


def test_nw_ucla_and_a_prepared_file(tmp_path: Path) -> None:
    folder = tmp_path / "all_sqe"
    folder.mkdir()
    frames = poses(6, num_joint=20).tolist()
    frames[2] = []
    for name, label in (("a01_s01_e00_v01", 1), ("a02_s01_e00_v03", 2)):
        content = {"file_name": name, "skeletons": frames, "label": label}
        (folder / f"{name}.json").write_text(json.dumps(content))
    assert prepare_ucla(["--data_path", str(folder), "--out", str(tmp_path / "u.h5")]) == 0
    found = list(read_recordings("u", tmp_path / "u.h5", ReadOptions(COCO), bodies="one"))
    assert [each.name for each in found if isinstance(each, Recorded)] == [
        "a01_s01_e00_v01",
        "a02_s01_e00_v03",
    ]
    for each, path in zip(found, find_recordings(folder).values(), strict=True):
        assert isinstance(each, Recorded)
        alone = read(path)
        np.testing.assert_array_equal(alone.tracks, each.tracks)
        assert alone.skeleton == each.skeleton == KINECT and alone.frame_rate == each.frame_rate == 30
        assert not alone.tracks[0, 2].any()


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/z.npy", "c.json", "a.SKELETON", "notes.md"):
        (tmp_path / name).touch()
    assert list(find_recordings(tmp_path)) == ["a", "b/z", "c"]
    (tmp_path / "b" / "z.csv").touch()
    assert list(find_recordings(tmp_path)) == ["a", "b/z.csv", "b/z.npy", "c"]
    (tmp_path / "b" / "z.csv").unlink()
    assert find_recordings(tmp_path / "b" / "z.npy") == {"z": tmp_path / "b" / "z.npy"}
    (tmp_path / "b" / "z.npy").unlink()
    for path in (tmp_path / "b", tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=path.name):
            find_recordings(path)


def test_bad_recordings_say_what_is_wrong(tmp_path: Path) -> None:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    good = to_text(make_frames(np.random.default_rng(0), [1, 1]))
    for path, reason in (
        (write("a.bvh", b"x"), "'.bvh' is not one of"),
        (write("a.mat", b"x"), "no MATLAB file"),
        (write("a.skeleton", good[:-300]), "line"),
        (write("a.txt", b"1 2 3\n"), "3 values; a frame has 150"),
        (write("a.h5", b"no"), "not a prepared file"),
        (write("a.json", b'{"skeletons": []}'), "no frames"),
        (write("b.json", b"{"), "not JSON"),
        (write("c.json", b'{"skeletons": ' + b"1" * 5000 + b"}"), "not JSON"),
        (
            write("damaged.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': ((((, 'shape"),
            "not an",
        ),
        (tmp_path / "none.npy", "No such file"),
        (tmp_path, "not a regular file"),
    ):
        assert reason in str(refused(path)), path
    np.save(tmp_path / "other.npy", poses(5, num_joint=18))
    assert "shape (5, 18, 3); needed is (frames, 17, 3)" in str(refused(tmp_path / "other.npy"))


def test_a_header_cannot_ask_for_memory(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**10, 17, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(4 * 2 * 17 * 3))
    assert "not an array of numbers" in str(refused(tmp_path / "a.npy"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["names", "numbers", None])
def test_rows_of_numbers(tmp_path: Path, separator: str, header: str | None) -> None:
    expected = poses(3).astype(np.float32)
    rows = [[str(x) for x in row] for row in expected.reshape(3, -1).tolist()]
    if header:
        rows.insert(0, [f"x{k}" if header == "names" else str(k) for k in range(51)])
    (tmp_path / "a.csv").write_text("\n".join(separator.join(row) for row in rows))
    np.testing.assert_array_equal(read(tmp_path / "a.csv").tracks[0], expected)


def test_rows_of_any_program(tmp_path: Path) -> None:
    """Cells in quotes, blank lines, what Python reads as a number and NumPy does not; and rows of x and y alone."""
    expected = poses(3).astype(np.float32)
    expected[0, 0, 0] = 15
    rows = [",".join(f'"{x}"' for x in row) for row in expected.reshape(3, -1).tolist()]
    for fifteen in ('"15.0"', '"1_5"'):
        rows[0] = rows[0].replace(rows[0].partition(",")[0], fifteen, 1)
        (tmp_path / "a.csv").write_text("\ufeff\r\n" + "\r\n\r\n".join(rows))
        np.testing.assert_array_equal(read(tmp_path / "a.csv").tracks[0], expected)
    (tmp_path / "a.csv").write_text("\n".join(",".join(["0.25"] * 2 * 17 * 2) for _ in range(3)))
    found = read(tmp_path / "a.csv")
    assert (
        found.channels == "xy" and "rows of 68 numbers are taken to be 2 x 17 joints x 2" in found.assumptions
    )
    (tmp_path / "a.csv").write_text(",".join(f"x{k}" for k in range(51)) + "\n\n")
    assert "no row of numbers" in str(refused(tmp_path / "a.csv"))


def test_bad_rows_say_where(tmp_path: Path) -> None:
    row = ",".join(["1.5"] * 51)
    for rows, number in (((row, row[4:]), 2), ((row, row, row.replace("1.5", "x", 1)), 3)):
        (tmp_path / "a.csv").write_text("\n".join(rows))
        assert f"row {number} " in str(refused(tmp_path / "a.csv"))


def test_units_are_not_guessed(tmp_path: Path) -> None:
    for scale in (1e-3, 1e3):
        np.save(tmp_path / "a.npy", scale * poses(3))
        assert isinstance(refused(tmp_path / "a.npy"), RecordingError)


def test_parts_leave_out_absent_bodies() -> None:
    tracks = poses(3, 6)
    tracks[0, 2:] = 0
    tracks[1, :3] = 0
    recording = Recording.of_tracks(tracks)
    np.testing.assert_array_equal(bodies.as_given(recording.part(0, 6)), tracks)
    np.testing.assert_array_equal(bodies.as_given(recording.part(3, 5)), tracks[1:, 3:5])
    np.testing.assert_array_equal(bodies.as_given(recording.part(0, 2)), tracks[[0, 2], :2])
    assert Recording.of_tracks(tracks, "xyc").part(0, 2).channels == "xyc"
    with pytest.raises(RecordingError, match="no body in frames 1 to 1"):
        Recording.of_tracks(np.zeros((2, 4, 17, 3), np.float32)).part(1, 2)


def test_ids_of_a_part_count_by_first_appearance() -> None:
    recording = Recording(np.array([1, 2, 1]), np.array([0, 1, 0, 2]), poses(4))
    part = recording.part(1, 3)
    assert part.num_body.tolist() == [2, 1] and part.body.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(part.joints, recording.joints[1:])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda clip: clip * 1000, "--unit mm"),
        (
            lambda clip: np.concatenate((clip[..., :2] * 200 + 300, np.full_like(clip[..., :1], 0.9)), -1),
            "pixels",
        ),
    ],
)
def test_other_units_are_refused(change, word: str) -> None:
    clip = change(poses(4).astype(np.float64))
    with pytest.raises(RecordingError, match=word) as error:
        refuse_other_units(clip, "give --unit mm", in_picture="give --picture")
    in_picture = word == "pixels"
    assert ("confidence" in str(error.value)) == ("--picture" in str(error.value)) == in_picture
    assert ("--unit mm" in str(error.value)) != in_picture


def test_metres_are_not_refused() -> None:
    """A wild frame, a joint that is not there 50 m from the body, a walk of 100 m."""
    clip = poses(9)
    clip[4] *= 500
    refuse_other_units(clip, "")
    clip = poses(9) + np.float32(50)
    clip[:, 3] = 0
    refuse_other_units(clip, "")
    refuse_other_units(poses(100) + np.arange(100, dtype=np.float32)[:, None, None], "")


def test_poses_in_memory() -> None:
    tracks = poses(7)
    found = recorded_poses("poses", tracks, COCO, "xyz")
    np.testing.assert_array_equal(found.tracks, tracks[None])
    for wrong in (poses(7, num_joint=18), tracks[0], tracks * np.nan, tracks * 0, tracks[:0]):
        with pytest.raises(RecordingError):
            recorded_poses("poses", wrong, COCO, "xyz")


@pytest.mark.parametrize(
    ("rate", "wanted"), [(60.0, 30.0), (25.0, 30.0), (30.0, 25.0), (10.0, 30.0), (29.97, 30.0)]
)
def test_resampling_is_linear_and_causal(rate: float, wanted: float) -> None:
    tracks = poses(2, 40)
    found = resample(tracks, rate, wanted)
    times = np.arange(found.shape[1]) / wanted
    assert times[-1] <= 39 / rate + 1e-9 < times[-1] + 1 / wanted
    flat = tracks.swapaxes(0, 1).reshape(40, -1)
    expected = np.stack([np.interp(times, np.arange(40) / rate, column) for column in flat.T], 1)
    np.testing.assert_allclose(found.swapaxes(0, 1).reshape(len(times), -1), expected, atol=2e-5)
    # What was there before does not change when more frames come.
    early = resample(tracks[:, :23], rate, wanted)
    np.testing.assert_array_equal(found[:, : early.shape[1]], early)


def test_an_unknown_rate_is_left_alone() -> None:
    tracks = poses(2, 4)
    for rates in ((None, 30.0), (30.0, None), (30.0, 30.0), (float("nan"), 30.0)):
        assert resample(tracks, *rates) is tracks


def walking(num_frame: int, seed: int, *, step: float = 0.05) -> np.ndarray:
    """A body (T, V, 3) that goes so many metres a frame."""
    return poses(seed=seed) + np.arange(num_frame, dtype=np.float32)[:, None, None] * np.float32(step)


def slow_cuts(tracks: np.ndarray, rate: float) -> list[int]:
    """Frame by frame, body by body."""
    cuts, last = [], None
    for frame in range(tracks.shape[1]):
        there = [body for body in tracks[:, frame] if body.any()]
        if not there:
            continue
        if last is not None:
            before, when = last
            least = min(
                np.mean([np.linalg.norm(a[v] - b[v]) for v in range(17) if a[v].any() and b[v].any()])
                for a in there
                for b in before
            )
            if least > 12 * (frame - when) / rate:
                cuts.append(frame)
        last = there, frame
    return cuts


def test_cuts_are_where_no_body_can_go_on() -> None:
    first, second, third = walking(9, 1), walking(7, 2), walking(8, 3, step=0.2)
    tracks = np.zeros((2, 30, 17, 3), np.float32)
    tracks[0, :9], tracks[0, 9:16], tracks[0, 18:26] = first, second, third
    recording = Recording.of_tracks(tracks)
    assert find_cuts(recording, 30.0) == slow_cuts(tracks, 30.0) == [9, 18]
    # Slots that change places, a body that joins, one that is lost for a while: no cut.
    tracks[1, 3:9] = second[0] + 5
    tracks[:, 5:7] = tracks[::-1, 5:7].copy()
    tracks[:, 20:22] = 0
    tracks[0, 12, :9] = 0
    assert find_cuts(Recording.of_tracks(tracks), 30.0) == slow_cuts(tracks, 30.0) == [9, 18]
    assert find_cuts(Recording.of_tracks(tracks), 2.0) == []
    assert find_cuts(Recording.of_tracks(tracks[:, :1]), None) == []
    for begin in (9, 18):
        assert is_cut(tracks[:1, 8], tracks[:1, begin], 1, 30.0)
    assert not is_cut(tracks[:1, 8], tracks[:1, 8], 1, None)


@pytest.mark.parametrize("channels", ["xy", "xyc"])
def test_cuts_in_the_picture_do_not_depend_on_its_scale(channels: str) -> None:
    """A body is taken to be 1.7 m high, whether it is 400 pixels of a picture or 0.4 of it; confidence is no place."""
    tracks = np.concatenate((walking(9, 1), walking(7, 2)))[None]
    height = np.ptp(tracks[0, 0, :, :2], axis=0).max()
    tracks[..., 2] = np.random.default_rng(0).uniform(0.1, 1, tracks.shape[:3])
    for size in (400, 0.4):
        flat = tracks[..., : len(channels)] * ([size / height] * 2 + [1] * (len(channels) - 2))
        recording = Recording.of_tracks(flat.astype(np.float32), channels)
        assert find_cuts(recording, 30.0) == [9]
        assert is_cut(flat[:, 8], flat[:, 9], 1, 30.0, channels)
        assert not is_cut(flat[:, 7], flat[:, 8], 1, 30.0, channels)


def line(content: object, scale: float = 1.0) -> np.ndarray:
    return parse_frame(json.dumps(content).encode(), num_joint=4, channels="xyz", scale=scale)


def test_lines_of_json() -> None:
    body = [[1, 2, 3], None, [0.5, 0, 0], [7, 8, 9]]
    seen = np.array([[1, 2, 3], [0, 0, 0], [0.5, 0, 0], [7, 8, 9]], np.float32)
    np.testing.assert_array_equal(line(body), seen[None])
    np.testing.assert_array_equal(line([body]), seen[None])
    np.testing.assert_allclose(line([body, body], 0.01), np.stack([seen, seen]) * 0.01, rtol=1e-6)
    assert line([]).shape == (0, 4, 3)
    np.testing.assert_array_equal(line([[None] * 4]), np.zeros((1, 4, 3)))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"joints": []}, "an object"),
        ("wave", "text"),
        (3, "a number"),
        ([[1, 2, 3]] * 3, "3 joints"),
        ([[[1, 2, 3]] * 5], "5 joints"),
        ([[1, 2, 3]] * 3 + [[1, 2]], "joint 3 of body 0"),
        ([[1, 2, 3]] * 3 + [[1, 2, "x"]], "body 0"),
        ([[1, 2, 3]] * 3 + [[1, 2, True]], "body 0"),
        ([[1, 2, 3]] * 3 + [[1, 2, float("nan")]], "NaN"),
        ([[1, 2, 3]] * 3 + [[1, 2, 1e60]], "too large"),
        ([[1, 2, 3]] * 3 + [[1, 2, 10**400]], "too large"),
    ],
)
def test_bad_lines(content: object, word: str) -> None:
    with pytest.raises(RecordingError, match=word):
        line(content)


def test_a_line_that_is_not_json() -> None:
    for text in (b"hello", b"[[1, 2", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(RecordingError, match="not JSON"):
            parse_frame(text, num_joint=4, channels="xyz", scale=1.0)


def test_tracks_keep_nothing_of_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", poses(3))
    tracks = read_tracks(tmp_path / "a.npy", num_joint=17, scale=1.0)
    assert tracks.flags.writeable and tracks.dtype == np.float32
