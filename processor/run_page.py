"""The page of a run: its metrics, curves, confusion matrix, table of classes, and its worst test clips.

N clips, n clips that are shown, K classes, M bodies, P predicted frames, V joints, C coordinates.
"""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from feeder.arrays import ArrayFolder, open_source
from feeder.prepared import Prepared
from processor.displayed import PREDICTED, TRUE, Shown, describe, known_rate, of_prepared, up_of
from processor.figures import curves_of, picture_plane, seen_classes
from processor.io import load_predictions, load_scores
from processor.metrics import CLASSIFICATION_METRICS, confusion, per_class_table
from processor.page import PageFigure, PageTable, write_page
from processor.prediction_metrics import OVERALL

# Entries of `result.json` for the line below the title; a run may lack some.
KEY_METRICS = (*CLASSIFICATION_METRICS, "mpjpe", "loss", "epoch", "num_test_clip", "benchmark", "stream")
# Number of answers in the title of a clip.
NUM_ANSWER = 3
MARGINS = {"l": 60, "r": 10, "t": 10, "b": 50}


class Parts(NamedTuple):
    """The content of a run's page, without its curves."""

    clips: list[Shown]
    figures: list[PageFigure]
    tables: list[PageTable]
    notes: list[str]


def write_run_page(work_dir: Path, out: Path, *, num_clip: int) -> Parts:
    """Write the page of a run; returns its content, with notes on missing poses.

    Args:
        work_dir: the run's folder.
        out: the HTML file.
        num_clip: number of test clips, the worst ones.

    Raises:
        FileNotFoundError: the folder holds no trained or tested run.
        ValueError: a file of the run cannot be read.
        PackageMissing: see `write_page`.
    """
    curves = curve_figures(work_dir)
    if (work_dir / "scores.npz").exists():
        parts = parts_of_classification(work_dir, num_clip)
    elif (work_dir / "predictions.npz").exists():
        parts = parts_of_prediction(work_dir, num_clip)
    elif curves:
        parts = Parts([], [], [], ["No clips: the run has no test."])
    else:
        raise FileNotFoundError(
            f"{work_dir} holds no scores.npz, predictions.npz or metrics.csv; name the work_dir of a run"
        )
    notes = [*metrics_of_result(work_dir), *parts.notes]
    title = str(work_dir)
    figures = [*curves, *parts.figures]
    write_page(out, title, parts.clips, notes=notes, figures=figures, tables=parts.tables)
    return parts


def metrics_of_result(work_dir: Path) -> list[str]:
    """A line with metrics of `result.json`; empty without any."""
    path = work_dir / "result.json"
    if not path.exists():
        return []
    result = _read_mapping(path, json.loads)
    known = {key: result[key] for key in KEY_METRICS if result.get(key) is not None}
    texts = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in known.items()
    ]
    return [", ".join(texts)] if texts else []


def _read_mapping(path: Path, parse: Any) -> dict[str, Any]:
    """The mapping in a JSON or YAML file of the run; raises ValueError if it is something else."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no mapping, so it is not a run's; name the work_dir of a run")
    return found


def curve_figures(work_dir: Path) -> list[PageFigure]:
    """Curves over the epochs; empty without `metrics.csv`."""
    path = work_dir / "metrics.csv"
    if not path.exists():
        return []
    try:
        metrics = pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    figures = []
    for columns, what in curves_of(metrics):
        rows = [metrics[["epoch", column]].dropna() for column in columns]
        lines = [
            {
                "type": "scatter",
                "mode": "lines" if len(each) > 1 else "markers",
                "name": column,
                "x": each["epoch"].tolist(),
                "y": each[column].tolist(),
            }
            for column, each in zip(columns, rows, strict=True)
        ]
        layout = {"margin": MARGINS, "xaxis": {"title": {"text": "epoch"}}, "showlegend": True}
        figures.append(PageFigure(f"Curves: {what}", lines, layout))
    return figures


def confusion_figure(matrix: np.ndarray, class_names: list[str]) -> PageFigure:
    """Figure of a confusion matrix (K, K), as row shares, with the classes that occur."""
    seen, counts, share = seen_classes(matrix)
    # Plotly would read < and > in names as tags.
    names = [escape(class_names[k], quote=False) for k in seen.tolist()]
    # Numbers for the axes keep classes of the same name apart.
    places = list(range(len(names)))
    axis: dict[str, Any] = {"tickvals": places, "ticktext": names, "automargin": True, "constrain": "domain"}
    text = [
        [f"{names[row]}: {counts[row, k]} as {names[k]} ({share[row, k]:.0%})" for k in places]
        for row in places
    ]
    heatmap = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": share.round(4).tolist(),
        "text": text,
        "hoverinfo": "text",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "#ffffff"], [0.5, "#6baed6"], [1, "#08306b"]],
    }
    layout = {
        "margin": MARGINS,
        "height": max(500, 14 * len(names) + 220),
        "xaxis": axis | {"title": {"text": "predicted", "standoff": 12}},
        "yaxis": axis
        | {"title": {"text": "true", "standoff": 12}, "autorange": "reversed", "scaleanchor": "x"},
    }
    return PageFigure("Confusion matrix, shares of the true class", [heatmap], layout)


def parts_of_classification(work_dir: Path, num_clip: int) -> Parts:
    """Content of the page of a run with class scores."""
    arrays = load_scores(work_dir / "scores.npz")
    class_names = [str(name) for name in arrays["class_name"]]
    matrix = confusion(arrays["scores"], arrays["label"])
    probability = softmax(arrays["scores"])
    worst = most_wrong(probability, arrays["label"], num_clip)
    titles = [_answer(probability[k], int(arrays["label"][k]), class_names) for k in worst.tolist()]
    names = arrays["name"][worst]
    clips, notes = clips_of_names(work_dir, dict(zip(map(str, names), titles, strict=True)))
    tables = [
        PageTable("Classes", per_class_table(matrix, class_names)),
        PageTable("Worst clips", pd.DataFrame({"clip": names, "answers": titles})),
    ]
    count = f"{len(worst)} of {len(arrays['name'])} test clips"
    notes.insert(0, f"Clips: the {count} with the lowest probability of the true class.")
    return Parts(clips, [confusion_figure(matrix, class_names)], tables, notes)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of class scores (N, K)."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def most_wrong(probability: np.ndarray, label: np.ndarray, num_clip: int) -> np.ndarray:
    """Indices (n,) of the clips whose true class has the lowest probability, the lowest first."""
    return np.argsort(probability[np.arange(len(label)), label], kind="stable")[:num_clip]


def _answer(probability: np.ndarray, label: int, class_names: list[str]) -> str:
    best = np.argsort(-probability, kind="stable")[:NUM_ANSWER].tolist()
    answers = ", ".join(f"{class_names[k]} {probability[k]:.2f}" for k in best)
    return f"true: {class_names[label]} {probability[label]:.2f}; answers: {answers}"


def source_of(work_dir: Path) -> tuple[Prepared | ArrayFolder | None, list[str]]:
    """The data that the run's config names; or None, and a line with the reason."""
    path = work_dir / "config.yaml"
    if not path.exists():
        return None, [f"No poses: {path}, which names the data, is missing."]
    data = _read_mapping(path, yaml.safe_load).get("data")
    if not isinstance(data, dict) or not {"path", "layout"} <= data.keys():
        return None, [f"No poses: {path} names no data."]
    try:
        return open_source(
            data["path"], data["layout"], data.get("first_label"), data.get("channels", "xyz")
        ), []
    except (OSError, ValueError) as error:
        return None, [f"No poses: {error}."]


