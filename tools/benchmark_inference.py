"""Benchmark: the time to an answer about one window, and what a stream costs."""

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
from net.utils.layouts import get_skeleton
from processor.experiment import Experiment
from processor.export import PackageMissing, check_packages, graph_of, record, to_onnx
from processor.inference import Recogniser
from processor.recognition import Recognition
from processor.trained import Trained, in_channels_last
from tools.contest import ROOT, Row, adjacency, ratio, take_turns
from tools.textbook_networks import STGCN
from torchlight.build import PACKAGES

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CONFIG = "config/nw_ucla/st_gcn.yaml"
FRAME_RATE = 30.0
STRIDE = 8
# Answers in a round: enough to tell the slowest of a hundred.
NUM_ANSWER = 100


def untrained(device: torch.device) -> Trained:
    """ST-GCN-16 as it is trained on NW-UCLA, with weights that leave features at the size of trained ones.

    By those that training begins with they become too small for the CPU's usual numbers, which takes longer.
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
    """One window of 32 frames with one body: from poses in memory to probabilities; the same, as a stream has it.

    The textbook is the same network in contiguous memory on a view that is made already. The exported graph, which
    makes the view too, runs in ONNX Runtime on as many threads as PyTorch has, if it is installed.
    """
    trained = untrained(device)
    recogniser = Recogniser([trained])
    num_joint, size = trained.skeleton.num_joint, recogniser.num_frame
    generator = np.random.default_rng(0)
    # A body that sways by centimetres: one that jumped would begin a new recording in every frame.
    poses = generator.uniform(-1, 1, (num_joint, 3)) + generator.uniform(0, 0.05, (size, num_joint, 3))
    poses = poses.astype(np.float32)
    stream = recogniser.stream(window=size, stride=STRIDE)
    usual = STGCN(adjacency("spatial", trained.skeleton.name), len(trained.class_names), 16).to(device).eval()
    view = torch.from_numpy(poses).permute(2, 0, 1)[None, ..., None].contiguous().to(device)

    def answer() -> None:
        for frame in poses[:STRIDE]:
            stream.push(frame)

    def textbook() -> None:
        with torch.inference_mode():
            usual(view).softmax(1).cpu()

    contestants: dict[str, Callable[[], object]] = {"ours": answer, "textbook": textbook}
    with contextlib.suppress(PackageMissing):
        session = exported_session(trained, poses)
        contestants["exported"] = lambda: session.run(None, {"poses": poses[None, ..., None]})
    for frame in poses:  # so that each answer is about a full window
        stream.push(frame)
    turns = take_turns(contestants, rounds * NUM_ANSWER)
    what = f"ST-GCN-16, a window of {size} frames, one body"
    names = {"ours": "", "exported": ", exported, on the CPU", "textbook": ", textbook's network alone"}
    for name, words in names.items():
        if name in turns:
            times = f"{ratio(turns['textbook'], turns[name]):.1f}" if name != "textbook" else ""
            yield _row(f"{what}{words}", turns[name], times)
    share = statistics.median(turns["ours"]) * FRAME_RATE / STRIDE
    of_stream = f"a stream of {FRAME_RATE:g} frames a second, an answer every {STRIDE}"
    yield Row(of_stream, "", time=f"{100 * share:.1f} % of a core")


def exported_session(trained: Trained, poses: np.ndarray) -> "InferenceSession":
    """ONNX Runtime on the CPU with the graph from poses, as these (T, V, C), to probabilities.

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
    """Answers a second, and milliseconds: the median, and what 99 of 100 need at most."""
    median, most = np.quantile(seconds, (0.5, 0.99))
    times = f"{1000 * median:.1f} ms; 99 of 100 within {1000 * most:.1f} ms"
    return Row(what, f"{1 / median:,.0f}", beside, times)
