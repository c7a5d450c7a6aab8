"""Exported networks give what PyTorch does: as ONNX files, as traces, as exported programs; and the command."""

import importlib
import inspect
import io
import json
import pkgutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_adaptation import pretrain_config
from test_prediction import CONFIG as PREDICTION

import net
import net.as_gcn
import net.ctr_gcn
import net.long_term
import net.motion_mixer
import net.simlpe
import net.st_gcn
import net.st_gcn_pp
import net.transformer
from conftest import TINY_CONFIG, weights_by_formula
from feeder.ragged import RaggedBatch
from net.encoder import Encoder
from net.method import CROSS_ENTROPY, Method, as_method
from net.tokens import TokenEncoder
from net.utils.layouts import get_skeleton
from processor import export as exporting
from processor.encoder_weights import Probe
from processor.export import ClassProbability, Exported, NetworkForecast, graph_of, record, to_onnx
from processor.export_check import Disagreement, check_agreement, real_clips, synthetic_people
from processor.pose_inference import PosePredictor
from processor.registry import task_class
from processor.trained import load_trained
from tools import export
from torchlight.build import PACKAGES
from torchlight.checkpoint import load_checkpoint, save_checkpoint
from torchlight.config import parse_config

# Enough for every kind of block, since to export one takes seconds: the first, and one that goes to more channels
# and half the frames. CTR-GCN has one more that changes neither; ST-GCN adds one itself, of the kind of AS-GCN's.
FEW_BLOCKS = ((1, 1), (2, 2))


@pytest.fixture(autouse=True, scope="module")
def few_blocks():
    with pytest.MonkeyPatch.context() as patch:
        for module in (net.st_gcn, net.as_gcn, net.st_gcn_pp):
            patch.setattr(module, "BLOCKS", FEW_BLOCKS)
        patch.setattr(net.ctr_gcn, "BLOCKS", (*FEW_BLOCKS, (2, 1)))
        patch.setattr(net.as_gcn, "FUTURE_BLOCKS", ((9, 2), (5, 1)))
        yield


def st_gcn(in_channels=3, **changes):
    return net.st_gcn.Model(in_channels, 4, hidden_channels=4, hidden_dim=8, **changes)


def as_gcn(**changes):
    return net.as_gcn.Model(
        3, 4, hidden_channels=4, num_link_frame=6, link_hidden=8, num_predict=4, **changes
    )


def small_transformer(in_channels=3):
    return net.transformer.Model(
        in_channels, 4, patch=4, max_frame=16, width=16, depth=2, num_head=2, drop_path=0.2
    )


def probed():
    model = st_gcn(skip_empty_bodies=True, padding_mode="replicate")
    model.replace_head(Probe(model.feature_dim, 4))
    return model


def long_term(backbone, **changes):
    return net.long_term.LongTerm(
        backbone,
        num_predict=2,
        decoder_hidden=8,
        decoder_block=1,
        num_recent=4,
        embedding=4,
        queue_size=8,
        **changes,
    )


def predictor(cls, **changes):
    return cls(num_observe=12, num_predict=2, num_block=2, **changes)


def probability(model):
    return Exported(ClassProbability(as_method(model)), "x", "probability")


def future(model, predict):
    return Exported(NetworkForecast(as_method(model), predict), "x", "future")


# What can be exported of each network, and how large weights tell clips apart; a new network stands here, too.
# Some take poses in the picture: two channels, or three of which the last is confidence.
TABLE = {
    "ST-GCN, xy": (lambda: probability(st_gcn(in_channels=2)), 2.0),
    "AS-GCN": (lambda: probability(as_gcn(skip_empty_bodies=True)), 2.0),
    "AS-GCN, xyc, next poses": (lambda: future(as_gcn(channels="xyc", likeliest_links=True), 4), 1.0),
    "ST-GCN++": (lambda: probability(net.st_gcn_pp.Model(3, 4, hidden_channels=8)), 1.0),
    "CTR-GCN": (lambda: probability(net.ctr_gcn.Model(3, 4, base_channels=8)), 0.7),
    "transformer": (lambda: probability(small_transformer()), 1.0),
    "transformer, xy": (lambda: probability(small_transformer(in_channels=2)), 1.0),
    "encoder with a probe": (lambda: probability(probed()), 1.0),
    "long-term network": (lambda: probability(long_term(st_gcn(skip_empty_bodies=True))), 2.0),
    # More frames than it gives at once.
    "long-term network, next poses": (lambda: future(long_term(st_gcn(skip_empty_bodies=True)), 3), 1.0),
    "long-term network, xyc, next poses": (lambda: future(long_term(st_gcn(), channels="xyc"), 2), 1.0),
    "mixer, next poses": (lambda: future(predictor(net.motion_mixer.Model, mirror=True), 3), 1.0),
    "siMLPe, xyc, next poses": (lambda: future(predictor(net.simlpe.Model, channels="xyc"), 3), 1.0),
}


