"""A map of an encoder's features: t-SNE of the frozen features of clips, coloured by class.

    python tools/embed.py -c config/demo/knn.yaml --weights work_dir/demo/stage1/joint/best.pt --out work_dir/demo/embed

Takes a config of `knn_evaluation` and the weights of any run of the same model; writes `embed.png` and `embed.csv`
(clip, class, x, y).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

import main as command
from processor.experiment import Experiment
from processor.features import extract_features
from processor.figures import save_figure
from processor.fonts import legible
from processor.io import write_text
from processor.knn_evaluation import KnnEvaluation, whitening_of
from processor.moved_configs import print_new_command
from torchlight.build import PACKAGES
from torchlight.status import status_of


def embed(features: np.ndarray, *, perplexity: float, seed: int) -> np.ndarray:
    """Positions (N, 2) of clips from features (N, D), by t-SNE with cosine distance (van der Maaten and Hinton 2008).

    Raises:
        ValueError: the perplexity is not above 0, or not below the number of clips.
    """
    if not 0 < perplexity < len(features):
        raise ValueError(
            f"perplexity is {perplexity:g} for {len(features)} clips; give a number above 0 and below {len(features)}"
        )
    model = TSNE(2, perplexity=perplexity, metric="cosine", init="random", random_state=seed)
    return model.fit_transform(features)


def draw(table: pd.DataFrame, class_names: Sequence[str], path: Path) -> None:
    """Draw a dot for each clip, and a legend for up to 20 classes."""
    classes = sorted(set(table["class"]))
    colours = colormaps["turbo"](np.linspace(0, 1, len(classes)))
    with legible(class_names) as names:
        shown = dict(zip(class_names, names, strict=True))
        figure = Figure(figsize=(8, 7), layout="constrained")
        axes = figure.subplots()
        for name, colour in zip(classes, colours, strict=True):
            rows = table[table["class"] == name]
            axes.scatter(rows["x"], rows["y"], s=8, color=colour, label=shown[name])
        axes.set_xticks([])
        axes.set_yticks([])
        if len(classes) <= 20:
            axes.legend(fontsize="x-small", markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
        save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 the weights or the data cannot be used, 2 wrong config."""
    parser = argparse.ArgumentParser(description="t-SNE of frozen features, coloured by class.")
    add = parser.add_argument
    add("settings", nargs="*", metavar="key=value", help="settings that override the config's")
    add("-c", "--config", required=True, metavar="FILE", help="a config of knn_evaluation")
    add("--weights", required=True, metavar="FILE", help="of the encoder")
    add("--out", required=True, type=Path, metavar="DIR", help="where embed.png and embed.csv go")
    add("--part", choices=("test", "train"), default="test", help="whose clips (default: test)")
    add("--overwrite", action="store_true", help="replace what --out holds")
    add("--perplexity", type=float, default=30.0, help="effective number of neighbours (default: 30)")
    add("--plugin", action="append", default=[], metavar="PACKAGE", help="admit classes of this package")
    add("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, …")
    args = parser.parse_intermixed_args(argv)
    print_new_command(
        args.config, args.settings, ["tools/embed.py", *(sys.argv[1:] if argv is None else argv)]
    )
    return status_of(lambda: make_map(args))


def make_map(args: argparse.Namespace) -> None:
    """Embed the clips of a part, and write table and figure."""
    if (args.out / "embed.csv").exists() and not args.overwrite:
        raise FileExistsError(f"{args.out} holds an earlier map; replace it with --overwrite")
    words = ["knn_evaluation", "-c", args.config, *args.settings, "--weights", args.weights]
    words += ["--device", args.device, "-w", str(args.out), *(f"--plugin={each}" for each in args.plugin)]
    config = command.read_config(command.parse(words))
    run = Experiment(KnnEvaluation(config, (*PACKAGES, *args.plugin)))
    run.setup("test")
    loader = run.loaders[args.part]
    loader = loader.with_views(run.loaders["test"].views, batch_size=config.test_batch_size)
    features = extract_features(run.encoder, loader, loader.iterate(), run.autocast())
    features = whitening_of(run, config)(features).mean(1)
    places = embed(features.cpu().numpy(), perplexity=args.perplexity, seed=config.seed)
    names = np.asarray(loader.feeder.class_names)[loader.feeder.label]
    table = pd.DataFrame({"name": loader.feeder.name, "class": names, "x": places[:, 0], "y": places[:, 1]})
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "embed.csv", table.to_csv(index=False))
    draw(table, loader.feeder.class_names, args.out / "embed.png")
    print(f"{len(table)} clips; {args.out}/embed.png and embed.csv")


if __name__ == "__main__":
    sys.exit(main())
