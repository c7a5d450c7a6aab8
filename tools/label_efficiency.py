"""Label efficiency: accuracy over the share of labels, for several protocols and seeds.

    python tools/label_efficiency.py -c config/nw_ucla/label_efficiency.yaml [--fractions 0.01 0.05 1] [--seeds 3]

Each cell of the grid is a run of `linear_evaluation` or `finetune_evaluation` in its own folder below `work_dir`; the
protocol `scratch` is `finetune_evaluation` without weights. Finished cells are not run again, and interrupted cells
resume. The table, the curve and the sentences are written from all cells.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import pandas as pd
from matplotlib.figure import Figure
from omegaconf import MISSING

import main as command
from processor.figures import save_figure
from processor.io import write_text
from processor.metrics import CLASSIFICATION_METRICS
from processor.moved_configs import find_moved, print_new_command
from processor.state import differences
from torchlight.config import load_config
from torchlight.status import status_of

Protocol = Literal["linear", "finetune", "scratch"]
PROTOCOLS = get_args(Protocol)
POINTS = (1, 2, 5)


@dataclass
class GridConfig:
    """Keys of a grid; the command line can set each of them by key=value."""

    # folder of all runs, the table and the curve
    work_dir: str = MISSING
    # weights of the encoder; only `scratch` needs none
    weights: str | None = None
    # config of `linear_evaluation`
    linear: str = MISSING
    # config of `finetune_evaluation`, also for `scratch`
    finetune: str = MISSING
    # start of fine-tuning: the linear evaluation with the same labels, or the encoder with a new head
    finetune_from: Literal["linear", "encoder"] = "linear"
    # protocols to run
    protocols: list[Protocol] = field(default_factory=lambda: list(PROTOCOLS))
    # shares of the labels
    fractions: list[float] = field(default_factory=lambda: [0.01, 0.05, 0.15, 0.3, 1.0])
    # number of runs for each protocol and share, with different labelled clips and random numbers
    seeds: int = 3
    # split of the data, for every run; null: the one in the configs
    benchmark: str | None = None
    # keys of `data` for every run, such as `path`
    data: dict[str, Any] = field(default_factory=dict)
    # `key=value` settings of every run
    settings: list[str] = field(default_factory=list)


class Cell(NamedTuple):
    """One run of the grid."""

    protocol: str
    fraction: float
    seed: int


def check(config: GridConfig) -> Iterator[tuple[str, str]]:
    """Problems of a grid: keys and texts."""
    for fraction in config.fractions:
        if not 0 < fraction <= 1:
            yield "fractions", f"has {fraction}; a fraction is above 0, up to 1"
    for key, values in (("fractions", config.fractions), ("protocols", config.protocols)):
        if not values:
            yield key, "is empty; name one or more"
    if (
        config.finetune_from == "linear"
        and "finetune" in config.protocols
        and "linear" not in config.protocols
    ):
        yield (
            "finetune_from",
            "is 'linear', but protocols lacks it; add it there, or set finetune_from: encoder",
        )
    if config.weights is None and set(config.protocols) != {"scratch"}:
        yield "weights", "is null; name those of the encoder with --weights FILE"
    if config.seeds < 1:
        yield "seeds", f"is {config.seeds}; it is 1 or more"


class Grid:
    """Runs the cells of a grid that are not finished, and collects the results of all."""

    def __init__(self, config: GridConfig, *, overwrite: bool, plugins: Sequence[str] = ()) -> None:
        self.config, self.overwrite, self.plugins = config, overwrite, plugins
        self.folder = Path(config.work_dir)
        self.cells = [
            Cell(protocol, fraction, seed)
            for fraction in config.fractions
            # In this order, because fine-tuning may start from linear evaluation.
            for protocol in PROTOCOLS
            if protocol in config.protocols
            for seed in range(config.seeds)
        ]

    def work_dir(self, cell: Cell) -> Path:
        """Folder of a cell."""
        return self.folder / cell.protocol / f"{cell.fraction:g}" / f"seed{cell.seed}"

    def weights(self, cell: Cell) -> str:
        """The weights from which the run of a cell starts."""
        if cell.protocol == "scratch":
            return "null"
        if cell.protocol == "finetune" and self.config.finetune_from == "linear":
            return str(self.work_dir(cell._replace(protocol="linear")) / "best.pt")
        assert self.config.weights is not None
        return self.config.weights

    def words(self, cell: Cell) -> list[str]:
        """The command of a cell, after `main.py`."""
        linear, config = cell.protocol == "linear", self.config
        data = {"benchmark": config.benchmark} if config.benchmark is not None else {}
        data |= {f"data.{key}": json.dumps(value) for key, value in config.data.items()}
        return [
            "linear_evaluation" if linear else "finetune_evaluation",
            "-c",
            config.linear if linear else config.finetune,
            f"weights={self.weights(cell)}",
            f"data.label_fraction={cell.fraction}",
            f"data.label_seed={cell.seed}",
            f"seed={cell.seed}",
            *(f"{key}={value}" for key, value in data.items()),
            *config.settings,
            "-w",
            str(self.work_dir(cell)),
            *(f"--plugin={package}" for package in self.plugins),
        ]

    def is_finished(self, cell: Cell) -> bool:
        """Whether a cell needs no run.

        Raises:
            ValueError: it was run with another config or with older weights.
        """
        folder = self.work_dir(cell)
        if self.overwrite or not (folder / "result.json").exists():
            return False
        would_run = command.read_config(command.parse(self.words(cell)))
        changed = differences((folder / "config.yaml").read_text(encoding="utf-8"), would_run)
        remedy = "choose another work_dir with -w, or run all cells again with --overwrite"
        if changed:
            raise ValueError(f"{folder} was run with another config ({'; '.join(changed)}); {remedy}")
        weights = would_run.weights
        made = (folder / "result.json").stat().st_mtime
        if weights is not None and Path(weights).is_file() and Path(weights).stat().st_mtime > made:
            raise ValueError(f"{folder} was run before {weights} changed; {remedy}")
        return True

    def run(self) -> int:
        """Run the missing cells; returns the exit status of the first run that failed, or 0."""
        # Report errors in configs before any run; cells of one protocol differ only in numbers that are checked.
        for cell in {cell.protocol: cell for cell in self.cells}.values():
            command.read_config(command.parse(self.words(cell)))
        for number, cell in enumerate(self.cells, start=1):
            # Check here, not before the loop: a cell can start from one that has just been run.
            if self.is_finished(cell):
                continue
            of = f"cell {number} of {len(self.cells)}"
            print(f"{of}: {cell.protocol}, {100 * cell.fraction:g} % of the labels, seed {cell.seed}")
            status = command.main([*self.words(cell), "--overwrite" if self.overwrite else "--resume"])
            if status:
                return status
        return 0

    def table(self) -> pd.DataFrame:
        """One row a cell: protocol, fraction, seed, labels used, metrics."""
        rows = []
        for cell in self.cells:
            result: dict[str, Any] = json.loads(
                (self.work_dir(cell) / "result.json").read_text(encoding="utf-8")
            )
            names = ("num_label", *CLASSIFICATION_METRICS, "train_minutes")
            rows.append({**cell._asdict(), **{name: result.get(name) for name in names}})
        return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation of top-1 over the seeds, in percent, by protocol and fraction, in the table's order."""
    grouped = table.groupby(["protocol", "fraction"], sort=False)
    means = grouped.agg(
        mean=("top1", "mean"),
        deviation=("top1", "std"),
        runs=("top1", "size"),
        num_label=("num_label", "mean"),
    )
    means[["mean", "deviation"]] *= 100
    return means.reset_index()