def randomise(module, gain=2.0):
    """Weights that tell clips apart, and statistics of batch norms that are not those of the start."""
    state = module.state_dict()
    keys = [(name, tuple(value.shape)) for name, value in state.items()]
    module.load_state_dict({**state, **weights_by_formula(keys, seed_offset=0, gain=gain)})


CLASS_NAMES = ["left arm", "right arm", "left leg", "right leg"]
# A test view that draws, in time and in space; its box does not.
DRAWN = """[{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]
  augment: [UnitBox, Shear]"""


def views(count=7, num_channel=3):
    """Network inputs (N, C, T, V, M): some without a second body, one without any."""
    x = torch.randn(count, num_channel, 12, 25, 2, generator=torch.Generator().manual_seed(1))
    x[1::2, ..., 1] = 0
    x[2] = 0
    return x


# What `make test` exports of networks; each of the others takes several times as long.
QUICK = {"ST-GCN, xy"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TABLE]
)
def test_a_recorded_network_gives_what_the_network_does(name):
    make, gain = TABLE[name]
    graph = make()
    randomise(graph.module, gain)
    graph.module.eval()
    x = views(num_channel=2 if name.endswith("xy") else 3)
    with torch.no_grad():
        expected = graph.module(x)
        assert expected[[0, 1, 3]].std(0).max() > 5e-3  # clips are told apart
        file = io.BytesIO()
        torch.jit.save(torch.jit.trace(graph.module, (x[:2],), check_trace=False), file)
        file.seek(0)
        program = record(graph.module, x[:2])
        for recorded in (torch.jit.load(file), program.module()):
            for count in (1, 7):
                torch.testing.assert_close(recorded(x[:count]), expected[:count], atol=1e-5, rtol=1e-5)
    assert check_agreement(to_onnx(program, graph), graph, x) < 1e-4


def test_every_network_is_in_the_table():
    inside = {type(part) for make, _ in TABLE.values() for part in make().module.modules()}
    for info in pkgutil.iter_modules(net.__path__):
        module = importlib.import_module(f"net.{info.name}")
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__:
                continue
            answers = issubclass(cls, Encoder) and cls not in (Encoder, TokenEncoder)
            answers |= issubclass(cls, Method) and CROSS_ENTROPY in cls.LOSSES
            assert not answers or cls in inside, f"{cls} is exported by no row of TABLE"


def test_the_older_exporter_takes_st_gcn():
    model = st_gcn()
    randomise(model)
    x, file = views(), io.BytesIO()
    axes = {"x": {0: "N"}}
    torch.onnx.export(
        model.eval(), (x[:2],), file, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
    )
    assert check_agreement(file.getvalue(), Exported(model, "x", "y"), x) < 1e-4


def write_weights(path: Path, processor: str, config: str) -> Path:
    """A checkpoint of a run with this config, as if it had learnt to tell clips apart."""
    task = task_class(processor)
    model = task(parse_config(config, "config", task.config_class), PACKAGES).build_model()
    randomise(model)
    skeleton = get_skeleton("ntu-rgb+d").to_dict()
    about = {"class_names": CLASS_NAMES, "skeleton": skeleton, "channels": "xyz", "frame_rate": 30.0}
    save_checkpoint(path, {"model": model.state_dict(), "processor": processor, "config": config, **about})
    return path


