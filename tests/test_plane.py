"""Poses in the picture through and through: prepared, trained by the printed command, used, exported."""

import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import Given, forecast, learn

import main
import net.as_gcn
import net.long_term
import net.st_gcn
import stage1
from data_gen.pyskl_gen_preprocess import main as prepare
from feeder.prepared import open_prepared
from feeder.recordings.files import read_recordings, recorded_poses
from feeder.recordings.reading import ReadOptions
from processor.inference import Recogniser
from tools import export
from torchlight.checkpoint import load_checkpoint

ROOT = Path(main.__file__).parent
HEIGHT, WIDTH, NUM_FRAME = 480, 640, 24
# Of COCO's joints, the one that moves: a wrist up and down, or from side to side.
WRIST = 9
QUICK = [
    "num_epoch=1",
    "min_epoch_clip=0",
    "batch_size=4",
    "test_repeat=1",
    "tensorboard=false",
    "device=cpu",
]
NARROW = ["model_args.hidden_channels=4", "model_args.hidden_dim=16", "optim.warmup_epoch=0"]


def made_up_clip(label: int, seed: int) -> dict:
    """A clip as PYSKL has it: a person somewhere in the picture, some of whose joints are not seen."""
    random = np.random.default_rng(seed)
    pose = np.random.default_rng(0).uniform(-60, 60, (17, 2))
    keypoint = np.tile(pose, (1, NUM_FRAME, 1, 1)) + random.uniform(150, 350, 2)
    swing = 40 * np.sin(np.arange(NUM_FRAME) * 2 * np.pi / 12 + random.uniform(0, 6))
    keypoint[0, :, WRIST, label] += swing
    keypoint += random.normal(0, 1, keypoint.shape)
    score = random.uniform(0.3, 1, keypoint.shape[:3])
    score[random.uniform(size=score.shape) < 0.1] = 0
    return {
        "frame_dir": f"clip{seed:03d}",
        "label": label,
        "keypoint": keypoint.astype(np.float32),
        "keypoint_score": score.astype(np.float32),
        "img_shape": (HEIGHT, WIDTH),
        "total_frames": NUM_FRAME,
    }


def prepared_command(folder: Path, capsys: pytest.CaptureFixture[str], **changes: object) -> list[str]:
    """The command that preparing 16 clips prints, in words from the processor on."""
    clips = [made_up_clip(number % 2, number) for number in range(16)]
    clips = [
        {key: value for key, value in {**clip, **changes}.items() if value is not None} for clip in clips
    ]
    names = [clip["frame_dir"] for clip in clips]
    content = {"split": {"train": names[:12], "test": names[12:]}, "annotations": clips}
    (folder / "flat.pkl").write_bytes(pickle.dumps(content))
    assert prepare(["--data_path", str(folder / "flat.pkl"), "--out", str(folder / "flat.h5")]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:2] == ["python", "main.py"]
    return words[2:]


def train(words: list[str], work_dir: Path, *settings: str) -> int:
    return main.main([*words, "-w", str(work_dir), *QUICK, *settings])


@pytest.mark.parametrize(
    ("changes", "channels", "unit"),
    [
        ({}, "xyc", "picture"),
        ({"img_shape": None}, "xyc", "px"),
        ({"keypoint_score": None}, "xy", "picture"),
    ],
    ids=["picture", "pixels", "no confidence"],
)
def test_the_printed_command_trains(changes, channels, unit, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys, **changes)
    prepared = open_prepared(tmp_path / "flat.h5")
    assert (prepared.channels, prepared.unit) == (channels, unit)
    # Whoever reads a clip's file knows, too, which numbers are places.
    options = ReadOptions(prepared.skeleton)
    clips = read_recordings("flat", tmp_path / "flat.h5", options, bodies="as given")
    assert {(clip.channels, clip.recording.channels) for clip in clips} == {(channels, channels)}
    assert words[2] == "config/custom/st_gcn_2d.yaml" and f"data.channels={channels}" in words
    assert train(words, tmp_path / "run", *NARROW) == 0
    content = load_checkpoint(tmp_path / "run" / "best.pt")
    assert content["channels"] == channels
    recogniser = Recogniser.load(tmp_path / "run" / "best.pt", device="cpu")
    tested = [
        recorded_poses(prepared.name[clip], prepared.read(np.array([clip])), recogniser.skeleton, channels)
        for clip in range(12, 16)
    ]
    with np.load(tmp_path / "run" / "scores.npz") as scores:
        expected = torch.from_numpy(scores["scores"]).softmax(1)
    np.testing.assert_allclose(recogniser.probabilities(tested), expected, atol=1e-5)
    # The same unit is not asked for: a box is around the joints wherever they are.
    (once,) = recogniser.windows(tested[0], [NUM_FRAME - 1])
    stretched = prepared.read(np.array([12]))
    stretched[..., :2] = np.where((stretched != 0).any(-1, keepdims=True), 480 * stretched[..., :2] + 700, 0)
    (again,) = recogniser.windows(
        recorded_poses("px", stretched, recogniser.skeleton, channels), [NUM_FRAME - 1]
    )
    np.testing.assert_allclose(again, once, atol=1e-4)


