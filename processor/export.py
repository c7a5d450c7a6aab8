"""A trained network as an ONNX graph, which runs without this program.

N clips, M bodies, B = N * M bodies in all, T frames, V joints, C coordinates, P predicted frames.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from feeder.dense import DenseView
from net.method import Method
from net.utils.clip import Clip, presence
from processor.prediction import PredictionConfig
from processor.prediction_metrics import as_recorded, roll_out
from processor.trained import Trained
from torchlight.packages import require

# The packages of the extra `export` in setup.py.
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
# The only dimension of the input that is not fixed, and its name in the file.
ANY_BATCH = ({0: torch.export.Dim("N")},)


class ClassProbability(nn.Module):
    """Probabilities of classes."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """From the network's input (N, C, T, V, M), see `Clip.of`, to (N, num_class)."""
        return self.method.scores(Clip.of(x, present)).softmax(1)


class PoseProbability(nn.Module):
    """Probabilities of classes, from poses in the coordinates of the recording."""

    def __init__(self, view: DenseView, probability: ClassProbability) -> None:
        super().__init__()
        self.view, self.probability = view, probability

    def forward(self, poses: Tensor) -> Tensor:
        """From poses (N, T, V, C, M), as recorded, to (N, num_class)."""
        return self.probability(self.view(poses), recorded_presence(poses))


class NetworkForecast(nn.Module):
    """The next poses in the coordinates of a network's input.

    predict: P.
    """

    def __init__(self, method: Method, predict: int) -> None:
        super().__init__()
        self.method, self.predict = method, predict

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """From the network's input (N, C, T, V, M), see `Clip.of`, to (N, C, P, V, M)."""
        return roll_out(self.method.forecast, Clip.of(x, present), self.predict)


class PoseForecast(nn.Module):
    """The next poses in the coordinates of the recording.

    forecast: the network's.
    view: normalises the poses; has no steps in space, and the stream `joint`.
    """

    def __init__(self, forecast: NetworkForecast, view: DenseView) -> None:
        super().__init__()
        self.forecast, self.view = forecast, view

    def forward(self, poses: Tensor) -> Tensor:
        """From poses (N, T, V, C, M), as recorded, to (N, P, V, C, M); joints absent from the last frame are 0."""
        bodies = poses.permute(0, 4, 1, 2, 3)
        normalised, matrix = self.view.normalise(bodies)
        moved = self.forecast(normalised.permute(0, 4, 2, 3, 1), recorded_presence(poses))
        moved = moved.permute(0, 4, 2, 3, 1)  # (N, M, P, V, C)
        future = as_recorded(
            moved.flatten(0, 1),
            normalised[:, :, -1].flatten(0, 1),
            None if matrix is None else matrix[:, -1],
            bodies[:, :, -1].flatten(0, 1),
        )
        return future.unflatten(0, bodies.shape[:2]).permute(0, 2, 3, 4, 1)


def recorded_presence(poses: Tensor) -> Tensor:
    """Presence (N, M, T) bool of bodies in poses (N, T, V, C, M), as recorded: absent bodies are all 0."""
    return presence(poses.permute(0, 3, 1, 2, 4))


class Exported(NamedTuple):
    """The module to export, in eval mode, and the names of its input and output."""

    module: nn.Module
    input: str
    output: str


def graph_of(trained: Trained, *, network_only: bool = False) -> Exported:
    """The module to export: from poses (N, T, V, C, M), as recorded, to probabilities or predicted poses.

    Args:
        trained: the network.
        network_only: leave out the view (normalisation, steps in space, stream). Input is then the network's,
            (N, C, T, V, M), and predicted poses are in its coordinates.

    Raises:
        ValueError: the view cannot be part of a graph.
    """
    config, method = trained.config, trained.method
    if not isinstance(config, PredictionConfig):
        scorer = ClassProbability(method)
        if network_only:
            return Exported(scorer.eval(), "x", "probability")
        return Exported(PoseProbability(dense_view(trained), scorer).eval(), "poses", "probability")
    forecast = NetworkForecast(method, config.predict)
    if network_only:
        return Exported(forecast.eval(), "x", "future")
    view, normalise = dense_view(trained), config.test_view.normalise
    if view.normalisation.uses_later_frames:
        raise ValueError(
            f"test_view.normalise is {normalise!r}, which changes frames by later ones: poses cannot be predicted"
        )
    whole = PoseForecast(forecast, view)
    return Exported(whole.eval(), "poses", "future")


def dense_view(trained: Trained) -> DenseView:
    """The run's test view without its sampling, for poses (N, T, V, C, M) that are sampled already."""
    return DenseView(trained.test_view())


def window_of(trained: Trained) -> int:
    """T, the number of frames that the network takes."""
    config = trained.config
    return config.observe if isinstance(config, PredictionConfig) else trained.test_view().num_frame


def metadata_of(trained: Trained) -> dict[str, str]:
    """Metadata for the file: text as it is, numbers and lists as JSON."""
    config, skeleton = trained.config, trained.skeleton
    content: dict[str, Any] = {
        "class_names": list(trained.class_names),
        "layout": skeleton.name,
        "joints": list(skeleton.joints),
        "channels": trained.channels,
        "num_body": config.data.num_body,
        "window": window_of(trained),
        "frame_rate": trained.frame_rate,
        "normalise": config.test_view.normalise,
        "stream": config.stream,
        "processor": trained.name,
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in content.items()
    }


def check_packages() -> None:
    """Raise PackageMissing if one of `PACKAGES` is not installed."""
    require(PACKAGES, "export")


def record(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The operations of a module, for any batch size; `example` is a batch of two or more clips."""
    with _quietly(), torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=ANY_BATCH, strict=False)


def to_onnx(
    program: torch.export.ExportedProgram, graph: Exported, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The content of an ONNX file of a recorded program.

    Args:
        program: made by `record` from the graph's module.
        graph: names input and output.
        metadata: properties to write into the file.
    """
    import onnx

    with _quietly():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=ANY_BATCH,  # sets the name of the dimension
            input_names=[graph.input],
            output_names=[graph.output],
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    onnx.helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress warnings and log messages of PyTorch's exporter."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
