"""The files of a run: checks of a work_dir before it, and the results that a processor writes into it."""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from numpy.lib.npyio import NpzFile

from feeder.feeder import Feeder, Part
from net.utils.skeleton import Skeleton
from processor.figures import draw_anticipation, draw_errors, draw_poses, save_confusion, save_curves
from processor.metrics import OVERALL, confusion, per_class_table
from torchlight.files import atomic_write

TRAIN_FILES = ("metrics.csv", "last.pt", "best.pt", "curves.png")
# The page of tools/report.py.
REPORT = "report.html"
RESULT_FILES = (
    *("scores.npz", "result.json", "per_class.csv", "confusion.csv", "confusion.png"),
    *("anticipation.csv", "anticipation.png"),
    *("predictions.npz", "mpjpe.csv", "mpjpe.png", "poses.png"),
    REPORT,
)
LABELLED = "labelled.csv"
RUN_FILES = ("config.yaml", "log.txt", LABELLED, *TRAIN_FILES, *RESULT_FILES)

# Arrays of `scores.npz` and their types; `tools/ensemble.py` joins such files by clip name.
SCORES = {"name": np.str_, "label": np.int64, "scores": np.float32, "class_name": np.str_}


class WorkDirHoldsRun(FileExistsError):
    """A work_dir has the files of an earlier run, which would be lost."""


def prepare_work_dir(
    work_dir: Path, *, resume: bool, overwrite: bool, keep: str | Path | None = None
) -> None:
    """Prepare a folder for a training run; an earlier run in it must be resumed or replaced.

    Removes only files that a run writes, and only with `overwrite`.

    Args:
        work_dir: the folder.
        resume: continue an earlier run in the folder, if any.
        overwrite: remove an earlier run from the folder, if any.
        keep: a file that must not be removed: the weights that the new run starts from.

    Raises:
        WorkDirHoldsRun: the folder holds an earlier run, and neither `resume` nor `overwrite` is set; or that run
            cannot be resumed; or `keep` is one of its files.
    """
    held = _held(work_dir, RUN_FILES)
    if overwrite:
        if keep is not None and any(path.samefile(keep) for path in held if Path(keep).exists()):
            raise WorkDirHoldsRun(
                f"--overwrite would remove {keep}, the weights to start from; choose another work_dir with -w"
            )
        for path in (*held, *work_dir.glob("events.out.tfevents.*")):
            path.unlink()
    elif held and not resume:
        raise WorkDirHoldsRun(
            f"work_dir {work_dir} holds an earlier run ({_listed(held)}): "
            "continue it with --resume, replace it with --overwrite, or choose another with -w"
        )
    elif finished := [] if (work_dir / "last.pt").exists() else _held(work_dir, ("best.pt", *RESULT_FILES)):
        raise WorkDirHoldsRun(
            f"work_dir {work_dir} holds {_listed(finished)}, but no last.pt to resume from; "
            "replace the run with --overwrite, or choose another with -w"
        )


def prepare_result_dir(folder: Path, *, overwrite: bool) -> None:
    """Make a folder for the results of a test or a fusion; the folder of a training run is refused.

    Raises:
        WorkDirHoldsRun: the folder holds a training run, or earlier results and `overwrite` is not set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = _held(folder, TRAIN_FILES)
    if trained:
        raise WorkDirHoldsRun(
            f"{folder} holds a training run ({_listed(trained)}), and its results would be replaced; "
            "choose another folder"
        )
    held = _held(folder, RESULT_FILES)
    if held and not overwrite:
        raise WorkDirHoldsRun(
            f"{folder} holds earlier results ({_listed(held)}): replace them with --overwrite, "
            "or choose another folder"
        )
    for path in (*held, *_held(folder, [LABELLED])):
        path.unlink()


def _held(folder: Path, names: Sequence[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).exists()]


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: after a failure the old file is unchanged."""
    with atomic_write(path) as file:
        file.write(text.encode())


