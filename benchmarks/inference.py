"""Benchmark: the time from poses to class probabilities, for a window and in a stream."""

import contextlib
import copy
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

import main as command
from benchmarks.ntu import adjacency
from benchmarks.report import ROOT, Row
from benchmarks.textbook.st_gcn import STGCN
from benchmarks.timing import ratio, time_interleaved
from net.utils.layouts import get_skeleton
from processor.experiment import Experiment
from processor.export import check_packages, graph_of, record, to_onnx
from processor.inference import Recogniser
from processor.recognition import Recognition
from processor.trained import Trained, in_channels_last
from torchlight.build import PACKAGES
from torchlight.packages import PackageMissing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CONFIG = "config/nw_ucla/st_gcn.yaml"
FRAME_RATE = 30.0
STRIDE = 8
# Answers in a round; the slowest of a hundred is a column.
NUM_ANSWER = 100


def untrained(device: torch.device) -> Trained:
    """ST-GCN-16 as it is trained on NW-UCLA, with random weights that keep the scale of features.

    By the weights that training begins with, features become subnormal numbers, which a CPU computes slowly.
    """
    words = ["recognition", "-c", str(ROOT / CONFIG), "--device", str(device)]
    config = command.read_config(command.parse(words))
    experiment = Experiment(Recognition(config, PACKAGES))
    experiment.build("test")
    in_channels_last(experiment.model)
    experiment.finish_network()
    experiment.method.eval()
    for parameter in experiment.model.parameters():
        if parameter.dim() == 4:
            nn.init.kaiming_normal_(parameter)
    skeleton = get_skeleton(config.data.layout)
    names = tuple(map(str, range(config.data.num_class)))
    return Trained(
        Path("untrained"), "recognition", experiment, names, skeleton, "xyz", FRAME_RATE, "one", ()
    )


def inference(rounds: int, device: torch.device) -> Iterator[Row]:
    """One window of 32 frames with one body, from poses in memory to probabilities; and the load of a stream.

    The textbook is the same network in contiguous memory, on a view that is made before. The exported graph makes
    the view, too. It runs in ONNX Runtime, if that is installed, on as many threads as PyTorch has.
    """
    trained = untrained(device)
    recogniser = Recogniser([trained])
    num_joint, size = trained.skeleton.num_joint, recogniser.num_frame
    generator = np.random.default_rng(0)
    # A body that moves by centimetres. A stream takes a jump for the beginning of another recording.
    poses = generator.uniform(-1, 1, (num_joint, 3)) + generator.uniform(0, 0.05, (size, num_joint, 3))
    poses = poses.astype(np.float32)
    stream = recogniser.stream(window=size, stride=STRIDE)
    network = (
        STGCN(adjacency("spatial", trained.skeleton.name), len(trained.class_names), 16).to(device).eval()
    )
    view = torch.from_numpy(poses).permute(2, 0, 1)[None, ..., None].contiguous().to(device)

    def answer() -> None:
        for frame in poses[:STRIDE]:
            stream.push(frame)

    def textbook() -> None:
        with torch.inference_mode():
            network(view).softmax(1).cpu()

    functions: dict[str, Callable[[], object]] = {"ours": answer, "textbook": textbook}
    with contextlib.suppress(PackageMissing):
        session = exported_session(trained, poses)
        functions["exported"] = lambda: session.run(None, {"poses": poses[None, ..., None]})
    for frame in poses:  # so that each answer is for a full window
        stream.push(frame)
    seconds = time_interleaved(functions, rounds * NUM_ANSWER)
    what = f"ST-GCN-16, a window of {size} frames, one body"
    suffixes = {"ours": "", "exported": ", exported, on the CPU", "textbook": ", textbook's network alone"}
    for name, suffix in suffixes.items():
        if name in seconds:
            beside = f"{ratio(seconds['textbook'], seconds[name]):.1f}" if name != "textbook" else ""
            yield _row(f"{what}{suffix}", seconds[name], beside)
    share = statistics.median(seconds["ours"]) * FRAME_RATE / STRIDE
    of_stream = f"a stream of {FRAME_RATE:g} frames a second, an answer every {STRIDE}"
    yield Row(of_stream, "", time=f"{100 * share:.1f} % of a core")


def exported_session(trained: Trained, poses: np.ndarray) -> "InferenceSession":
    """ONNX Runtime on the CPU, with the graph from poses (T, V, C) to probabilities.

    Raises PackageMissing where a package of the extra `export` is not installed.
    """
    check_packages()
    import onnxruntime

    graph = graph_of(trained)
    graph = graph._replace(module=copy.deepcopy(graph.module).cpu())
    example = torch.from_numpy(poses)[None, ..., None].repeat(2, 1, 1, 1, 1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        to_onnx(record(graph.module, example), graph), options, providers=["CPUExecutionProvider"]
    )


def _row(what: str, seconds: list[float], beside: str) -> Row:
    """Answers per second; milliseconds of an answer: the median, and the 99th percentile."""
    median, most = np.quantile(seconds, (0.5, 0.99))
    times = f"{1000 * median:.1f} ms; 99 of 100 within {1000 * most:.1f} ms"
    return Row(what, f"{1 / median:,.0f}", beside, times)
