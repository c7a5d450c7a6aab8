"""The driver, by sources made up here: what it writes, reports and prints, whatever the source."""

import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from conftest import read_report
from data_gen.prepare import prepare
from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Problem, Source, Splits
from feeder.prepared import NO_LABEL, open_prepared

ONE = np.ones((1, 2, 17, 3), np.float32)
# Two of each class, one of which trains.
TWO_CLASSES = [Clip(name, label, ONE) for name, label in (("a", 0), ("b", 0), ("c", 1), ("d", 1))]


class Given(Source):
    """Yields what it is given."""

    layout = "coco"
    class_names: Sequence[str] = ("wave", "jump")
    frame_rate = 30.0
    bodies = "made"
    source = "made"

    def __init__(self, *entries: Entry) -> None:
        self.given = entries

    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        yield from ([entry] for entry in self.given)

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """Clips in turn to the one part and the other."""
        return {"turns": {"train": range(0, len(kept), 2), "val": range(1, len(kept), 2)}}


def run(source: Source, out: Path) -> list[list[str]]:
    """Prepare; the rows of the report."""
    prepare(source, out, overwrite=True, num_worker=1)
    return read_report(out)


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], dict[str, str]]:
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    return words[:5], dict(word.split("=", 1) for word in words[5:])


def test_clips_that_cannot_be_written_are_reported_and_the_rest_prepared(tmp_path: Path) -> None:
    clips = [
        Clip("a", 0, ONE),
        Clip("a", 0, ONE),
        Clip("nan", 0, ONE * np.nan),
        Clip("label", 2, ONE),
        Clip("plane", 0, ONE[..., :2]),
        Clip("joints", 0, ONE[:, :, :5]),
        Clip("keys", 0, ONE, {"subject": 3}),
        Problem("file", 7, "odd"),
        Clip("b", 1, ONE),
    ]
    rows = run(Given(*clips), tmp_path / "a.h5")
    prepared = open_prepared(tmp_path / "a.h5")
    assert prepared.name.tolist() == ["a", "b"] and len(rows) == prepared.attrs["num_bad"] == 7
    assert ["file", "7", "odd"] in [list(row) for row in rows]


def test_where_no_clip_can_be_used_what_was_there_stays(tmp_path: Path) -> None:
    run(Given(Clip("a", 0, ONE), Clip("b", 1, ONE)), tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    for entries in ((), (Problem("file", None, "odd"),)):
        with pytest.raises(ValueError, match="no clip of made can be used"):
            run(Given(*entries), tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == before


def test_the_last_line_fits_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.h5"
    run(Given(*TWO_CLASSES[:-1], Clip("last", 1, np.repeat(ONE, 3, 0))), out)
    command, settings = last_line(capsys)
    assert command == ["python", "main.py", "recognition", "-c", "config/custom/st_gcn.yaml"]
    expected = {"layout": "coco", "num_class": "2", "num_body": "3", "path": str(out)}
    assert settings == {f"data.{key}": value for key, value in expected.items()} | {"benchmark": "turns"}


def test_a_data_set_with_a_recipe_of_its_own_is_trained_by_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Given(*TWO_CLASSES)
    source.recipe, source.recipe_settings = "config/made/st_gcn.yaml", {"data.val_by": "sequence"}
    run(source, tmp_path / "a.h5")
    command, settings = last_line(capsys)
    assert command[2:] == ["recognition", "-c", "config/made/st_gcn.yaml"]
    assert settings == {"data.path": str(tmp_path / "a.h5"), "data.val_by": "sequence", "benchmark": "turns"}


def test_a_data_set_whose_clips_cannot_be_trained_on_gets_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Given(Clip("a", 0, ONE), Clip("b", 1, ONE))
    source.recipe = "config/made/st_gcn.yaml"
    run(source, tmp_path / "a.h5")
    assert "config/made" not in capsys.readouterr().out


@pytest.mark.parametrize("labels", [(NO_LABEL, NO_LABEL), (0, NO_LABEL), (NO_LABEL, 1), (0,), (0, 1)])
def test_what_cannot_be_tested_pre_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: tuple[int, ...]
) -> None:
    run(Given(*(Clip(str(number), label, ONE) for number, label in enumerate(labels))), tmp_path / "a.h5")
    assert last_line(capsys)[0][2:] == ["pretrain", "-c", "config/custom/pretrain_aimclr.yaml"]


def test_poses_in_the_picture_have_their_own_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Given(*TWO_CLASSES)
    source.channels, source.unit = "xyc", "picture"
    run(source, tmp_path / "a.h5")
    prepared = open_prepared(tmp_path / "a.h5")
    assert (prepared.channels, prepared.unit) == ("xyc", "picture")
    assert last_line(capsys)[0][-1] == "config/custom/st_gcn_2d.yaml"


class Squares(ItemSource):
    """Clips of as many frames as their item says, and a problem that was known before."""

    layout = "coco"
    class_names = ("one",)
    frame_rate = 30.0
    bodies = source = "made"
    items = range(1, 60)
    problems = (Problem("before", None, "known"),)

    def read(self, item: int) -> Sequence[Entry]:
        return [Clip(str(item), 0, np.ones((1, item, 17, 3))), Problem(str(item), None, "cut", mended=True)]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        return {"all": {"train": range(len(kept)), "val": ()}}


def test_items_are_read_in_order_by_any_number_of_processes(tmp_path: Path) -> None:
    made = []
    for num_worker in (1, 3):
        out = tmp_path / f"{num_worker}.h5"
        report = prepare(Squares(), out, overwrite=False, num_worker=num_worker)
        assert (report.num_bad, report.num_mended) == (1, 59)
        made.append(out.read_bytes())
    assert made[0] == made[1]
    assert open_prepared(out).num_frame.tolist() == list(range(1, 60))
