"""One HTML file that plays clips in 3-D, above their class probabilities; figures and tables follow.

The file holds everything, Plotly's script included, and loads nothing from elsewhere. Names are escaped.
M bodies, T frames, V joints, C coordinates, K classes.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from net.utils.channels import joints_there
from net.utils.skeleton import Skeleton
from processor.bones import FAINTEST, HUES, bone_sides, palette
from processor.displayed import Shown
from processor.figures import likeliest
from torchlight.files import atomic_write, make_folder_of
from torchlight.packages import require

# The package of the extra `page` in setup.py.
PACKAGE = "plotly"
# Bytes for the frames of all clips. Plotly's script takes 4.8 MB; with it a page of 20 clips stays under 10 MB.
BUDGET = 4_500_000
# Largest number of clips of a page; more of them would leave too few frames for each.
MOST_CLIPS = 200
# The 16-bit integer for the coordinates of an absent joint.
NOT_THERE = -32768
LARGEST = 32767
# Resolution of coordinates: a millimetre, if they are metres.
STEP = 1e-3
# Length of a base64 text divided by that of its bytes.
BASE64 = 4 / 3


class PageFigure(NamedTuple):
    """A figure of Plotly: a title, and the arguments `data` and `layout` of `Plotly.newPlot`."""

    title: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]


class PageTable(NamedTuple):
    """A table and its title."""

    title: str
    table: pd.DataFrame


def check_package() -> None:
    """Raise PackageMissing if Plotly is not installed."""
    require([PACKAGE], "page")


def write_page(
    path: Path,
    title: str,
    clips: Sequence[Shown],
    *,
    notes: Sequence[str] = (),
    figures: Sequence[PageFigure] = (),
    tables: Sequence[PageTable] = (),
) -> None:
    """Write a page.

    Args:
        path: the HTML file; its folder is made if needed.
        title: of the page.
        clips: at most `MOST_CLIPS`; frames are skipped if all frames of all clips are larger than `BUDGET`.
        notes: lines below the title.
        figures: below the clips.
        tables: below the figures.

    Raises:
        PackageMissing: Plotly is not installed.
        ValueError: too many clips.
        OSError: the file cannot be written.
    """
    check_package()
    if len(clips) > MOST_CLIPS:
        raise ValueError(f"there are {len(clips)} clips; a page holds at most {MOST_CLIPS}: choose fewer")
    from plotly.offline import get_plotlyjs

    content = {**as_scenes(clips), "figures": [figure._asdict() for figure in figures]}
    here = files(__package__)
    html = Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        notes="".join(f"<p>{escape(note)}</p>" for note in notes),
        tables="".join(map(_as_html, tables)),
        content=_in_script(json.dumps(content, ensure_ascii=False, allow_nan=False)),
        plotly=get_plotlyjs(),
        script=(here / "page.js").read_text(encoding="utf-8"),
    )
    make_folder_of(path)
    with atomic_write(path) as file:
        file.write(html.encode("utf-8", errors="replace"))


def _in_script(text: str) -> str:
    """JSON in which no name can end the script element of the page."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _as_html(table: PageTable) -> str:
    numbers = table.table.to_html(
        index=False, border=0, escape=True, float_format=lambda value: f"{value:.3f}", na_rep=""
    )
    return f"<section><h2>{escape(table.title)}</h2>{numbers}</section>"


def as_scenes(clips: Sequence[Shown]) -> dict[str, Any]:
    """The data of the page's script, ready for JSON: clips, their skeletons and colours."""
    skeletons: dict[Skeleton, int] = {}
    scenes = []
    for clip in clips:
        number = skeletons.setdefault(clip.skeleton, len(skeletons))
        scenes.append(_as_scene(clip, number, BUDGET / len(clips)))
    return {
        "clips": scenes,
        "skeletons": [
            {"name": each.name, "bones": each.bones, "sides": bone_sides(each).tolist()} for each in skeletons
        ],
        "faintest": FAINTEST,
        "not_there": NOT_THERE,
    }


def _as_scene(clip: Shown, skeleton: int, budget: float) -> dict[str, Any]:
    """The data of a clip, in as many evenly spaced frames as fit into `budget` bytes."""
    num_frame = clip.tracks.shape[1]
    shown = likeliest(clip.probability) if clip.probability is not None else np.arange(0)
    numbers = (
        clip.tracks[:, 0].size + len(shown) + (0 if clip.confidence is None else clip.confidence[:, 0].size)
    )
    every = max(1, int(np.ceil(2 * BASE64 * numbers * num_frame / budget)))
    tracks = clip.tracks[:, ::every]
    scene: dict[str, Any] = {
        "name": clip.name,
        "title": clip.title,
        "skeleton": skeleton,
        "num_frame": num_frame,
        "every": every,
        "frame_rate": clip.frame_rate,
        "up": clip.up,
        "palette": (255 * palette([body.colour for body in clip.bodies] or HUES))
        .round()
        .astype(int)
        .tolist(),
        "bodies": [body.name for body in clip.bodies],
        "positions": encode(tracks.swapaxes(0, 1), joints_there(tracks).swapaxes(0, 1), STEP),
        "confidence": None,
        "probability": None,
    }
    if clip.confidence is not None:
        # Values outside 0 to 1 are clipped.
        sure = np.nan_to_num(clip.confidence[:, ::every].swapaxes(0, 1)).clip(0, 1)
        scene["confidence"] = encode(sure[..., None], np.ones(sure.shape, bool), 1 / LARGEST)
    if clip.probability is not None:
        values = clip.probability[::every, shown, None]
        scene["probability"] = {
            "classes": [clip.class_names[k] for k in shown.tolist()],
            "values": encode(values, np.ones(values.shape[:-1], bool), 1 / LARGEST),
        }
    return scene


def encode(values: np.ndarray, there: np.ndarray, step: float) -> dict[str, Any]:
    """Numbers (..., C) as 16-bit integers, little-endian, in base64: value = origin + step * integer.

    Args:
        values: the numbers.
        there: (...) bool; where False, all C are `NOT_THERE`.
        step: resolution. It becomes coarser if the range does not fit into 16 bits, and finer if the range is less
            than 200 steps.
    """
    known = values[there] if there.any() else np.zeros((1, values.shape[-1]), values.dtype)
    low, high = known.min(0).astype(float), known.max(0).astype(float)
    origin, half = (low + high) / 2, float((high - low).max()) / 2
    if half > LARGEST * step or half < 100 * step:
        step = half / LARGEST if half > 0 else step
    whole = np.rint((np.where(there[..., None], values, origin) - origin) / step).astype("<i2")
    whole[~there] = NOT_THERE
    return {
        "shape": list(values.shape),
        "origin": origin.tolist(),
        "step": step,
        "data": b64encode(whole.tobytes()).decode(),
        "low": low.tolist(),
        "high": high.tolist(),
    }
