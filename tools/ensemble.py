"""Fuse the class scores of several runs, clip by clip, matched by name.

    python tools/ensemble.py work_dir/nw_ucla/st_gcn/{joint,bone,motion,bone_motion} --weights 2 2 1 1

The fused score of a clip is the weighted sum of the runs' scores, as is usual for streams. Without `--weights` all runs
have the same weight, except evaluations of the three streams of a pre-trained encoder: joint, motion and bone have the
weights .6, .4 and .6, as in AimCLR. Class scores, tables and figures go into `--out` in the form of a run's results,
so that a fusion can itself be fused.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np

from processor import io
from processor.metrics import CLASSIFICATION_METRICS, classification_metrics
from torchlight.log import work_dir_lock
from torchlight.status import status_of

# Guo et al., AAAI 2022, section 4.2.
AIMCLR_WEIGHTS = {"joint": 0.6, "motion": 0.4, "bone": 0.6}


def fuse(runs: Sequence[dict[str, np.ndarray]], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """Weighted sum of the runs' scores (N, num_class), clips matched by name and in the order of the first run.

    Raises:
        ValueError: the runs differ in clips, classes or labels.
    """
    first = runs[0]
    fused = np.zeros(first["scores"].shape)
    for number, (run, weight) in enumerate(zip(runs, weights, strict=True)):
        differing = np.setxor1d(run["name"], first["name"])
        if len(differing):
            raise ValueError(
                f"run {number + 1} and run 1 did not score the same clips: {len(differing)} are in one only, "
                f"e.g. {str(differing[0])!r}; fuse runs of the same benchmark and part"
            )
        if not np.array_equal(run["class_name"], first["class_name"]):
            raise ValueError(f"run {number + 1} has other classes than run 1; fuse runs of the same classes")
        # The places of the first run's clips in this run.
        order = np.argsort(run["name"])[np.argsort(np.argsort(first["name"]))]
        if not np.array_equal(run["label"][order], first["label"]):
            raise ValueError(
                f"run {number + 1} has other labels for the same clips than run 1; score both on one prepared file"
            )
        fused += weight * run["scores"][order]
    return {**first, "scores": fused}


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
    parser = argparse.ArgumentParser(prog="ensemble.py", description="Fuse the class scores of several runs.")
    parser.add_argument(
        "work_dirs", nargs="+", type=Path, metavar="WORK_DIR", help="folders with a scores.npz"
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
    return status_of(lambda: fuse_runs(args, weights))


def fuse_runs(args: argparse.Namespace, weights: Sequence[float]) -> None:
    """Print the accuracy of each run and of the fusion, and write the fusion's results."""
    runs = [io.load_scores(work_dir / "scores.npz") for work_dir in args.work_dirs]
    fused = fuse(runs, weights)
    if args.out is not None:
        with work_dir_lock(args.out):
            io.prepare_result_dir(args.out, overwrite=args.overwrite)
    width = max(10, *map(len, CLASSIFICATION_METRICS))
    print(" ".join(f"{name:>{width}}" for name in (*CLASSIFICATION_METRICS, "weight")), " run")
    fused_metrics = classification_metrics(fused["scores"], fused["label"])
    metrics = [*(classification_metrics(run["scores"], run["label"]) for run in runs), fused_metrics]
    for row, weight, name in zip(metrics, [*weights, ""], [*args.work_dirs, "fused"], strict=True):
        print(" ".join(f"{value:{width}.4f}" for value in row.values()), f"{weight:>{width}}", f" {name}")
    if args.out is not None:
        io.save_classification(args.out, fused)
        members = [{"work_dir": str(w), "weight": x} for w, x in zip(args.work_dirs, weights, strict=True)]
        io.save_result(
            args.out, {"part": "test", **fused_metrics, "num_clip": len(fused["label"]), "fused": members}
        )


if __name__ == "__main__":
    sys.exit(main())
