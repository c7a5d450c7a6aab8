"""Text in pictures that can be read, whatever script it is in."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from matplotlib import font_manager, rc_context, rcParams


@contextmanager
def legible(class_names: Sequence[str]) -> Iterator[list[str]]:
    """Within it pictures are drawn with fonts for the names of all classes, as it yields them.

    A name that no installed font can draw is replaced by the number of its class, which is said once a process.
    """
    fonts = {name: fonts_for(name) for name in class_names}
    shown = [str(label) if fonts[name] is None else name for label, name in enumerate(class_names)]
    if None in fonts.values():
        _say_once("no installed font has all letters of the class names; pictures show class numbers instead")
    families = dict.fromkeys(family for found in fonts.values() for family in found or ())
    # Names are not formulas, though they may hold dollar signs.
    with rc_context({"font.family": [*rcParams["font.family"], *families], "text.parse_math": False}):
        yield shown


@cache
def fonts_for(text: str) -> tuple[str, ...] | None:
    """Families of installed fonts for the letters that the usual font lacks; None where no font has them."""
    usual = font_manager.findfont(font_manager.FontProperties())
    missing = {each for each in text if each.isprintable() and not each.isspace()} - _letters(usual)
    families = []
    for family, file in _installed().items() if missing else ():
        drawn = missing & _letters(file)
        if drawn:
            families.append(family)
            missing -= drawn
        if not missing:
            break
    return None if missing else tuple(families)


@cache
def _installed() -> dict[str, str]:
    """The file that matplotlib takes for each family, in the order of their names."""
    names = sorted({font.name for font in font_manager.fontManager.ttflist})
    return {name: font_manager.findfont(font_manager.FontProperties(family=[name])) for name in names}


@cache
def _letters(file: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(file).get_charmap()))


@cache
def _say_once(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
