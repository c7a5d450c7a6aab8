"""Looking at data: summaries, sheets, animations, and what a page holds; `tests/test_page.py` opens pages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feeder.prepared import PreparedWriter, open_prepared
from net.utils.layouts import get_skeleton
from processor.animation import animate
from processor.bones import FAINTEST, LEFT, RIGHT, bone_sides, drawn_bones, palette
from processor.displayed import UNLABELLED, Shown, describe, of_prepared, split_confidence, up_of
from processor.sheet import draw_sheet, in_boxes
from processor.summary import class_table, count_missing, summary_of_prepared
from tools import show

SKELETON = get_skeleton("kinect-v1")
NAMES = ["喝水", "a & b <i>", "throw"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of three classes: 4, 6, 1, 10 and 20 frames, of 1, 2, 1, 1, 1 bodies, with holes counted by hand."""
    path = tmp_path_factory.mktemp("show") / "clips.h5"
    rng = np.random.default_rng(0)
    with PreparedWriter(
        path, skeleton=SKELETON, class_names=NAMES, frame_rate=20, bodies="as given", source="made up"
    ) as writer:
        for number, (num_body, num_frame, label) in enumerate(
            [(1, 4, 0), (2, 6, 0), (1, 1, 1), (1, 10, 2), (1, 20, 2)]
        ):
            tracks = rng.uniform(0.5, 1, (num_body, num_frame, 20, 3)).astype(np.float32)
            # Torsos stand along y.
            tracks[:, :, SKELETON.joints.index("spine"), 1] += 2
            if number == 1:
                tracks[1, 3:] = 0  # three poses of the second body
            if number == 3:
                tracks[0, :2, 5] = 0  # a joint in two frames
                tracks[0, 4, 6] = 0
            writer.append(f'clip <{number}> & "it\'s"', label, tracks)
        writer.finish({"xsub": {"train": [0, 3], "val": [1, 4]}, "all": {"train": [0, 1, 2], "val": [3, 4]}})
    return path


def run(*words: object) -> int:
    return show.main([str(word) for word in words])


