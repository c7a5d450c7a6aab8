"""Compares the methods of self-supervised pre-training on NW-UCLA: one protocol, and equal minutes.

    python benchmarks/self_supervised.py [precision=fp32] -w work_dir/self_supervised [--method "masked motion" AimCLR]

Each encoder is pre-trained, and judged by its nearest neighbours, by linear evaluations and by fine-tuning, with
several shares of the labels and several draws of them. Finished runs are not run again, and interrupted ones resume.
After each encoder the tables of all finished runs are written into RESULT.md in the work folder.

The numbers of epochs in `METHODS` took 20 to 36 minutes, with precision=fp32, on one core of an AMD EPYC without
instructions for bf16. For another processor, `--scale` changes all of them; then take another work folder.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import pandas as pd

import main as command
from benchmarks.report import aligned

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "config" / "nw_ucla"
# Settings of evaluations by the nearest neighbour.
NEIGHBOURS = {"neighbour": ("whiten_view=null",), "whitened": ()}
# Shares of the labels of each protocol; fine-tuning starts from the linear evaluation with the same labels.
FRACTIONS = {"linear": [0.01, 0.05, 1.0], "finetune": [0.05, 1.0]}


class Method(NamedTuple):
    """A method of the table.

    steps: names of the configs of pre-training, each with its number of epochs; a later step starts from the weights of
        the one before it.
    ending: of the names of the configs that judge the encoder.
    num_encoder: encoders to train, with the seeds 0, 1, …
    settings: `key=value` of the runs that judge the encoder.
    """

    steps: dict[str, int]
    ending: str = ""
    num_encoder: int = 1
    settings: tuple[str, ...] = ()


METHODS = {
    "AimCLR": Method({"pretrain_aimclr": 47}, num_encoder=2),
    "SkeletonCLR": Method({"pretrain_skeletonclr": 78}),
    "VICReg": Method({"pretrain_vicreg": 60}),
    "long-term signals": Method(
        {"pretrain_long_term": 67}, num_encoder=2, settings=("model_args.padding_mode=replicate",)
    ),
    "masked motion": Method({"pretrain_masked_motion": 360}, ending="_masked_motion"),
    "masked features": Method(
        {"pretrain_masked_motion": 250, "pretrain_masked_feature": 40}, ending="_masked_motion", num_encoder=2
    ),
}


class Encoder(NamedTuple):
    """One encoder of a method, and the folder of its runs."""

    method: Method
    folder: Path
    seed: int

    def train(self, scale: float, settings: Sequence[str]) -> Path:
        """Run the steps that are not finished; returns the weights of the last one."""
        start: list[str] = []
        for step, num_epoch in self.method.steps.items():
            given = [f"num_epoch={max(1, round(scale * num_epoch))}", f"seed={self.seed}", *settings]
            run("pretrain", step, self.folder / step, [*given, *start])
            weights = self.folder / step / "best.pt"
            start = ["--weights", str(weights)]
        return weights

    def judge(self, weights: Path, protocols: Sequence[str], num_draw: int, settings: Sequence[str]) -> None:
        """Run the evaluations that are not finished."""
        given = [*self.method.settings, *settings]
        for name, own in NEIGHBOURS.items():
            words = [*given, *own, "--weights", str(weights)]
            run("knn_evaluation", f"knn{self.method.ending}", self.folder / name, words)
        for protocol in protocols:
            run_before = ["linear"] if protocol != "linear" else []
            words = [
                "-c",
                str(config_of("label_efficiency")),
                "-w",
                str(self.folder),
                "--weights",
                str(weights),
            ]
            words += [f"{each}={config_of(each + self.method.ending)}" for each in FRACTIONS]
            words += [
                f"settings={json.dumps(given)}",
                "--protocols",
                *run_before,
                protocol,
                "--seeds",
                str(num_draw),
            ]
            run_grid([*words, "--fractions", *map(str, FRACTIONS[protocol])])

    def is_known(self) -> bool:
        """Whether pre-training and the evaluations by nearest neighbours are finished."""
        return all(
            (self.folder / each / "result.json").exists() for each in (*self.method.steps, *NEIGHBOURS)
        )

    def epochs(self) -> str:
        """The numbers of epochs of the steps."""
        return " + ".join(
            str(len(pd.read_csv(self.folder / step / "metrics.csv"))) for step in self.method.steps
        )

    def facts(self) -> dict[str, float]:
        """Size, minutes and speed of a trained encoder; the speed is of the last step."""
        folders = [self.folder / step for step in self.method.steps]
        return {
            "parameters": sum(each["num_parameter"] for each in self.results("neighbour")),
            "minutes": sum(_read(folder)["train_minutes"] for folder in folders),
            "clips/s": pd.read_csv(folders[-1] / "metrics.csv")["clips_per_second"].median(),
        }

    def accuracies(self) -> dict[str, list[float]]:
        """Top-1 in percent of all finished runs of each evaluation."""
        folders = {name: name for name in NEIGHBOURS} | {
            f"{protocol} {100 * fraction:g} %": f"{protocol}/{fraction:g}/*"
            for protocol, fractions in FRACTIONS.items()
            for fraction in fractions
        }
        return {name: [100 * each["top1"] for each in self.results(where)] for name, where in folders.items()}

    def results(self, where: str) -> Iterator[dict[str, Any]]:
        """The results of the finished runs in folders by a pattern."""
        return map(_read, sorted(path.parent for path in self.folder.glob(f"{where}/result.json")))


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def config_of(name: str) -> Path:
    """The file of a config of NW-UCLA."""
    return CONFIGS / f"{name}.yaml"


def run(processor: str, config: str, work_dir: Path, words: Sequence[str]) -> None:
    """Run `main.py`, unless its results are in `work_dir`; ends the program if the run fails."""
    if (work_dir / "result.json").exists():
        return
    line = [processor, "-c", str(config_of(config)), "-w", str(work_dir), *words, "--resume"]
    if status := command.main(line):
        sys.exit(status)


def run_grid(words: Sequence[str]) -> None:
    """Run the cells of a grid that are not finished; ends the program if one fails."""
    command_line = [sys.executable, str(ROOT / "tools" / "label_efficiency.py"), *words]
    if status := subprocess.run(command_line).returncode:
        sys.exit(status)


def encoders(name: str, work_dir: Path) -> list[Encoder]:
    """The encoders of a method."""
    folder = work_dir / name.replace(" ", "_")
    return [
        Encoder(METHODS[name], folder / f"encoder{seed}", seed) for seed in range(METHODS[name].num_encoder)
    ]


def tables(work_dir: Path) -> str:
    """Markdown: what was trained, and how good it is; a row for each method that has a trained encoder.

    Accuracies are top-1 in percent, mean ± standard deviation over the encoders and the draws of labels. In brackets is
    the mean of each encoder.
    """
    trained, judged = [], []
    for name in METHODS:
        known = [encoder for encoder in encoders(name, work_dir) if encoder.is_known()]
        if not known:
            continue
        of_facts, of_encoders = (
            [getattr(each, what)() for each in known] for what in ("facts", "accuracies")
        )
        facts = {key: f"{statistics.mean(each[key] for each in of_facts):,.0f}" for key in of_facts[0]}
        trained.append({"method": name, "encoders": str(len(known)), "epochs": known[0].epochs(), **facts})
        shown = {key: _shown([each[key] for each in of_encoders]) for key in of_encoders[0]}
        judged.append({"method": name, **shown})
    return "\n\n".join(
        aligned([list(rows[0]), *(list(row.values()) for row in rows)]) for rows in (trained, judged) if rows
    )


def _shown(of_encoders: Sequence[Sequence[float]]) -> str:
    """Mean of all, deviation if there are more than one, and the means of several encoders."""
    top1, means = (
        [each for own in of_encoders for each in own],
        [statistics.mean(own) for own in of_encoders if own],
    )
    spread = f" ± {statistics.stdev(top1):.1f}" if len(top1) > 1 else ""
    each = f" ({', '.join(f'{mean:.1f}' for mean in means)})" if len(means) > 1 else ""
    return f"{statistics.mean(top1):.1f}{spread}{each}" if top1 else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("settings", nargs="*", metavar="key=value", help="keys of all runs")
    add("-w", "--work_dir", type=Path, required=True, metavar="DIR")
    add("--method", nargs="+", choices=METHODS, default=list(METHODS))
    add("--protocol", nargs="*", choices=FRACTIONS, default=list(FRACTIONS), help="beside nearest neighbours")
    add("--seed", nargs="+", type=int, help="of the encoders to train; default: all of the table")
    add("--draws", type=int, default=3, metavar="N", help="draws of the labels of each share")
    add("--scale", type=float, default=1.0, metavar="F", help="factor on the numbers of epochs")
    args = parser.parse_intermixed_args(argv)
    if args.draws < 1:
        parser.error(f"--draws is {args.draws}; give 1 or more")
    if not 0 < args.scale < math.inf:
        parser.error(f"--scale is {args.scale}; give more than 0")
    chosen = [encoder for name in args.method for encoder in encoders(name, args.work_dir)]
    known = {encoder.seed for encoder in chosen}
    seeds = known if args.seed is None else set(args.seed)
    if unknown := seeds - known:
        parser.error(
            f"--seed: no encoder of these methods has {sorted(unknown)}; give some of {sorted(known)}"
        )
    for encoder in (each for each in chosen if each.seed in seeds):
        weights = encoder.train(args.scale, args.settings)
        encoder.judge(weights, args.protocol, args.draws, args.settings)
        text = tables(args.work_dir)
        (args.work_dir / "RESULT.md").write_text(text + "\n", encoding="utf-8")
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
