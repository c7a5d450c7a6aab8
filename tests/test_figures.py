"""Pictures: text that can be read whatever its script, and ticks that make sense."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from processor import fonts
from processor.figures import draw_errors, save_confusion, save_curves, shorten
from processor.fonts import fonts_for, legible
from tools.embed import draw

WAVE, BOW = "挥手", "鞠躬"
CHINESE = "挥手鞠躬"


@pytest.fixture(autouse=True)
def fresh():
    """No font was looked for, and nothing said, before."""
    caches = (fonts.fonts_for, fonts._installed, fonts._letters, fonts._print_once)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.fixture
def pictures(monkeypatch):
    """The figures that are saved, by Agg as ever; a letter without a glyph is an error."""
    saved, save = [], Figure.savefig

    def savefig(figure, file, **options):
        saved.append(figure)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            save(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def only_fonts(monkeypatch, *names: str) -> None:
    """As if only these families, which come with matplotlib, were installed."""
    kept = [font for font in font_manager.fontManager.ttflist if font.name in names]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", kept)


def ticks(axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def test_names_without_a_font_are_class_numbers_and_that_is_said_once(
    tmp_path: Path, monkeypatch, pictures, capsys
) -> None:
    only_fonts(monkeypatch, "DejaVu Sans")
    matrix = np.array([[3, 0, 1], [0, 0, 0], [1, 0, 5]])
    for _ in range(2):
        save_confusion(matrix, ["sit", WAVE, BOW], tmp_path / "confusion.png")
    # The second class does not occur; the third keeps its number.
    assert ticks(pictures[0].axes[0]) == ["sit", "2"]
    said = capsys.readouterr().err
    assert said.count("no installed font") == 1
    assert len(said.splitlines()) == 1


def test_a_map_of_classes_is_labelled_in_the_same_way(tmp_path: Path, monkeypatch, pictures) -> None:
    only_fonts(monkeypatch, "DejaVu Sans")
    table = pd.DataFrame({"class": [BOW, "sit", BOW], "x": [0.0, 1, 2], "y": [0.0, 1, 2]})
    draw(table, ["sit", WAVE, BOW], tmp_path / "embed.png")
    legend = pictures[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["sit", "2"]


def test_a_font_that_has_the_letters_is_used(tmp_path: Path, monkeypatch, pictures, capsys) -> None:
    # These letters of TeX Gyre stand for a script: the usual font has none, a font that comes with matplotlib has.
    letters = "\u20d2\u20d3"
    only_fonts(monkeypatch, "DejaVu Sans", "DejaVu Math TeX Gyre", "cmr10")
    assert fonts_for("sit") == ()
    assert fonts_for(letters) == ("DejaVu Math TeX Gyre",)
    assert fonts_for(letters + CHINESE) is None
    save_confusion(np.eye(2, dtype=int), [letters, "a $ b $ c_^"], tmp_path / "confusion.png")
    assert ticks(pictures[0].axes[0]) == [letters, "a $ b $ c_^"]
    assert capsys.readouterr().err == ""


def test_the_usual_font_comes_first_and_is_as_before_afterwards() -> None:
    import matplotlib

    before = list(matplotlib.rcParams["font.family"])
    with legible(["a"]) as names:
        assert matplotlib.rcParams["font.family"] == before
        assert names == ["a"]
    assert matplotlib.rcParams["font.family"] == before


@pytest.mark.parametrize("num_epoch", [1, 2, 3, 5, 100])
def test_epochs_and_frames_are_whole_numbers(tmp_path: Path, pictures, num_epoch: int) -> None:
    epoch = np.arange(1, num_epoch + 1)
    save_curves(pd.DataFrame({"epoch": epoch, "train_loss": 1.0, "train_top1": 0.5}), tmp_path / "curves.png")
    draw_errors(
        pd.DataFrame({"predictor": "network", "frames": epoch, "mpjpe_mm": 1.0}), tmp_path / "mpjpe.png"
    )
    for axes in (*pictures[0].axes, *pictures[1].axes):
        low, high = axes.get_xlim()
        shown = [float(tick) for tick in axes.get_xticks() if low <= tick <= high]
        assert shown and all(tick.is_integer() for tick in shown)
        assert all("." not in text for text in ticks(axes))


def test_long_names_are_cut() -> None:
    assert shorten("walk", 4) == "walk"
    assert shorten("walk around", 6) == "walk…"
    assert shorten(CHINESE * 3, 5) == "挥手鞠躬…"


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "confusion.png"
    with pytest.raises(OSError, match=r"missing/confusion.png was not written"):
        save_confusion(np.eye(2, dtype=int), ["a", "b"], path)