def save_scores(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write clip names (N,), labels (N,), class scores (N, num_class), class names (num_class,); no pickles."""
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **{key: arrays[key].astype(kind) for key, kind in SCORES.items()})


def load_scores(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `save_scores` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of scores.
    """
    return _load(path, SCORES, "scores")


def _load(path: Path, keys: Iterable[str], what: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; a finished run, or --phase test, writes it")
    try:
        with NpzFile(path.open("rb"), own_fid=True, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys}
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise ValueError(
            f"{path} holds no {what} of a run ({error}); make it again with main.py … --phase test"
        ) from error


def save_classification(work_dir: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write scores, per-class table and confusion matrix (CSV and PNG); `arrays` as for `save_scores`."""
    save_scores(work_dir / "scores.npz", arrays)
    class_names = [str(name) for name in arrays["class_name"]]
    matrix = confusion(arrays["scores"], arrays["label"])
    write_text(work_dir / "per_class.csv", per_class_table(matrix, class_names).to_csv(index=False))
    table = pd.DataFrame(matrix, index=class_names, columns=class_names)
    write_text(work_dir / "confusion.csv", table.to_csv())
    save_confusion(matrix, class_names, work_dir / "confusion.png")


def save_anticipation(work_dir: Path, table: pd.DataFrame) -> None:
    """Write `anticipation.csv` and `.png`; the table is of `processor.metrics.anticipation_table`."""
    write_text(work_dir / "anticipation.csv", table.to_csv(index=False))
    draw_anticipation(table[table["action"] == OVERALL], work_dir / "anticipation.png")


# Arrays of `predictions.npz` for n clips: C coordinates (metres) of M bodies and V joints in P frames.
PREDICTIONS = {
    "name": np.str_,  # (n,)
    "label": np.int64,  # (n,)
    "last": np.float32,  # (n, M, V, C), the last frame seen
    "predicted": np.float32,  # (n, M, P, V, C)
    "true": np.float32,  # (n, M, P, V, C)
    "scored": np.bool_,  # (n, M, P, V), joints that count for the error
}


def save_predictions(
    work_dir: Path,
    arrays: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    *,
    class_names: Sequence[str],
    skeleton: Skeleton,
) -> None:
    """Write `predictions.npz`, the errors `mpjpe.csv` and `.png`, and `poses.png` with some of the poses."""
    with atomic_write(work_dir / "predictions.npz") as file:
        kept: dict[str, Any] = {key: arrays[key].astype(kind) for key, kind in PREDICTIONS.items()}
        np.savez(file, allow_pickle=False, class_name=np.asarray(class_names), **kept)
    write_text(work_dir / "mpjpe.csv", table.to_csv(index=False))
    draw_errors(table[table["action"] == OVERALL], work_dir / "mpjpe.png")
    draw_poses(arrays, class_names, skeleton, work_dir / "poses.png")


def load_predictions(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `save_predictions` wrote, and `class_name`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of predictions.
    """
    return _load(path, (*PREDICTIONS, "class_name"), "predictions")


def save_result(work_dir: Path, result: Mapping[str, Any]) -> None:
    """Write `result.json`: the metrics of a run and the versions used; NaN and infinity become null."""
    made_with = {"torch": torch.__version__, "python": platform.python_version()}
    text = json.dumps(_without_nan({**result, "made_with": made_with}), indent=2, allow_nan=False)
    write_text(work_dir / "result.json", text + "\n")


def _without_nan(value: Any) -> Any:
    """A value, or mapping of values, with NaN and infinity replaced by None, because JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_labelled(work_dir: Path, feeders: Mapping[Part, Feeder]) -> None:
    """Write `labelled.csv`: the clips whose labels are used, for training or to select the epoch."""
    tables = [
        pd.DataFrame({"name": feeder.name, "part": part, "label": feeder.label})
        for part, feeder in feeders.items()
    ]
    write_text(work_dir / LABELLED, pd.concat(tables).to_csv(index=False))


def draw_curves(work_dir: Path) -> None:
    """Write `curves.png` from `metrics.csv`, if there is one."""
    path = work_dir / "metrics.csv"
    if path.exists():
        save_curves(pd.read_csv(path), work_dir / "curves.png")
