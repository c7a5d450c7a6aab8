"""Fuse the class scores or the predicted poses of several runs, clip by clip, matched by name.

    python tools/ensemble.py work_dir/nw_ucla/st_gcn/{joint,bone,motion,bone_motion} --weights 2 2 1 1
    python tools/ensemble.py work_dir/nw_ucla/predict_mixer{,_1,_2} --out work_dir/nw_ucla/predict_three

The fused score of a clip is the weighted sum of the runs' scores, as is usual for streams. Without `--weights` all runs
have the same weight, except evaluations of the three streams of a pre-trained encoder: joint, motion and bone have the
weights .6, .4 and .6, as in AimCLR. Class scores, tables and figures go into `--out` in the form of a run's results,
so that a fusion can itself be fused.

Runs of `prediction` are fused to the weighted mean of their poses. The table has their errors in mm: the mean over all
predicted frames, and at each horizon of the first run.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
import pandas as pd
import torch
import yaml

from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton
from processor import io
from processor.metrics import OVERALL, classification_metrics
from processor.prediction_metrics import (
    NETWORK,
    error_table,
    mpjpe,
    published_metrics,
    published_weight,
    summed_errors,
)
from torchlight.log import work_dir_lock
from torchlight.status import status_of

# Guo et al., AAAI 2022, section 4.2.
AIMCLR_WEIGHTS = {"joint": 0.6, "motion": 0.4, "bone": 0.6}
# Metres by which true poses may differ between devices and preparations.
ROUNDING = 1e-4

Arrays = dict[str, np.ndarray]


def in_order(runs: Sequence[Arrays]) -> Iterator[np.ndarray]:
    """For each run the places (N,) of the first run's clips, matched by name.

    Raises:
        ValueError: the runs differ in clips, classes or labels.
    """
    first = runs[0]
    for number, run in enumerate(runs):
        differing = np.setxor1d(run["name"], first["name"])
        if len(differing):
            raise ValueError(
                f"run {number + 1} and run 1 did not score the same clips: {len(differing)} are in one only, "
                f"e.g. {str(differing[0])!r}; fuse runs of the same benchmark and part, and predictions with the same "
                "observe, predict and test_step"
            )
        if not np.array_equal(run["class_name"], first["class_name"]):
            raise ValueError(f"run {number + 1} has other classes than run 1; fuse runs of the same classes")
        # The places of the first run's clips in this run.
        order = np.argsort(run["name"])[np.argsort(np.argsort(first["name"]))]
        if not np.array_equal(run["label"][order], first["label"]):
            raise ValueError(
                f"run {number + 1} has other labels for the same clips than run 1; score both on one prepared file"
            )
        yield order


def fuse(runs: Sequence[Arrays], weights: Sequence[float]) -> Arrays:
    """Weighted sum of the runs' scores (N, num_class), in the order of the first run.

    Raises:
        ValueError: the runs differ in clips, classes or labels.
    """
    fused = np.zeros(runs[0]["scores"].shape)
    for run, weight, order in zip(runs, weights, in_order(runs), strict=True):
        fused += weight * run["scores"][order]
    return {**runs[0], "scores": fused}


def fuse_poses(runs: Sequence[Arrays], weights: Sequence[float]) -> Arrays:
    """Weighted mean of the runs' predictions (N, M, P, V, C), in the order of the first run.

    Raises:
        ValueError: the runs differ in clips, classes, labels or the poses that were to be predicted, or the weights sum
            to 0.
    """
    first, total = runs[0], sum(weights)
    if not total:
        raise ValueError(f"weights are {list(weights)}, whose sum is 0; poses need a mean")
    fused = np.zeros(first["predicted"].shape)
    for number, (run, weight, order) in enumerate(zip(runs, weights, in_order(runs), strict=True)):
        if run["true"].shape != first["true"].shape or not np.allclose(
            run["true"][order], first["true"], rtol=0, atol=ROUNDING
        ):
            raise ValueError(
                f"run {number + 1} was to predict other poses of the same clips than run 1; fuse runs with the same "
                "observe, predict, test_step and test_view"
            )
        fused += weight / total * run["predicted"][order]
    return {**first, "predicted": fused.astype(np.float32)}


def default_weights(work_dirs: Sequence[Path]) -> list[float]:
    """AimCLR's weights if the runs are evaluations of its three pre-trained streams, else all 1."""
    results = [work_dir / "result.json" for work_dir in work_dirs]
    about = [json.loads(path.read_text(encoding="utf-8")) if path.exists() else {} for path in results]
    streams = [result.get("stream") for result in about]
    pretrained = all(result.get("protocol") in ("linear", "finetune") for result in about)
    if pretrained and sorted(map(str, streams)) == sorted(AIMCLR_WEIGHTS):
        return [AIMCLR_WEIGHTS[str(stream)] for stream in streams]
    return [1.0] * len(work_dirs)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 fused, 1 if the runs cannot be fused."""
    parser = argparse.ArgumentParser(
        prog="ensemble.py", description="Fuse the class scores or the predicted poses of several runs."
    )
    parser.add_argument(
        "work_dirs",
        nargs="+",
        type=Path,
        metavar="WORK_DIR",
        help="folders with a scores.npz, or all with a predictions.npz",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="one a run (default: all 1; .6 .4 .6 for pre-trained joint, motion, bone)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scores, tables and figures here")
    parser.add_argument("--overwrite", action="store_true", help="replace what --out holds")
    args = parser.parse_args(argv)
    try:
        weights = args.weights or default_weights(args.work_dirs)
    except (OSError, ValueError) as error:
        parser.error(f"a result.json cannot be read ({error}); give --weights")
    if len(weights) != len(args.work_dirs):
        parser.error(f"{len(args.work_dirs)} runs but {len(weights)} weights; give one weight a run")
    if not np.isfinite(weights).all() or not np.any(weights):
        parser.error(f"weights are {weights}; give finite numbers, not all of them 0")
    fuse_all = fuse_predictions if (args.work_dirs[0] / "predictions.npz").is_file() else fuse_runs
    return status_of(lambda: fuse_all(args, weights))


def fuse_runs(args: argparse.Namespace, weights: Sequence[float]) -> None:
    """Print the accuracy of each run and of the fusion, and write the fusion's results."""
    runs = [io.load_scores(work_dir / "scores.npz") for work_dir in args.work_dirs]
    fused = fuse(runs, weights)
    if args.out is not None:
        with work_dir_lock(args.out):
            io.prepare_result_dir(args.out, overwrite=args.overwrite)
    metrics = [classification_metrics(run["scores"], run["label"]) for run in (*runs, fused)]
    print_table(args.work_dirs, weights, metrics)
    if args.out is not None:
        io.save_classification(args.out, fused)
        save_fused(args, weights, metrics[-1], len(fused["label"]))


