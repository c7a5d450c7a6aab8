"""The measurement of the recipe for own data: simulated sets, and one small set from files to table."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import own_data
from benchmarks.own_data import KINDS, main


@pytest.fixture(autouse=True)
def few_test_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "NUM_TEST_CLIP", 12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_the_same_set_and_people_are_in_one_part(kind: str) -> None:
    clips, again, other = (list(KINDS[kind].clips(24, seed)) for seed in (1, 1, 2))
    assert len(clips) == 24 + 12
    for one, two in zip(clips, again, strict=True):
        np.testing.assert_array_equal(one.tracks, two.tracks)
        assert one[1:] == two[1:]
    assert any(one.tracks.shape != two.tracks.shape for one, two in zip(clips, other, strict=True))
    people = {part: {clip.subject for clip in clips if clip.part == part} for part in ("train", "test")}
    assert people["train"] and people["test"] and not people["train"] & people["test"]
    for part in people:
        assert {clip.label for clip in clips if clip.part == part} == {clip.label for clip in clips}
    # The other people's clips are those by which a set is judged, and are not the user's.
    assert Counter(clip.part for clip in clips[24:]) == {"test": 12}


def test_people_face_the_camera_or_show_a_side() -> None:
    """Of a person who faces the camera the left shoulder, joint 4, is at smaller x, the right one, 8, at larger."""
    for clip in KINDS["easy"].clips(8, 0):
        across = clip.tracks[0, 0, 8] - clip.tracks[0, 0, 4]
        assert across[0] > 0.9 * np.linalg.norm(across)
    pairs = [clip.tracks for clip in KINDS["hard"].clips(12, 0) if len(clip.tracks) == 2]
    assert pairs
    for tracks in pairs:
        apart = np.abs(tracks[0, 0, 0] - tracks[1, 0, 0])
        assert apart[0] > 0.3 and apart[2] < 2 * apart[0]


def test_the_rare_class_has_a_clip_for_every_eleven() -> None:
    count = Counter(clip.label for clip in list(KINDS["uneven"].clips(48, 0))[:48])
    assert sorted(count.values()) == [4, 44]


@pytest.mark.slow
def test_measures_what_the_preparation_prints_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["num_epoch=1", "min_epoch_clip=0", "test_repeat=1", "model_args.hidden_channels=4"]
    words = [*small, "-w", str(tmp_path), "--kind", "uneven", "--size", "48", "--seed", "0"]
    assert main(words) == 0
    kept = json.loads((tmp_path / "uneven_48_0" / "measured.json").read_text())
    assert kept["command"].startswith("python main.py recognition -c config/custom/st_gcn.yaml ")
    assert "data.balanced=true" in kept["command"] and 0 <= kept["top1"] <= 1
    first = (tmp_path / "RESULT.md").read_text()
    row = [cell.strip() for cell in first.splitlines()[-1].strip("|").split("|")]
    assert row[:2] == ["uneven", "48"] and float(row[5]) == pytest.approx(100 * kept["top1"], abs=0.06)
    (tmp_path / "uneven_48_0" / "data.h5").unlink()
    capsys.readouterr()
    assert main(words) == 0
    assert (tmp_path / "RESULT.md").read_text() == first and first in capsys.readouterr().out


def test_nw_ucla_needs_its_folder() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["-w", "work", "--kind", "nw_ucla"])


def test_nw_ucla_gives_so_many_clips_of_each_class(shared_data: Callable[[str], Path]) -> None:
    clips = list(own_data.nw_ucla_clips(shared_data("nw_ucla/all_sqe"), 3, 0))
    train = Counter(clip.label for clip in clips if clip.part == "train")
    assert len(train) == 10 and set(train.values()) == {3}
    assert sum(clip.part == "test" for clip in clips) == 464