def test_pre_training_in_the_picture_and_fine_tuning_from_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    settings = [word for word in words[3:] if "=" in word]
    pretrained = tmp_path / "pretrain"
    command = [
        "-c",
        "config/custom/pretrain_aimclr_2d.yaml",
        "-w",
        str(pretrained),
        *settings,
        *QUICK,
        *NARROW,
    ]
    assert stage1.main(command, processor="pretrain", config=stage1.CONFIG) == 0
    assert (
        train(words, tmp_path / "run", *NARROW, f"weights={pretrained / 'best.pt'}", "ignore_weights=[fcn]")
        == 0
    )


LONG_TERM = [
    *("method_args.queue_size=16", "method_args.embedding=8", "method_args.decoder_hidden=8"),
    *("model_args.hidden_channels=4", "optim.warmup_epoch=0", "num_epoch=3"),
    *(f"schedule.{phase}.num_epoch=1" for phase in range(2)),
]
AS_GCN = [
    *(
        "model=net.as_gcn.Model",
        "model_args={_delete_: true, layout: coco, num_class: 2, in_channels: 3, channels: xyc}",
    ),
    *("model_args.hidden_channels=4", "model_args.link_hidden=8", "model_args.num_predict=4"),
    *(
        "train_view.sampling.0.RandomResizedCrop.num_ahead=4",
        "train_view.augment=[{UnitBox: {num_seen: 32}}]",
    ),
    *("test_view.sampling=[{Resize: {num_frame: 32}}]", "test_view.augment=[UnitBox]"),
    "schedule=[{name: all, losses: {cross_entropy: 1.0, future: 0.1, nll: 0.001, kl: 1.0}}]",
    "optim.lr=0.0005",
]
CTR_GCN = [
    *(
        "model=net.ctr_gcn.Model",
        "model_args={_delete_: true, layout: coco, num_class: 2, in_channels: 3, num_body: 1}",
    ),
    "model_args.base_channels=8",
]