def test_a_summary_counts_what_was_written(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = open_prepared(prepared)
    table = class_table(source)
    assert table.index.tolist() == [*NAMES, "all"]
    assert table.columns.tolist() == ["clips", "all train", "all val", "xsub train", "xsub val"]
    assert table["clips"].tolist() == [2, 1, 2, 5]
    assert table["xsub train"].tolist() == [1, 0, 1, 2]
    assert table["all val"].tolist() == [0, 0, 2, 2]
    missing = count_missing([source.joints[:7], source.joints[7:]], 20)
    assert (missing.num_pose, missing.absent) == (47, 3)
    assert missing.of_joint.nonzero()[0].tolist() == [5, 6]
    assert missing.of_joint[[5, 6]].tolist() == [2, 1]
    assert missing.share == 3 / (44 * 20)
    text = str(summary_of_prepared(source))
    for fact in (
        "5 clips",
        "20 frames a second",
        "min 1, median 6, max 20",
        "(0.1, 0.3, 1.0 s)",
        "1: 4, 2: 1",
    ):
        assert fact in text
    assert "6.4% of all poses" in text and f"{SKELETON.joints[5]} 4.5%" in text
    assert run(prepared) == 0
    assert text in capsys.readouterr().out


def test_clips_without_a_label_have_a_row_of_their_own(prepared: Path) -> None:
    source = open_prepared(prepared)
    label = np.array([0, -1, 1, -1, 2])
    table = class_table(replace(source, label=label))
    assert table.index.tolist() == [UNLABELLED, *NAMES, "all"]
    assert table["clips"].tolist() == [2, 1, 1, 1, 5] and table["all val"].tolist() == [1, 0, 0, 1, 2]
    assert of_prepared(replace(source, label=label), 1, 1).title.startswith(UNLABELLED)


def test_more_clips_than_a_file_can_show_are_refused_before_they_are_read(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(show.MOST, ".png", 3)
    monkeypatch.setattr(show, "of_prepared", None)
    assert run(prepared, "--random", 5, "--out", tmp_path / "a.png") == 1
    assert "5 clips" in (said := capsys.readouterr().err) and "at most 3" in said


def test_sides_are_those_that_names_say() -> None:
    for layout in ("ntu-rgb+d", "kinect-v1", "openpose", "coco"):
        skeleton = get_skeleton(layout)
        for (joint, _), side in zip(skeleton.bones, bone_sides(skeleton), strict=True):
            assert (side == LEFT) == ("left" in skeleton.joints[joint])
            assert (side == RIGHT) == ("right" in skeleton.joints[joint])


def test_bones_have_the_colours_of_their_bodies_and_are_faint_where_not_sure() -> None:
    poses = np.random.default_rng(1).random((2, 20, 2))
    there = np.ones((2, 20), bool)
    hand = SKELETON.joints.index("left hand")
    there[1, hand] = False
    confidence = np.ones((2, 20))
    confidence[0, hand] = 0
    ends, colours = drawn_bones(poses, there, SKELETON, confidence)
    expected = [
        (
            poses[m, [joint, parent]],
            [*palette()[m, bone_sides(SKELETON)[b]], FAINTEST if (m, joint) == (0, hand) else 1],
        )
        for m in range(2)
        for b, (joint, parent) in enumerate(SKELETON.bones)
        if (m, joint) != (1, hand)
    ]
    assert len(ends) == len(colours) == len(expected) == 37
    for found, colour, (place, wanted) in zip(ends, colours, expected, strict=True):
        np.testing.assert_array_equal(found, place)
        np.testing.assert_allclose(colour, wanted)


def test_confidence_is_the_last_channel_where_they_say_so() -> None:
    tracks = np.random.default_rng(2).random((1, 2, 3, 3))
    poses, confidence = split_confidence(tracks, "xyc")
    assert poses.shape == (1, 2, 3, 2) and confidence is not None
    np.testing.assert_array_equal(confidence, tracks[..., 2])
    assert split_confidence(tracks, "xyz")[1] is None


def test_a_clip_is_shown_as_it_was_written(prepared: Path) -> None:
    source = open_prepared(prepared)
    assert up_of(source) == 1
    clip = of_prepared(source, 1, 1)
    assert clip.tracks.shape == (2, 6, 20, 3) and not clip.tracks[1, 3:].any() and clip.tracks[1, :3].all()
    assert clip.title == describe(NAMES[0], 6, 20.0) == "喝水, 6 frames, 0.3 s"


def ink(path: Path) -> np.ndarray:
    """Which pixels of a picture are not white."""
    with Image.open(path) as picture:
        return (np.asarray(picture.convert("RGB")) < 250).any(2)


def test_a_sheet_has_what_is_asked_for(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = 'clip <1> & "it\'s"'
    assert run(prepared, name, name) == 0
    one = ink(tmp_path / "clips.png")
    assert run(prepared, "--random", 3, "--out", "three.png") == 0
    three = ink(tmp_path / "three.png")
    assert three.shape[0] > 2 * one.shape[0] and three.shape[1] == one.shape[1]
    assert one.any() and run(prepared, name) == 1  # it is there
    assert run(prepared, name, "--overwrite") == 0
    assert run(prepared, "--random", 99, "--out", "all.png") == 0


def test_random_clips_come_again_with_their_seed() -> None:
    names = [str(number) for number in range(50)]

    def drawn(seed: int) -> list[int]:
        return show.chosen(names, show.parse(["x.h5", "--random", "7", "--seed", str(seed)]))

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 7


def test_poses_of_a_picture_stand_as_in_it(tmp_path: Path) -> None:
    """A hand lies to the right of all joints but a foot, which lies below them: a line across on top, one down."""
    tracks = np.full((1, 1, 20, 2), 100, np.float32)
    tracks[0, 0, SKELETON.joints.index("left foot")] = (100, 300)
    tracks[0, 0, SKELETON.joints.index("left hand")] = (200, 100)
    for sign, on_top, to_the_right in (([1, 1], True, True), ([1, -1], False, True), ([-1, 1], True, False)):
        draw_sheet([Shown("", "", tracks * sign, SKELETON, None)], tmp_path / "flat.png", num_column=1)
        with Image.open(tmp_path / "flat.png") as picture:
            red, _, blue = np.asarray(picture.convert("RGB")).astype(int).transpose(2, 0, 1)
        rows, columns = (blue - red > 60).nonzero()
        across, down = np.bincount(rows).argmax(), np.bincount(columns).argmax()
        assert (across < rows.mean()) == on_top
        assert (down < columns.mean()) == to_the_right


def test_a_body_looks_the_same_whatever_axis_is_up() -> None:
    """Turned about the line of sight, so that another coordinate points up, and as a picture has it."""
    tracks = np.random.default_rng(6).random((2, 3, 20, 3)).astype(np.float32)
    clip = Shown("", "", tracks, SKELETON, None)
    expected = in_boxes(clip)  # x to the left, y up, z away
    z_up = tracks[..., [0, 2, 1]] * [-1, 1, 1]  # x to the right, y away, z up
    np.testing.assert_allclose(in_boxes(clip._replace(tracks=z_up, up=2)), expected, atol=1e-6)
    flat = tracks[..., :2] * [-300, -300]  # x to the right, y down
    np.testing.assert_allclose(in_boxes(clip._replace(tracks=flat)), expected, atol=1e-6)
    assert expected.min() == pytest.approx(-1) and expected.max() == pytest.approx(1)
    highest = tracks[..., 1].argmax()
    assert expected[..., 1].argmin() == highest


def test_an_animation_shows_one_clip(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(prepared, 'clip <4> & "it\'s"', "--out", tmp_path / "new folder" / "a.gif") == 0
    with Image.open(tmp_path / "new folder" / "a.gif") as film:
        assert film.n_frames == 20
    assert run(prepared, "--random", 2, "--out", tmp_path / "b.gif") == 1
    assert "at most 1" in capsys.readouterr().err and not (tmp_path / "b.gif").exists()


def test_an_animation_is_faint_where_confidence_is_low(tmp_path: Path) -> None:
    tracks = np.random.default_rng(3).random((1, 1, 20, 3)).astype(np.float32)
    darkest = []
    for value in (0.0, 1.0):
        path = tmp_path / f"{value}.gif"
        animate(tracks, SKELETON, [""], path, frame_rate=None, confidence=np.full((1, 1, 20), value), up=1)
        with Image.open(path) as film:
            darkest.append(np.asarray(film.convert("L")).min())
    assert darkest[0] > darkest[1] + 60


@pytest.mark.parametrize("shape", [(1, 1), (40, 3), (1, 12_000)])
def test_odd_clips_are_drawn(shape: tuple[int, int], tmp_path: Path) -> None:
    tracks = np.random.default_rng(4).random((*shape, 20, 3)).astype(np.float32)
    tracks[:, 0] = 0 if shape[1] > 1 else tracks[:, 0]
    clip = Shown("x" * 300, "", tracks, SKELETON, 30.0)
    draw_sheet([clip, clip._replace(tracks=np.zeros_like(tracks))], tmp_path / "a.png")
    assert ink(tmp_path / "a.png").any()


def test_recordings_of_a_folder_are_summed_up_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for length in (3, 5):
        np.save(folder / f"walk{length}.npy", np.random.default_rng(5).random((length, 17, 3)))
    (folder / "bad.skeleton").write_text("no")
    words = (folder, "--layout", "coco", "--frame_rate", 10)
    assert run(*words, "walk5", "--out", tmp_path / "a.png") == 0
    said = capsys.readouterr()
    assert (
        "2 clips, coco (17 joints), 10 frames a second" in said.out and "min 3, median 4, max 5" in said.out
    )
    assert "bad.skeleton" in said.err
    assert run(folder) == 1 and "--layout" in capsys.readouterr().err
    # No layout would help with a file that is cut off.
    (tmp_path / "cut.json").write_text("[\n[1, 2")
    assert run(tmp_path / "cut.json") == 1
    said = capsys.readouterr().err
    assert "line 2: not JSON" in said and "--layout" not in said
    assert run(*words, "wlk5") == 1
    assert "did you mean 'walk5'" in capsys.readouterr().err


def test_what_cannot_be_shown_is_said(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for words, said in (
        ([tmp_path / "empty"], "holds no recording"),
        ([tmp_path / "none.h5"], "not found"),
        ([tmp_path / "none"], "not found"),
        ([prepared, "clip <1>"], "clip <1> & "),
        ([prepared.parent], "prepared file cannot be shown"),
    ):
        assert run(*words) == 1
        assert said in capsys.readouterr().err
    for words in (
        [prepared, "a", "--random", 2],
        [prepared, "--random", 0],
        [prepared, "--out", "a.mp3"],
        [prepared, "--frame_rate", "nan"],
    ):
        with pytest.raises(SystemExit) as stop:
            run(*words)
        assert stop.value.code == 2


def test_real_recordings_are_shown(shared_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_data("ntu_raw") / "S001C003P008R002A058.skeleton"
    assert run(file, "--out", tmp_path / "a.png") == 0
    assert "1 clip, ntu-rgb+d (25 joints), 30 frames a second" in capsys.readouterr().out
    assert ink(tmp_path / "a.png").any()