def fuse_predictions(args: argparse.Namespace, weights: Sequence[float]) -> None:
    """Print the errors of each run and of the fusion, and write the fusion's results."""
    runs = [io.load_predictions(work_dir / "predictions.npz") for work_dir in args.work_dirs]
    of_first, skeleton = pd.read_csv(args.work_dirs[0] / "mpjpe.csv"), skeleton_of(args.work_dirs[0])
    fused = fuse_poses(runs, weights)
    horizons = sorted(map(int, of_first["frames"].unique()))
    all_runs = [*runs, fused]
    sums = [sums_of(run, skeleton) for run in all_runs]
    metrics = [pose_metrics(each, run["label"], horizons) for each, run in zip(sums, all_runs, strict=True)]
    print_table(args.work_dirs, weights, metrics)
    if args.out is None:
        return
    with work_dir_lock(args.out):
        io.prepare_result_dir(args.out, overwrite=args.overwrite)
    names = [str(name) for name in fused["class_name"]]
    rate = float(1000 * of_first["frames"][0] / of_first["ms"][0])
    table = error_table(sums[-1], fused["label"], names, horizons=horizons, frame_rate=rate)
    # Baselines do not depend on the network: their errors are those of the first run.
    table = pd.concat([table, of_first[of_first["predictor"] != NETWORK]])
    table = table.sort_values("action", kind="stable", key=lambda each: each.map([OVERALL, *names].index))
    io.save_predictions(args.out, fused, table, class_names=names, skeleton=skeleton)
    save_fused(args, weights, metrics[-1], len(fused["label"]), layout=skeleton.name)


def skeleton_of(work_dir: Path) -> Skeleton:
    """The skeleton of the poses of a run, or of a fusion.

    Raises FileNotFoundError: the folder has no file that says it.
    """
    config, result = work_dir / "config.yaml", work_dir / "result.json"
    if config.is_file():
        return get_skeleton(yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["layout"])
    return get_skeleton(json.loads(result.read_text(encoding="utf-8"))["layout"])


def sums_of(run: Arrays, skeleton: Skeleton) -> Arrays:
    """The `summed_errors` of a run's predictions, in the order of its clips."""
    predicted, future, scored = (torch.from_numpy(run[key]) for key in ("predicted", "true", "scored"))
    sums = summed_errors({NETWORK: predicted}, future, scored, published_weight(skeleton))
    return {name: each.numpy() for name, each in sums.items()}


def pose_metrics(sums: Arrays, label: np.ndarray, horizons: Sequence[int]) -> dict[str, float]:
    """Error in mm: the mean over all predicted frames, and at each horizon; and the errors that papers report."""
    error = mpjpe(sums[NETWORK], sums["count"])
    metrics = {"mpjpe": float(np.nanmean(error))} | {
        f"mpjpe_{each}": float(error[each - 1]) for each in horizons
    }
    return metrics | published_metrics(sums, label, horizons)


def print_table(
    work_dirs: Sequence[Path], weights: Sequence[float], metrics: Sequence[Mapping[str, float]]
) -> None:
    """Print the metrics of each run, and then those of the fusion."""
    width = max(10, *map(len, metrics[0]))
    print(" ".join(f"{name:>{width}}" for name in (*metrics[0], "weight")), " run")
    for row, weight, name in zip(metrics, [*weights, ""], [*work_dirs, "fused"], strict=True):
        print(" ".join(f"{value:{width}.4f}" for value in row.values()), f"{weight:>{width}}", f" {name}")


def save_fused(
    args: argparse.Namespace,
    weights: Sequence[float],
    metrics: Mapping[str, float],
    num_clip: int,
    **others: Any,
) -> None:
    """Write the fusion's `result.json`, with `others` as further entries."""
    members = [{"work_dir": str(w), "weight": x} for w, x in zip(args.work_dirs, weights, strict=True)]
    io.save_result(args.out, {"part": "test", **metrics, "num_clip": num_clip, **others, "fused": members})


if __name__ == "__main__":
    sys.exit(main())