@pytest.fixture(scope="module")
def weights(tiny_data, tmp_path_factory):
    """Checkpoints by name of the processor."""
    folder = tmp_path_factory.mktemp("weights")
    tiny = TINY_CONFIG.format(data=tiny_data, work_dir=folder)
    drawn = (
        tiny.replace("[{Resize: {num_frame: 16}}]", DRAWN)
        .replace("dropout: 0.1", "skip_empty_bodies: true")
        .replace("batch_size: 16", "stream: bone")
    )
    configs = {
        "recognition": drawn,
        "pretrain": pretrain_config(tiny_data, folder, "net.vicreg.VICReg"),
        "finetune_evaluation": tiny,
        "linear_evaluation": tiny,
        "prediction": PREDICTION.format(data=tiny_data, work_dir=folder)
        .replace("center_per_frame", "align_torso")
        .replace("predict: 6", "predict: 2")
        .replace("num_predict: 4", "num_predict: 2"),
    }
    return {name: write_weights(folder / f"{name}.pt", name, config) for name, config in configs.items()}


def asked(path: Path, name: str, values: torch.Tensor) -> np.ndarray:
    """What an ONNX file answers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: values.contiguous().numpy()})
    return found


def call(weights: Path, out: Path, *args: str) -> int:
    return export.main(["--weights", str(weights), "--out", str(out), *args])


def test_the_command_writes_a_file_that_answers_as_the_run_does(weights, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert call(weights["recognition"], out) == 0
    assert "made-up" in (said := capsys.readouterr().out) and "recorded" in said
    trained = load_trained(weights["recognition"], device="cpu")
    poses = synthetic_people(trained)
    poses[::3, 0, ..., 0] = poses[::3, 1, ..., 0]
    tracks = [
        torch.stack([body for body in clip.permute(3, 0, 1, 2) if body.any()]).contiguous() for clip in poses
    ]
    shown = trained.test_view().deterministic()(RaggedBatch.of_tracks(tracks), torch.Generator())
    with torch.no_grad():
        expected = trained.model(shown).softmax(1)
    assert expected.std(0).max() > 5e-3
    np.testing.assert_allclose(asked(out, "poses", poses), expected, atol=1e-4)

    model = onnx.load(out)
    (given,), (made,) = model.graph.input, model.graph.output
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]] == [16, 25, 3, 2]
    assert (given.type.tensor_type.shape.dim[0].dim_param, made.name) == ("N", "probability")
    assert model.opset_import[0].version >= 17
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["class_names"]) == CLASS_NAMES
    assert (said["layout"], said["stream"], said["channels"]) == ("ntu-rgb+d", "bone", "xyz")
    assert (json.loads(said["frame_rate"]), json.loads(said["window"])) == (30.0, 16)
    assert len(json.loads(said["joints"])) == 25

    before = out.read_bytes()
    assert call(weights["recognition"], out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.slow
def test_next_poses_are_in_the_recording_s_coordinates(weights, tmp_path):
    trained = load_trained(weights["prediction"], device="cpu")
    out = tmp_path / "model.onnx"
    assert call(weights["prediction"], out) == 0
    poses = torch.cat((real_clips(trained)[:4], synthetic_people(trained)))
    poses[0, -1, 4] = 0  # a joint that is not seen last
    poses[2, -1, ..., 0] = 0  # nor is the first body
    poses[5, -1, ..., 1] = 0
    found = asked(out, "poses", poses)
    predictor = PosePredictor([trained])
    for clip, answer in zip(poses, found, strict=True):
        if not clip[-1].any():
            assert not answer.any()
            continue
        expected = np.zeros((2, 2, 25, 3))
        of_bodies = predictor(clip.permute(3, 0, 1, 2))  # (M, P, V, C)
        expected[: len(of_bodies)] = of_bodies
        np.testing.assert_allclose(answer.transpose(3, 0, 1, 2), expected, atol=1e-4)
    moved = np.abs(found[1] - poses[1, -1].numpy())
    assert found[1].any()
    assert 1e-3 < moved.max() < 10


@pytest.mark.parametrize("normalise", ["none", "center_first_frame", "center_per_frame", "align_torso"])
def test_poses_that_stand_still_come_back_as_recorded(weights, normalise):
    trained = load_trained(weights["prediction"], device="cpu")
    trained.config.test_view.normalise = normalise
    torch.nn.init.zeros_(trained.model.decoder.out.weight)
    torch.nn.init.zeros_(trained.model.decoder.out.bias)
    poses = synthetic_people(trained)
    poses[1, -1, 4] = 0
    poses[3, -1, ..., 0] = 0  # the others are placed where it was last
    with torch.no_grad():
        found = graph_of(trained).module(poses)
    expected = poses[:, -1:].expand_as(found).clone()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["finetune_evaluation", "linear_evaluation"])
def test_an_adapted_encoder_is_a_graph(weights, name):
    trained = load_trained(weights[name], device="cpu")
    whole, network = (graph_of(trained, network_only=only) for only in (False, True))
    assert (whole.input, network.input, whole.output) == ("poses", "x", "probability")
    poses = synthetic_people(trained)
    with torch.no_grad():
        expected = network.module(exporting.dense_view(trained)(poses))
        torch.testing.assert_close(whole.module(poses), expected)


def test_the_network_alone_takes_what_the_view_makes(weights, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(export, "record", lambda module, example: taken.append((module, example)))
    monkeypatch.setattr(export, "to_onnx", lambda program, graph, metadata: b"onnx")
    monkeypatch.setattr(export, "check_agreement", lambda content, graph, inputs: 0.0)
    assert call(weights["recognition"], tmp_path / "model.onnx", "--network_only") == 0
    ((module, x),) = taken
    trained = load_trained(weights["recognition"], device="cpu")
    torch.testing.assert_close(x, exporting.dense_view(trained)(synthetic_people(trained)))
    with torch.no_grad():
        torch.testing.assert_close(module(x), trained.model(x).softmax(1))


def test_without_its_data_a_graph_is_compared_on_made_up_people(weights):
    trained = load_trained(weights["recognition"], device="cpu")
    trained.config.data.path = "elsewhere.h5"
    assert real_clips(trained) is None
    poses = synthetic_people(trained)
    assert poses.shape == (7, 16, 25, 3, 2)
    assert poses[1, ..., 1].any() and not poses[0, ..., 1].any() and not poses[0, 0].any()


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_graph_of_another_network_is_found_out(weights, tmp_path, capsys, monkeypatch, wrong):
    layer = torch.nn.Linear(3, 2)
    graph, x = Exported(layer, "x", "y"), torch.randn(7, 3)
    content = to_onnx(record(layer, x), graph)
    assert check_agreement(content, graph, x) < 1e-5
    torch.nn.init.constant_(layer.bias, wrong)
    with pytest.raises(Disagreement):
        check_agreement(content, graph, x)
    for name, value in {"graph_of": graph, "to_onnx": content, "record": None}.items():
        monkeypatch.setattr(export, name, lambda *args, value=value, **kwargs: value)
    monkeypatch.setattr(export, "synthetic_people", lambda trained: x)
    monkeypatch.setattr(export, "real_clips", lambda trained: None)
    assert call(weights["recognition"], tmp_path / "model.onnx") == 1
    assert "differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def foreign(path: Path) -> Path:
    torch.save({"state_dict": {"layer.weight": torch.zeros(3, 3)}}, path)
    return path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("missing", "nowhere.pt"),
        ("pretrain", "finetune_evaluation"),
        ("foreign", "--config"),
        ("foreign with config", "layer.weight"),
        ("other layout", "of another shape: A "),
        ("no checkpoint", "best.txt"),
    ],
)
def test_weights_that_cannot_be_exported_are_refused(weights, tmp_path, capsys, given, said):
    config, other = tmp_path / "config.yaml", tmp_path / "other.yaml"
    text = load_checkpoint(weights["linear_evaluation"])["config"]
    config.write_text(text)
    other.write_text(text.replace("ntu-rgb+d", "openpose"))
    damaged = tmp_path / "best.txt"
    damaged.write_text("weights")
    words = {
        "missing": [tmp_path / "nowhere.pt"],
        "pretrain": [weights["pretrain"]],
        "foreign": [foreign(tmp_path / "foreign.pt")],
        "foreign with config": [tmp_path / "foreign.pt", "--config", str(config)],
        "other layout": [weights["finetune_evaluation"], "--config", str(other)],
        "no checkpoint": [damaged],
    }[given]
    out = tmp_path / "model.onnx"
    assert call(words[0], out, *words[1:]) in (1, 2)
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_places_that_cannot_be_written_are_refused_first(tmp_path, capsys):
    weights = tmp_path / "nowhere.pt"
    assert call(weights, tmp_path) == 1
    assert "is a folder" in capsys.readouterr().err
    assert call(weights, tmp_path / "none" / "model.onnx") == 1
    assert "no folder" in capsys.readouterr().err


def test_a_package_that_is_not_installed_is_named(weights, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    assert call(weights["recognition"], tmp_path / "model.onnx") == 1
    error = capsys.readouterr().err
    assert "onnxscript" in error and "[export]" in error and "onnxruntime" not in error