def enough(means: pd.DataFrame) -> list[str]:
    """Sentences for each protocol: the smallest share of labels within `POINTS` of the accuracy with all labels.

    Two references: the protocol itself with all labels, and training from scratch with all labels.
    """
    full = means[means["fraction"] == 1].set_index("protocol")["mean"]
    if full.empty:
        return ["The grid has no runs with all labels (fraction 1), which the comparison needs."]
    lines = []
    for protocol, rows in means.groupby("protocol", sort=False):
        goals = {"its own figure with all labels": full.get(protocol)}
        if protocol != "scratch":
            goals["training from scratch with all labels"] = full.get("scratch")
        for name, goal in goals.items():
            if goal is None:
                continue
            reached = [
                f"{points} point{'s' if points > 1 else ''}: {_share(rows[rows['mean'] >= goal - points]['fraction'])}"
                for points in POINTS
            ]
            lines.append(
                f"{protocol}: smallest share of labels within … of {name} ({goal:.1f} %): {', '.join(reached)}."
            )
    return lines


def _share(fractions: pd.Series) -> str:
    return "none" if fractions.empty else f"{100 * fractions.min():g} %"


def markdown(means: pd.DataFrame) -> str:
    """Table of top-1 in percent, mean ± deviation over the seeds: a row a fraction, a column a protocol."""
    shown = pd.DataFrame(
        {
            "protocol": means["protocol"],
            "labels": (100 * means["fraction"]).map("{:g} %".format)
            + means["num_label"].map(" ({:.0f})".format),
            "top1": means["mean"].map("{:.1f}".format)
            + means["deviation"].map(" ± {:.1f}".format, na_action="ignore").fillna(""),
        }
    )
    wide = shown.pivot_table(index="labels", columns="protocol", values="top1", aggfunc="first", sort=False)
    lines = [["labels", *map(str, wide.columns)], ["---"] * (1 + wide.shape[1])]
    lines += [[str(index), *map(str, row)] for index, row in zip(wide.index, wide.to_numpy(), strict=True)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def draw(means: pd.DataFrame, path: Path) -> None:
    """Plot top-1 over the share of labels: for each protocol a line, and a band of one standard deviation."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for protocol, rows in means.sort_values("fraction").groupby("protocol", sort=False):
        x, mean, deviation = 100 * rows["fraction"], rows["mean"], rows["deviation"].fillna(0)
        (line,) = axes.plot(x, mean, marker="o", label=str(protocol))
        axes.fill_between(x, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2)
    ticks = sorted(100 * means["fraction"].unique())
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="labels used (%)", ylabel="test top-1 (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 a run failed or cannot be used, 2 wrong config."""
    parser = argparse.ArgumentParser(description="Accuracy over the share of labels, by protocol.")
    add = parser.add_argument
    add("settings", nargs="*", metavar="key=value", help="keys of the grid's config")
    add("-c", "--config", required=True, metavar="FILE", help="e.g. config/demo/label_efficiency.yaml")
    add("-w", "--work_dir", metavar="DIR", help="where the runs, the table and the curve go")
    add("--weights", metavar="FILE", help="of the encoder")
    add("--fractions", nargs="+", type=float, metavar="P", help="shares of the labels, 0 to 1")
    add("--seeds", type=int, metavar="N", help="runs of each cell")
    add("--protocols", nargs="+", choices=PROTOCOLS, help="default: all")
    add("--overwrite", action="store_true", help="run finished cells again")
    add("--plugin", action="append", default=[], metavar="PACKAGE", help="admit classes of this package")
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_intermixed_args(settings_first(words))
    named = ("work_dir", "weights", "fractions", "seeds", "protocols")
    settings = [
        *args.settings,
        *((key, getattr(args, key)) for key in named if getattr(args, key) is not None),
    ]
    print_new_command(args.config, args.settings, ["tools/label_efficiency.py", *words])
    return status_of(lambda: measure(args.config, settings, overwrite=args.overwrite, plugins=args.plugin))


def settings_first(words: Sequence[str]) -> list[str]:
    """The words of a command with its `key=value` settings first; options with several values would take them."""
    pairs = zip(["", *words], words, strict=False)
    is_setting = [
        "=" in word and not word.startswith("-") and not before.startswith("-") for before, word in pairs
    ]
    return [
        word
        for wanted in (True, False)
        for word, is_it in zip(words, is_setting, strict=True)
        if is_it is wanted
    ]


def measure(file: str, settings: Sequence[Any], *, overwrite: bool, plugins: Sequence[str]) -> int:
    """Run the grid of a config, and write its table and curve.

    Returns the exit status of the run that failed, or 0.
    """
    config = load_config(file, settings, GridConfig, check=check, find_moved=find_moved)
    grid = Grid(config, overwrite=overwrite, plugins=plugins)
    if status := grid.run():
        return status
    table = grid.table()
    means = summary(table)
    text = markdown(means) + "\n" + "\n".join(enough(means)) + "\n"
    write_text(grid.folder / "label_efficiency.csv", table.to_csv(index=False))
    write_text(grid.folder / "label_efficiency.md", text)
    draw(means, grid.folder / "label_efficiency.png")
    print(f"\n{text}\n{grid.folder}/label_efficiency.{{csv,md,png}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