def clips_of_names(work_dir: Path, titles: Mapping[str, str]) -> tuple[list[Shown], list[str]]:
    """The clips with names in `titles` (by clip name), and notes on missing clips. Lengths are added to the titles."""
    source, notes = source_of(work_dir)
    if source is None:
        return [], notes
    place = {str(name): clip for clip, name in enumerate(source.name)}
    up = up_of(source)
    clips = [of_prepared(source, place[name], up) for name in titles if name in place]
    if lost := [name for name in titles if name not in place]:
        notes = [f"{len(lost)} of the clips are no longer in the data, such as {lost[0]}."]
    rate = known_rate(source)
    return [
        clip._replace(title=describe(titles[clip.name], clip.tracks.shape[1], rate)) for clip in clips
    ], notes


def parts_of_prediction(work_dir: Path, num_clip: int) -> Parts:
    """Content of the page of a run that predicts poses: the clips with the largest errors, and error curves."""
    arrays = load_predictions(work_dir / "predictions.npz")
    error = mean_error(arrays)
    worst = np.argsort(-np.nan_to_num(error, nan=-1.0), kind="stable")[:num_clip]
    source, notes = source_of(work_dir)
    clips = [] if source is None else [_predicted(arrays, int(k), error[k], source) for k in worst]
    figures, tables = [], []
    if (work_dir / "mpjpe.csv").exists():
        table = pd.read_csv(work_dir / "mpjpe.csv")
        figures.append(_error_figure(table[table["action"] == OVERALL]))
        tables.append(PageTable("Errors in mm", table))
    notes.insert(0, f"Clips: the {len(worst)} of {len(error)} stored clips with the largest error.")
    return Parts(clips, figures, tables, notes)


def mean_error(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean error (N,) in metres over the scored joints of each clip; NaN for a clip without any."""
    distance = np.linalg.norm(arrays["predicted"] - arrays["true"], axis=-1)
    scored = arrays["scored"]
    count = scored.sum((1, 2, 3))
    with np.errstate(invalid="ignore"):
        return np.where(scored, distance, 0).sum((1, 2, 3)) / np.where(count > 0, count, np.nan)


def _predicted(
    arrays: Mapping[str, np.ndarray], clip: int, error: float, source: Prepared | ArrayFolder
) -> Shown:
    """A clip of the last frame seen and the frames after it, with true and predicted bodies."""
    first = arrays["last"][clip][:, None]
    there = arrays["scored"][clip][..., None]
    futures = [np.where(there, arrays[key][clip], 0) for key in ("true", "predicted")]
    tracks = np.concatenate([np.concatenate((first, future), 1) for future in futures])
    num_body = len(first)
    label = str(arrays["class_name"][arrays["label"][clip]])
    title = describe(f"{label}, {1000 * error:.0f} mm apart", tracks.shape[1], known_rate(source))
    return Shown(
        name=str(arrays["name"][clip]),
        title=title,
        tracks=tracks,
        skeleton=source.skeleton,
        frame_rate=known_rate(source),
        bodies=[TRUE] * num_body + [PREDICTED] * num_body,
        up=picture_plane(arrays["last"][:, 0], source.skeleton)[1],
    )


def _error_figure(table: pd.DataFrame) -> PageFigure:
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": str(name).replace("_", " "),
            "x": rows["frames"].tolist(),
            "y": rows["mpjpe_mm"].tolist(),
        }
        for name, rows in table.groupby("predictor", sort=False)
    ]
    layout = {
        "margin": MARGINS,
        "xaxis": {"title": {"text": "frames ahead"}},
        "yaxis": {"title": {"text": "mean error of a joint in mm"}, "rangemode": "tozero"},
    }
    return PageFigure("Errors over the horizon", lines, layout)
