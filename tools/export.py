"""Write a trained network as an ONNX file, which runs without PyTorch.

    python tools/export.py --weights work_dir/nw_ucla/st_gcn/joint/best.pt --out st_gcn.onnx

The input is `poses` (N, T, V, C, M), as recorded: a window of the recording, resampled to the T frames of the weights'
view. Normalisation, steps in space and stream of the test view are in the graph. The output is `probability`
(N, classes). For weights of prediction it is `future` (N, P, V, C, M), the next poses. N is free. M is the weights'
number of bodies; absent bodies are zeros. Names of classes and joints, frame rate and window are in the file.

The command compares onnxruntime with PyTorch, and writes nothing if they differ.
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

from feeder.class_names import read_class_names
from processor.export import OPSET, check_packages, dense_view, graph_of, metadata_of, record, to_onnx
from processor.export_check import check_agreement, real_clips, synthetic_people
from processor.trained import load_trained
from torchlight.checkpoint import atomic_write
from torchlight.status import status_of


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", required=True, type=Path, metavar="FILE", help="best.pt of a run")
    add("--out", required=True, type=Path, metavar="FILE", help="the ONNX file, e.g. model.onnx")
    add(
        "--network_only",
        action="store_true",
        help="leave the view out: the input is the network's, x (N, C, T, V, M)",
    )
    add("--overwrite", action="store_true", help="replace --out")
    add("--config", type=Path, metavar="FILE", help="config of the run, for weights that hold none")
    add("--class_names", type=Path, metavar="FILE", help="a name a line, for weights that hold none")
    add("--plugin", action="append", default=[], metavar="PACKAGE", help="admit models of this package")
    return parser.parse_args(argv)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise OSError if `out` cannot be written."""
    if out.is_dir():
        raise IsADirectoryError(f"--out {out} is a folder; name a file, e.g. {out / 'model.onnx'}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; replace it with --overwrite, or name another file")


def export(args: argparse.Namespace) -> None:
    """Export a network, compare it with PyTorch, and write the file."""
    check_packages()
    check_out(args.out, overwrite=args.overwrite)
    trained = load_trained(
        args.weights,
        config=args.config,
        class_names=args.class_names and read_class_names(args.class_names),
        device="cpu",
        plugins=args.plugin,
    )
    for what in trained.unknown:
        print(f"{trained.path} does not say {what}", file=sys.stderr)
    graph = graph_of(trained, network_only=args.network_only)
    view = dense_view(trained) if args.network_only else None
    kinds = {"made-up": synthetic_people(trained)}
    try:
        if (clips := real_clips(trained)) is not None:
            kinds["recorded"] = clips
    except (OSError, ValueError) as error:
        print(f"clips of {trained.config.data.path} are not compared: {error}", file=sys.stderr)
    inputs = {kind: poses if view is None else view(poses) for kind, poses in kinds.items()}
    program = record(graph.module, inputs["made-up"])
    content = to_onnx(program, graph, metadata_of(trained))
    apart = {kind: check_agreement(content, graph, clips) for kind, clips in inputs.items()}
    with atomic_write(args.out) as file:
        file.write(content)
    shape = ", ".join(map(str, inputs["made-up"].shape[1:]))
    agreed = " and ".join(f"{value:.0e} on {len(inputs[kind])} {kind} clips" for kind, value in apart.items())
    print(
        f"{args.out}: {len(content) / 1e6:.1f} MB, opset {OPSET}, from {graph.input} (N, {shape}) to {graph.output}; "
        f"onnxruntime and PyTorch agree to {agreed}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 written, 1 not, 2 wrong usage or config."""
    args = parse(argv)
    return status_of(lambda: export(args))


if __name__ == "__main__":
    sys.exit(main())