@pytest.mark.parametrize("stream", ["joint", "bone_motion"])
@pytest.mark.parametrize("settings", [AS_GCN, CTR_GCN], ids=["as_gcn", "ctr_gcn"])
def test_other_networks_train_in_the_picture(settings, stream, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    if "motion" in stream and settings is AS_GCN:
        settings = [*settings, "without=[future]"]
        settings.remove("train_view.sampling.0.RandomResizedCrop.num_ahead=4")
    assert train(words, tmp_path / "run", *settings, f"stream={stream}", "optim.warmup_epoch=0") == 0


def test_the_long_term_network_trains_in_the_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    words[2] = "config/custom/long_term_st_gcn_2d.yaml"
    assert train(words, tmp_path / "run", *LONG_TERM) == 0
    model = load_checkpoint(tmp_path / "run" / "best.pt")["model"]
    # Ten frames of x and y.
    assert len(model["decoder.out.weight"]) == 20


@pytest.mark.parametrize("said", ["xyz", "xy"])
def test_other_channels_than_the_files_are_refused(said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    words = [f"data.channels={said}" if word.startswith("data.channels=") else word for word in words]
    assert train(words, tmp_path / "run", *NARROW) == 1
    assert "data.channels=xyc" in capsys.readouterr().err


def test_all_that_needs_depth_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    settings = [
        "train_view.augment=[Shear, {Rotate: {max_angle: [0.3, 0, 0.1]}}, RotateMainAxis, Flip]",
        "train_view.normalise=align_torso",
        "model_args.in_channels=2",
    ]
    assert train(words, tmp_path / "run", *settings) == 2
    said = capsys.readouterr().err
    for key in ("augment.0.Shear", "augment.1.Rotate", "augment.2.RotateMainAxis", "normalise"):
        assert f"train_view.{key}" in said
    assert "model_args.in_channels" in said and "Flip" not in said


@pytest.mark.slow
def test_what_is_exported_answers_as_the_run_does(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    view = ["test_view.sampling=[{Resize: {num_frame: 24}}]", "test_view.augment=[UnitBox]", "stream=bone"]
    assert train(words, tmp_path / "run", *NARROW, *view) == 0
    weights, out = tmp_path / "run" / "best.pt", tmp_path / "model.onnx"
    assert export.main(["--weights", str(weights), "--out", str(out)]) == 0
    assert "recorded" in capsys.readouterr().out  # the run's own clips agree, too
    prepared, recogniser = open_prepared(tmp_path / "flat.h5"), Recogniser.load(weights, device="cpu")
    poses = [prepared.read(np.array([clip])) for clip in range(12, 16)]
    tested = [recorded_poses("clip", each, recogniser.skeleton, "xyc") for each in poses]
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"poses": np.stack(poses)[..., None]})
    np.testing.assert_allclose(found, recogniser.probabilities(tested), atol=1e-4)


def test_a_stream_of_frames_answers_as_the_file_does(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = prepared_command(tmp_path, capsys)
    assert train(words, tmp_path / "run", *NARROW) == 0
    recogniser = Recogniser.load(tmp_path / "run" / "best.pt", device="cpu")
    rows = open_prepared(tmp_path / "flat.h5").read(np.array([13]))
    stream = recogniser.stream(stride=6, window=12)
    answers = [answer for frame in rows for answer in stream.push(frame)]
    recorded = recorded_poses("clip", rows, recogniser.skeleton, "xyc")
    expected = recogniser.windows(recorded, [answer.frame for answer in answers], num_frame=12)
    assert len(answers) == NUM_FRAME // 6
    for answer, each in zip(answers, expected, strict=True):
        assert answer.top == recogniser.rank(each)


def small_long_term():
    encoder = net.st_gcn.Model(3, 2, layout="coco", hidden_channels=4, hidden_dim=8)
    sizes = {"decoder_hidden": 8, "decoder_block": 1, "num_recent": 4, "embedding": 4, "queue_size": 8}
    return net.long_term.LongTerm(encoder, layout="coco", num_predict=4, channels="xyc", **sizes)


def small_as_gcn():
    sizes = {"hidden_channels": 4, "num_link_frame": 6, "link_hidden": 8, "num_predict": 4}
    return net.as_gcn.Model(3, 2, layout="coco", channels="xyc", **sizes)


@pytest.mark.parametrize("make", [small_long_term, small_as_gcn])
def test_confidence_is_neither_predicted_nor_judged(make):
    """It stays what it was; what it is in the frames to come matters only where it is 0."""
    generator = torch.Generator().manual_seed(0)
    model = make().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    x, future = (
        torch.rand(2, 3, 12, 17, 1, generator=generator),
        torch.rand(2, 3, 4, 17, 1, generator=generator),
    )
    x[:, :, :, 3] = 0
    with torch.no_grad():
        predicted = forecast(model, x)
        assert torch.equal(predicted[:, 2], x[:, 2, -1:].expand_as(predicted[:, 2]))
        assert (predicted[:, :2] - x[:, :2, -1:]).abs().max() > 1e-3
        assert not predicted[:, :, :, 3].any()

        def loss(future):
            return float(learn(model, Given([x], future), ["future"]).losses["future"])

        other = future.clone()
        other[:, 2] = (other[:, 2] + 0.01) / 2
        assert loss(other) == loss(future)
        seen = future.clone()
        seen[:, :, 2, 5] = 0
        count = torch.ones(4, 17)
        count[2, 5] = count[:, 3] = 0
        apart = (predicted - future)[:, :2, ..., 0]
        expected = apart.norm(dim=1) if make is small_long_term else apart.square().mean(1)
        assert loss(seen) == pytest.approx(float((expected * count).sum() / count.sum() / 2), rel=1e-4)


def test_prediction_in_the_picture_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["prediction", "-c", "config/custom/predict.yaml", "data.layout=coco", "data.num_class=2"]
    assert train(words, tmp_path / "run", "data.channels=xy", "model_args.in_channels=2") == 2
    assert "data.channels: is 'xy'" in capsys.readouterr().err
