"""Fonts for class names in any script."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from matplotlib import font_manager, rc_context, rcParams


@contextmanager
def legible(class_names: Sequence[str]) -> Iterator[list[str]]:
    """Context in which figures use fonts that can draw all class names; yields the names to draw.

    A name that no installed font can draw is replaced by its class number. A process prints a note about it once.
    """
    fonts = {name: fonts_for(name) for name in class_names}
    shown = [str(label) if fonts[name] is None else name for label, name in enumerate(class_names)]
    if None in fonts.values():
        _print_once(
            "no installed font has all letters of the class names; pictures show class numbers instead"
        )
    families = dict.fromkeys(family for found in fonts.values() for family in found or ())
    # Names may hold dollar signs, which are not formulas.
    with rc_context({"font.family": [*rcParams["font.family"], *families], "text.parse_math": False}):
        yield shown


@cache
def fonts_for(text: str) -> tuple[str, ...] | None:
    """Families of installed fonts for the letters that the default font lacks; None if no font has them."""
    default = font_manager.findfont(font_manager.FontProperties())
    missing = {each for each in text if each.isprintable() and not each.isspace()} - _letters(default)
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
    """The file that matplotlib uses for each family, sorted by family."""
    names = sorted({font.name for font in font_manager.fontManager.ttflist})
    return {name: font_manager.findfont(font_manager.FontProperties(family=[name])) for name in names}


@cache
def _letters(file: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(file).get_charmap()))


@cache
def _print_once(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
