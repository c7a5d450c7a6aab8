"""Answers about recordings, from a checkpoint alone, equal those of its run; streams equal windows."""

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from page_content import content_of, decode
from PIL import Image
from test_adaptation import pretrain_config
from test_prediction import CONFIG as PREDICTION

import main as train
from conftest import TINY_CONFIG, leave_pictures_empty
from feeder.normalise import NORMALISE
from feeder.prepared import open_prepared
from feeder.ragged import RaggedBatch
from feeder.recordings.files import Recorded, recorded_poses
from feeder.recordings.linking import LinkLimits
from feeder.recordings.recording import RecordingError
from feeder.recordings.resample import resample
from net.utils.clip import Clip
from net.utils.joint_maps import joint_map, map_joints
from net.utils.layouts import get_skeleton
from processor.inference import Recogniser
from processor.io import load_scores
from processor.pose_inference import PosePredictor
from processor.timeline import window_ends
from processor.trained import load_trained
from tools import infer
from torchlight.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

NTU = get_skeleton("ntu-rgb+d")
# Views that draw at random, several to a clip.
DRAWN = [
    "test_view.sampling=[{RandomResizedCrop: {num_frame: 16, min_ratio: 0.5, max_ratio: 1.0}}]",
    "test_repeat=3",
]
TRANSFORMER = [
    "model=net.transformer.Model",
    "model_args={_delete_: true, num_class: 4, patch: 4, max_frame: 16, width: 16, depth: 2, num_head: 2}",
]
# A network for prediction alone.
MIXER = [
    "model=net.motion_mixer.Model",
    "model_args={_delete_: true, layout: ntu-rgb+d, num_observe: 8, num_predict: 4, num_block: 2, width: 16}",
    "method=null",
    "method_args={}",
    "train_view.sampling=[{Crop: {num_frame: 12}}, Reverse]",
    "schedule=[{name: all, losses: {future: 1.0, velocity: 1.0}}]",
]


def run(processor: str, config: Path, *settings: str) -> None:
    assert train.main([processor, "-c", str(config), *settings]) == 0


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory) -> Iterator[dict[str, Path]]:
    """Work folders of small runs: joint and bone by drawn views, one by a view that draws nothing, a probe, …"""
    with pytest.MonkeyPatch.context() as patch:
        leave_pictures_empty(patch)
        yield make_runs(tiny_data, tmp_path_factory.mktemp("runs"))


def make_runs(tiny_data: Path, folder: Path) -> dict[str, Path]:
    config = folder / "config.yaml"
    config.write_text(TINY_CONFIG.format(data=tiny_data, work_dir=folder / "work"))
    names = ("joint", "bone", "fixed", "encoder", "probe", "transformer", "predict", "mixer")
    runs = {name: folder / name for name in names}
    # Answers that are nearly equal would be equal by chance.
    learns = [
        "batch_size=8",
        "num_epoch=12",
        "optim.lr=0.02",
        "select=last",
        "data.val_fraction=0",
        "eval_interval=20",
    ]
    run("recognition", config, *DRAWN, *learns, "-w", str(runs["joint"]), "num_epoch=6")
    run("recognition", config, *DRAWN, *learns, "-w", str(runs["bone"]), "stream=bone", "num_epoch=4")
    run("recognition", config, *learns, "-w", str(runs["fixed"]))
    (folder / "encoder.yaml").write_text(
        pretrain_config(tiny_data, runs["encoder"], "net.vicreg.VICReg").replace(
            "num_epoch: 4", "num_epoch: 1"
        )
    )
    run("pretrain", folder / "encoder.yaml")
    weights = ["--weights", str(runs["encoder"] / "best.pt")]
    run("linear_evaluation", config, *weights, "-w", str(runs["probe"]), "num_epoch=2")
    run("recognition", config, "-w", str(runs["transformer"]), "num_epoch=1", *TRANSFORMER)
    (folder / "predict.yaml").write_text(PREDICTION.format(data=tiny_data, work_dir=runs["predict"]))
    run("prediction", folder / "predict.yaml", "num_epoch=2")
    run("prediction", folder / "predict.yaml", "num_epoch=1", "-w", str(runs["mixer"]), *MIXER)
    return runs


@pytest.fixture(scope="module")
def clips(tiny_data) -> dict[str, Recorded]:
    """The test part of the data, as recordings in its order."""
    prepared = open_prepared(tiny_data)
    found = {}
    for clip in prepared.splits["xsub"]["val"]:
        size = int(prepared.num_body[clip]), int(prepared.num_frame[clip])
        tracks = prepared.read(np.array([clip])).reshape(*size, 25, 3)
        found[str(prepared.name[clip])] = recorded_poses(str(prepared.name[clip]), tracks, NTU, "xyz")
    return found


def softmax(scores: np.ndarray) -> np.ndarray:
    return torch.from_numpy(scores).softmax(1).numpy()


def test_a_checkpoint_holds_what_inference_needs(runs: dict[str, Path]) -> None:
    for file in ("best.pt", "last.pt"):
        content = load_checkpoint(runs["joint"] / file)
        assert content["processor"] == "recognition"
        assert content["class_names"] == ["left arm", "right arm", "left leg", "right leg"]
        assert (content["channels"], content["frame_rate"], content["bodies"]) == ("xyz", 30.0, "energy")
        trained = load_trained(runs["joint"] / file, device="cpu")
        assert trained.skeleton == NTU and trained.unknown == () and not trained.model.training


def test_whole_recordings_get_the_scores_of_the_run(
    runs: dict[str, Path], clips: dict[str, Recorded]
) -> None:
    for name in ("joint", "bone", "probe", "transformer"):
        saved = load_scores(runs[name] / "scores.npz")
        assert list(clips) == saved["name"].tolist()
        found = Recogniser.load(runs[name] / "best.pt", device="cpu").probabilities(list(clips.values()))
        np.testing.assert_allclose(found, softmax(saved["scores"]), atol=1e-5)


def test_one_by_one_where_nothing_is_drawn(runs: dict[str, Path], clips: dict[str, Recorded]) -> None:
    saved = load_scores(runs["fixed"] / "scores.npz")
    assert softmax(saved["scores"]).max(1).mean() > 0.6
    recogniser = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")
    for clip, scores in zip(clips.values(), saved["scores"], strict=True):
        ranking = recogniser(clip.tracks)
        assert [p for _, p in ranking] == sorted((p for _, p in ranking), reverse=True)
        found = [dict(ranking)[name] for name in recogniser.class_names]
        np.testing.assert_allclose(found, softmax(scores[None])[0], atol=1e-5)


def test_streams_are_fused_by_the_mean_of_their_scores(
    runs: dict[str, Path], clips: dict[str, Recorded]
) -> None:
    scores = [load_scores(runs[name] / "scores.npz")["scores"] for name in ("joint", "bone")]
    both = Recogniser.load(runs["joint"] / "best.pt", runs["bone"] / "best.pt", device="cpu")
    np.testing.assert_allclose(
        both.probabilities(list(clips.values())), softmax(np.mean(scores, 0)), atol=1e-5
    )


def long_recording(clips: dict[str, Recorded]) -> np.ndarray:
    """Several clips end to end, (2, T, V, C), with empty frames between and a second body now and then."""
    parts = []
    for clip in list(clips.values())[:5]:
        tracks = np.zeros((2, clip.tracks.shape[1] + 7, 25, 3), np.float32)
        tracks[: len(clip.tracks), :-7] = clip.tracks
        parts.append(tracks)
    return np.concatenate(parts, 1)


@pytest.mark.parametrize(("rate", "repeat"), [(None, 1), (30.0, 1), (20.0, 1), (60.0, 1), (20.0, 3)])
def test_a_stream_answers_as_windows_do(
    runs: dict[str, Path], clips: dict[str, Recorded], rate: float | None, repeat: int
) -> None:
    recogniser = Recogniser.load(runs["joint"] / "best.pt", device="cpu")
    tracks = long_recording(clips)
    recorded = recorded_poses("long", tracks, NTU, "xyz")._replace(frame_rate=rate)
    stream = recogniser.stream(frame_rate=rate, repeat=repeat)
    assert stream.window == {None: 16, 30.0: 16, 20.0: 11, 60.0: 32}[rate]
    assert stream.stride == stream.window // 4
    answers = []
    for bodies in tracks.swapaxes(0, 1):
        seen = bodies[bodies.any((1, 2))] if bodies[0].any() else bodies
        answers += stream.push(seen)
    answers += stream.finish()
    assert stream.finish() == []
    ends = [answer.frame for answer in answers]
    assert ends[-1] == tracks.shape[1] - 1 and ends[0] == stream.stride - 1
    if stream.window % stream.stride == 0:
        of_file = window_ends(tracks.shape[1], stream.window, stream.stride, recogniser.cuts(recorded))
        assert set(of_file) <= set(ends)
    expected = recogniser.windows(recorded, ends, repeat=repeat)
    for answer, probability in zip(answers, expected, strict=True):
        assert answer.seconds == pytest.approx(answer.frame / (rate or 30.0))
        found = [dict(answer.top).get(name, 0.0) for name in recogniser.class_names]
        np.testing.assert_allclose(found, probability, atol=2e-6)


def test_after_a_cut_another_recording_begins(runs: dict[str, Path], clips: dict[str, Recorded]) -> None:
    recogniser = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")
    first, second = (clip.tracks[:1] for clip in list(clips.values())[:2])
    begin = first.shape[1]
    recorded = recorded_poses("film", np.concatenate((first, second + np.float32(4)), 1), NTU, "xyz")
    assert recogniser.cuts(recorded) == [begin]
    alone = recorded_poses("second", second, NTU, "xyz")
    ends = list(range(second.shape[1]))
    found = recogniser.windows(recorded, [begin + end for end in ends])
    np.testing.assert_allclose(found, recogniser.windows(alone, ends), atol=1e-3)
    stream = recogniser.stream(stride=5)
    answers = [answer for bodies in recorded.tracks.swapaxes(0, 1) for answer in stream.push(bodies)]
    answers += stream.finish()
    num_frame = recorded.tracks.shape[1]
    expected = [*range(4, begin, 5), begin - 1, *range(begin + 4, num_frame, 5), num_frame - 1]
    assert [answer.frame for answer in answers] == sorted(set(expected))
    windows = recogniser.windows(recorded, [answer.frame for answer in answers])
    for answer, probability in zip(answers, windows, strict=True):
        found = [dict(answer.top)[name] for name in recogniser.class_names]
        np.testing.assert_allclose(found, probability, atol=2e-6)


def test_a_caller_may_fill_one_array_again_and_again(
    runs: dict[str, Path], clips: dict[str, Recorded]
) -> None:
    tracks = next(iter(clips.values())).tracks
    recogniser = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")
    again, anew = recogniser.stream(stride=4), recogniser.stream(stride=4)
    buffer = np.empty_like(tracks[:, 0])
    for bodies in tracks.swapaxes(0, 1):
        buffer[:] = bodies
        assert again.push(buffer) == anew.push(bodies.copy())


def test_a_stream_refuses_other_units(runs: dict[str, Path], clips: dict[str, Recorded]) -> None:
    stream = Recogniser.load(runs["fixed"] / "best.pt", device="cpu").stream()
    with pytest.raises(RecordingError, match="--unit mm"):
        stream.push(1000 * next(iter(clips.values())).tracks[:, 0])
    assert stream.num_frame == 0


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(
    runs: dict[str, Path], clips: dict[str, Recorded], rate: float
) -> None:
    recogniser = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")
    poses = next(iter(clips.values())).tracks
    for call in (
        lambda: recogniser(poses, frame_rate=rate),
        lambda: recogniser.stream(frame_rate=rate),
        lambda: recogniser(poses, repeat=0),
        lambda: recogniser.stream(stride=0),
    ):
        with pytest.raises(ValueError, match="give"):
            call()


def test_a_window_without_a_body_has_no_answer(runs: dict[str, Path]) -> None:
    recogniser = Recogniser.load(runs["joint"] / "best.pt", device="cpu")
    stream = recogniser.stream(window=4, stride=2)
    assert stream.push(np.zeros((0, 25, 3))) == []
    (answer,) = stream.push(np.zeros((25, 3)))
    assert answer.top == []
    for wrong in (np.ones((24, 3)), np.ones((1, 25, 2)), np.full((25, 3), np.nan), np.ones(3)):
        with pytest.raises(ValueError):
            stream.push(wrong)
    assert stream.num_frame == 2


def test_a_window_is_a_recording_of_its_own(runs: dict[str, Path], clips: dict[str, Recorded]) -> None:
    """By the view that draws nothing, a window is the whole of a recording that was cut to it."""
    recogniser = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")
    clip = next(iter(clips.values()))
    found = recogniser.windows(clip, [15, 9])
    for end, probability in zip((15, 9), found, strict=True):
        cut = recorded_poses("cut", clip.tracks[:, : end + 1], NTU, "xyz")
        np.testing.assert_allclose(probability, recogniser.probabilities([cut])[0], atol=1e-5)
    with pytest.raises(ValueError, match="frames are 0 to"):
        recogniser.windows(clip, [clip.tracks.shape[1]])


def test_another_frame_rate_is_resampled(runs: dict[str, Path], clips: dict[str, Recorded]) -> None:
    recogniser = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")
    clip = list(clips.values())[2]
    slow = resample(clip.tracks, 30.0, 15.0)
    found = recogniser(slow, frame_rate=15.0)
    expected = recogniser(resample(slow, 15.0, 30.0))
    assert found == expected != recogniser(slow)


def test_older_weights_and_those_of_others(runs: dict[str, Path], tmp_path: Path) -> None:
    content = load_checkpoint(runs["joint"] / "best.pt")
    old = {key: content[key] for key in ("model", "epoch", "config")}
    save_checkpoint(tmp_path / "old.pt", old)
    trained = load_trained(tmp_path / "old.pt", device="cpu")
    assert trained.name == "recognition" and trained.class_names == ("0", "1", "2", "3")
    assert len(trained.unknown) == 2 and "--class_names" in trained.unknown[0]
    named = load_trained(tmp_path / "old.pt", class_names=list("abcd"), device="cpu")
    assert named.class_names == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="3 class names"):
        load_trained(tmp_path / "old.pt", class_names=list("abc"), device="cpu")
    save_checkpoint(tmp_path / "bare.pt", content["model"])
    with pytest.raises(ValueError, match="--config"):
        load_trained(tmp_path / "bare.pt", device="cpu")
    config = runs["joint"] / "config.yaml"
    bare = load_trained(tmp_path / "bare.pt", config=config, class_names=trained.class_names, device="cpu")
    x = torch.randn(2, 3, 16, 25, 2)
    assert torch.equal(bare.model(x), trained.model(x))
    save_checkpoint(tmp_path / "foreign.pt", {"weight": torch.ones(3)})
    with pytest.raises(ValueError, match="weight"):
        load_trained(tmp_path / "foreign.pt", config=config, device="cpu")


def test_a_layout_s_file_need_not_be_there(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path
) -> None:
    content = load_checkpoint(runs["fixed"] / "best.pt")
    config = content["config"].replace("ntu-rgb+d", "gone/mine.yaml")
    save_checkpoint(tmp_path / "own.pt", {**content, "config": config})
    clip = next(iter(clips.values())).tracks
    expected = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")(clip)
    assert Recogniser.load(tmp_path / "own.pt", device="cpu")(torch.from_numpy(clip)) == expected


def test_weights_of_a_trial_answer_about_all_recordings(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path
) -> None:
    content = load_checkpoint(runs["fixed"] / "best.pt")
    found = {}
    for debug in ("false", "true"):
        config = re.sub("debug: .*", f"debug: {debug}", content["config"])
        config = re.sub("test_batch_size: .*", "test_batch_size: 4", config)
        save_checkpoint(tmp_path / "d.pt", {**content, "config": config})
        recogniser = Recogniser.load(tmp_path / "d.pt", device="cpu")
        found[debug] = recogniser.probabilities(list(clips.values()))
    np.testing.assert_array_equal(found["true"], found["false"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_names": 3},
        {"class_names": [1, 2, 3, 4]},
        {"skeleton": {}},
        {"skeleton": {"name": "a", "joints": 3}},
        {"channels": 3},
        {"channels": ""},
        {"frame_rate": "fast"},
        {"frame_rate": 0},
        {"bodies": ["one"]},
    ],
)
def test_what_a_checkpoint_says_of_itself_is_checked(
    runs: dict[str, Path], tmp_path: Path, wrong: dict[str, object]
) -> None:
    content = load_checkpoint(runs["fixed"] / "best.pt")
    save_checkpoint(tmp_path / "wrong.pt", {**content, **wrong})
    with pytest.raises(CheckpointError, match=next(iter(wrong))):
        load_trained(tmp_path / "wrong.pt", device="cpu")


def test_names_of_classes_differ(runs: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="'a'"):
        load_trained(runs["fixed"] / "best.pt", class_names=["a", "b", "a", "c"], device="cpu")


@pytest.mark.parametrize("dropped", [(), ("processor",)])
def test_weights_of_pre_training_give_no_answer(
    runs: dict[str, Path], tmp_path: Path, dropped: tuple[str, ...]
) -> None:
    content = load_checkpoint(runs["encoder"] / "best.pt")
    save_checkpoint(tmp_path / "e.pt", {key: value for key, value in content.items() if key not in dropped})
    with pytest.raises(ValueError, match="finetune_evaluation or linear_evaluation"):
        load_trained(tmp_path / "e.pt", device="cpu")


def test_networks_of_one_kind_are_fused(runs: dict[str, Path], tmp_path: Path) -> None:
    content = load_checkpoint(runs["joint"] / "best.pt")
    save_checkpoint(tmp_path / "other.pt", {**content, "class_names": list("abcd")})
    with pytest.raises(ValueError, match="class names"):
        Recogniser.load(runs["joint"] / "best.pt", tmp_path / "other.pt", device="cpu")
    with pytest.raises(ValueError, match="PosePredictor"):
        Recogniser.load(runs["predict"] / "best.pt", device="cpu")
    with pytest.raises(ValueError, match="predicts no poses"):
        PosePredictor.load(runs["joint"] / "best.pt", device="cpu")


@pytest.mark.parametrize(
    ("name", "normalise"),
    [
        ("predict", "none"),
        ("predict", "center_first_frame"),
        ("predict", "center_per_frame"),
        ("predict", "align_torso"),
        ("mixer", "align_torso"),
    ],
)
def test_predicted_poses_are_those_of_the_run_in_the_recording_s_coordinates(
    runs: dict[str, Path], clips: dict[str, Recorded], name: str, normalise: str, tmp_path: Path
) -> None:
    """Normalised as the network's input is, they are what the network gives."""
    content = load_checkpoint(runs[name] / "best.pt")
    config = content["config"].replace("normalise: center_per_frame", f"normalise: {normalise}")
    save_checkpoint(tmp_path / "p.pt", {**content, "config": config})
    predictor = PosePredictor.load(tmp_path / "p.pt", device="cpu")
    clip = next(each for each in clips.values() if len(each.tracks) == 2)
    future = predictor(clip.tracks)
    assert future.shape == (2, 6, 25, 3) and np.isfinite(future).all()
    together = np.concatenate((clip.tracks, future), 1)
    batch = RaggedBatch.of_tracks([torch.from_numpy(together)])
    positions = torch.arange(together.shape[1] - 14, together.shape[1], dtype=torch.float64)[None]
    poses, matrix = NORMALISE[normalise].apply(batch, batch.tracks(2), positions, NTU)
    poses = poses if matrix is None else torch.einsum("btij,btvj->btvi", matrix.expand(-1, 14, -1, -1), poses)
    seen, came = poses.split([8, 6], 1)
    expected = predictor.members[0].method.forecast(Clip.of(seen.permute(3, 1, 2, 0)[None]))
    np.testing.assert_allclose(came[:, :4], expected[0].permute(3, 1, 2, 0).detach(), atol=1e-4)
    assert predictor(clip.tracks, frame_rate=30.0).shape == future.shape
    for wrong in (clip.tracks[:, :7], np.concatenate((clip.tracks, 0 * clip.tracks), 1)):
        with pytest.raises(RecordingError):
            predictor(wrong)
    # What was before a cut is another recording.
    elsewhere = clip.tracks + 4 * (clip.tracks != 0).any(-1, keepdims=True).astype(np.float32)
    np.testing.assert_array_equal(predictor(np.concatenate((elsewhere, clip.tracks), 1)), future)
    with pytest.raises(RecordingError, match="cut"):
        predictor(np.concatenate((elsewhere, clip.tracks[:, -5:]), 1))


@pytest.fixture
def folder(tmp_path: Path, clips: dict[str, Recorded]) -> Path:
    """The recordings as files, a damaged one among them."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, clip in clips.items():
        np.save(folder / f"{name}.npy", clip.tracks)
    (folder / "clip070x.npy").write_bytes(b"\x93NUMPY damaged")
    return folder


def command(*words: object) -> int:
    return infer.main([*map(str, words), "--device", "cpu"])


def test_the_command_answers_a_folder(
    runs: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = runs["joint"] / "best.pt", tmp_path / "out"
    assert command(folder, "--weights", weights, "--out", out, "--top", 2) == 1  # one is damaged
    said = capsys.readouterr()
    assert "clip070x" in said.out and "no answer" in said.out
    assert "assumed to be the weights', ntu-rgb+d" in said.err and "30 a second" in said.err
    answers = json.loads((out / "answers.json").read_text())
    good = [row for row in answers if "error" not in row]
    assert [row["recording"] for row in good] == [f"clip{k:03d}" for k in range(64, 96)]
    saved = load_scores(runs["joint"] / "scores.npz")
    expected = softmax(saved["scores"])
    for row, probability in zip(good, expected, strict=True):
        np.testing.assert_allclose(list(row["probability"].values()), probability, atol=1e-5)
        assert row["answer"] == row["top"][0][0] == saved["class_name"][probability.argmax()]
        assert len(row["top"]) == 2
    table = list(csv.DictReader((out / "answers.csv").open()))
    assert [row["answer"] for row in table if not row["error"]] == [row["answer"] for row in good]
    assert command(folder, "--weights", weights, "--out", out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert command(folder / "clip064.npy", "--weights", weights, "--out", out, "--overwrite") == 0
    assert command(folder / "clip064.npy", "--weights", weights, "--threshold", 1) == 0
    assert " none " in capsys.readouterr().out


def test_a_long_recording_has_a_timeline_and_a_moving_picture(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracks = long_recording(clips)[:, :90]
    np.save(tmp_path / "day.npy", tracks)
    weights, out = runs["joint"] / "best.pt", tmp_path / "out"
    assert command(tmp_path / "day.npy", "--weights", weights, "--out", out, "--animate") == 0
    table = list(csv.DictReader((out / "day.timeline.csv").open()))
    num_frame = tracks.shape[1]
    assert [int(row["frame"]) for row in table] == list(range(num_frame))
    (answer,) = json.loads((out / "answers.json").read_text())
    assert answer["segments"][0]["first"] == 0 and answer["segments"][-1]["last"] == num_frame - 1
    for part in answer["segments"]:
        assert {row["answer"] for row in table[part["first"] : part["last"] + 1]} == {part["answer"]}
    with Image.open(out / "day.gif") as film, Image.open(out / "day.timeline.png") as picture:
        assert 30 < film.n_frames <= -(-num_frame // 2)  # 15 a second; equal ones are one
        shown = 0
        for picture_number in range(film.n_frames):
            film.seek(picture_number)
            shown += film.info["duration"]
        assert shown == pytest.approx(1000 * -(-num_frame // 2) / 15, abs=20)
        assert min(picture.size) > 200
    # Without --window a short recording has none.
    np.save(tmp_path / "short.npy", tracks[:, :20])
    for more, has in ((["--window", "8"], True), ([], False)):
        assert command(tmp_path / "short.npy", "--weights", weights, "--out", out, "--overwrite", *more) == 0
        assert ("segments" in json.loads((out / "answers.json").read_text())[0]) == has


def probabilities_of(out: Path) -> np.ndarray:
    """(n, K) of the answers in a folder."""
    rows = json.loads((out / "answers.json").read_text())
    return np.array([list(row["probability"].values()) for row in rows])


def test_options_say_what_files_do_not(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = runs["joint"] / "best.pt", tmp_path / "out"
    recogniser = Recogniser.load(weights, device="cpu")
    clip = list(clips.values())[3]
    np.save(tmp_path / "clip.npy", 1000 * clip.tracks)
    words = [tmp_path / "clip.npy", "--weights", weights, "--out", out, "--overwrite", "--unit", "mm"]
    plain = recogniser.probabilities([clip])
    slow = recogniser.probabilities([clip._replace(frame_rate=15.0)])
    for more, expected in (
        ([], plain),
        (["--frame_rate", "15"], slow),
        (["--repeat", "2"], recogniser.probabilities([clip], repeat=2)),
    ):
        assert command(*words, *more) == 0
        np.testing.assert_allclose(probabilities_of(out), expected, atol=1e-4)
        assert ("resampled" in capsys.readouterr().err) == ("--frame_rate" in more)
    assert np.abs(plain - slow).max() > 1e-3
    save_checkpoint(tmp_path / "bare.pt", load_checkpoint(weights)["model"])
    (tmp_path / "names.txt").write_text("a\nfirst\n answer\nd\n")
    words[2] = tmp_path / "bare.pt"
    more = ["--config", runs["joint"] / "config.yaml", "--class_names", tmp_path / "names.txt"]
    assert command(*words, *more) == 0
    np.testing.assert_allclose(probabilities_of(out), plain, atol=1e-4)
    (row,) = csv.DictReader((out / "answers.csv").open())
    named = [float(row[f"p({name})"]) for name in ("a", "first", "answer", "d")]
    np.testing.assert_allclose(named, plain[0], atol=1e-4)
    assert row["answer"] == ["a", "first", "answer", "d"][int(plain.argmax())]


def test_a_timeline_says_when(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracks, threshold = long_recording(clips), 0.6
    np.save(tmp_path / "day.npy", tracks)
    weights, out = runs["joint"] / "best.pt", tmp_path / "out"
    words = [tmp_path / "day.npy", "--weights", weights, "--out", out, "--window", 8, "--stride", 4]
    assert command(*words, "--threshold", threshold) == 0
    recogniser = Recogniser.load(weights, device="cpu")
    recorded = recorded_poses("day", tracks, NTU, "xyz")._replace(frame_rate=30.0)
    expected = recogniser.timeline(recorded, window=8, stride=4).of_frames
    table = list(csv.DictReader((out / "day.timeline.csv").open()))
    found = np.array([[float(row[f"p({name})"]) for name in recogniser.class_names] for row in table])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    best = expected.max(1)
    assert best.min() < threshold < best.max()
    assert [row["answer"] == "none" for row in table] == (best < threshold).tolist()
    seconds = [float(row["seconds"]) for row in table]
    np.testing.assert_allclose(seconds, np.arange(len(best)) / 30, atol=1e-4)
    (answer,) = json.loads((out / "answers.json").read_text())
    for part in answer["segments"]:
        assert part["begin"] == pytest.approx(part["first"] / 30)
        assert part["end"] == pytest.approx((part["last"] + 1) / 30)
    assert answer["segments"][0]["begin"] == 0


def test_recordings_of_one_name_are_told_apart(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path
) -> None:
    paths = [tmp_path / folder / "clip.npy" for folder in ("x", "y")]
    for path, clip in zip(paths, clips.values(), strict=False):
        path.parent.mkdir()
        np.save(path, clip.tracks)
    assert command(*paths, "--weights", runs["fixed"] / "best.pt", "--out", tmp_path / "out") == 0
    names = [row["recording"] for row in json.loads((tmp_path / "out" / "answers.json").read_text())]
    assert names[0] == "clip" and names[1].endswith("y/clip")


def test_the_command_writes_a_page(
    runs: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly", reason="Plotly is not installed: pip install -e .[page]")
    weights, page = runs["joint"] / "best.pt", tmp_path / "a.html"
    words = [folder / "clip064.npy", "--weights", weights, "--html", page]
    assert command(*words, "--stride", 4, "--out", tmp_path / "out") == 0
    (scene,) = content_of(page)["clips"]
    poses = np.load(folder / "clip064.npy")
    found = decode(scene["positions"])[:, : len(poses) if poses.ndim == 4 else 1]
    np.testing.assert_allclose(
        np.nan_to_num(found), poses.swapaxes(0, 1) if poses.ndim == 4 else poses[:, None], atol=1e-3
    )
    table = list(csv.DictReader((tmp_path / "out" / "clip064.timeline.csv").open()))
    for number, name in enumerate(scene["probability"]["classes"]):
        values = [float(row[f"p({name})"]) for row in table]
        np.testing.assert_allclose(decode(scene["probability"]["values"])[:, number, 0], values, atol=1e-4)
    assert command(*words) == 1 and "--overwrite" in capsys.readouterr().err
    words = [folder / "clip066.npy", "--weights", runs["predict"] / "best.pt", "--html", page, "--overwrite"]
    assert command(*words, "--predict", 9) == 0
    (scene,) = content_of(page)["clips"]
    future = PosePredictor.load(runs["predict"] / "best.pt", device="cpu")(
        np.load(folder / "clip066.npy"), count=9
    )
    found = np.nan_to_num(decode(scene["positions"])).swapaxes(0, 1)[-len(future) :, -9:]
    np.testing.assert_allclose(found, future, atol=1e-3)
    assert scene["bodies"] == ["seen"] * (len(scene["bodies"]) - len(future)) + ["predicted"] * len(future)


def test_poses_of_several_networks_are_averaged(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path
) -> None:
    paths = [runs[name] / "best.pt" for name in ("predict", "mixer")]
    tracks = next(iter(clips.values())).tracks
    each = [PosePredictor.load(path, device="cpu")(tracks) for path in paths]
    found = PosePredictor.load(*paths, device="cpu")(tracks)
    np.testing.assert_allclose(found, (each[0] + each[1]) / 2, atol=1e-5)
    assert not np.allclose(*each)
    content = load_checkpoint(paths[1])
    other = content["config"].replace("normalise: center_per_frame", "normalise: none")
    save_checkpoint(tmp_path / "p.pt", {**content, "config": other})
    with pytest.raises(ValueError, match="normalise none, and"):
        PosePredictor.load(paths[0], tmp_path / "p.pt", device="cpu")


def test_the_command_predicts_poses(runs: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    weights, out = runs["predict"] / "best.pt", tmp_path / "out"
    words = [folder / "clip066.npy", "--weights", weights, "--out", out, "--animate", "--predict", 9]
    assert command(*words) == 0
    future = np.load(out / "clip066.future.npy")
    expected = PosePredictor.load(weights, device="cpu")(np.load(folder / "clip066.npy"), count=9)
    np.testing.assert_array_equal(future, expected)
    assert {path.name for path in out.iterdir()} >= {"clip066.gif", "clip066.future.png", "answers.csv"}


def stream(weights: Path, lines: list[str], monkeypatch, capsys, *words: object) -> tuple[int, list[dict]]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    status = command("-", "--weights", weights, *words)
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lines_are_answered_as_a_stream_is(
    runs: dict[str, Path], clips: dict[str, Recorded], monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = runs["joint"] / "best.pt"
    tracks = long_recording(clips)
    frames = [
        [body.tolist() for body in bodies if body.any()] if bodies.any() else []
        for bodies in tracks.swapaxes(0, 1)
    ]
    lines = [json.dumps(frame) for frame in frames]
    lines[3:3] = ["", "estimator started", '[[1, 2, "x"]]', "[" * 2_000_000]
    status, answers = stream(weights, lines, monkeypatch, capsys, "--top", "4")
    assert status == 0
    errors = [answer for answer in answers if "error" in answer]
    assert [error["line"] for error in errors] == [5, 6, 7]
    answers = [answer for answer in answers if "error" not in answer]
    live = Recogniser.load(weights, device="cpu").stream(limits=LinkLimits())
    expected = [answer for frame in frames for answer in live.push(np.array(frame, np.float32))]
    expected += live.finish()
    assert [answer["frame"] for answer in answers] == [answer.frame for answer in expected]
    for found, wanted in zip(answers, expected, strict=True):
        assert found["seconds"] == pytest.approx(wanted.seconds, abs=1e-3)
        assert dict(map(tuple, found["top"])) == pytest.approx(dict(wanted.top), abs=1e-5)
    status, answers = stream(weights, lines[:3], monkeypatch, capsys, "--threshold", "1", "--stride", "2")
    assert status == 0 and [(a["frame"], a["answer"]) for a in answers] == [(1, "none"), (2, "none")]
    _, answers = stream(weights, lines, monkeypatch, capsys, "--window", "8", "--top", "4")
    live = Recogniser.load(weights, device="cpu").stream(window=8, limits=LinkLimits())
    expected = [answer for frame in frames for answer in live.push(np.array(frame, np.float32))]
    answers = [answer for answer in answers if "error" not in answer]
    assert [answer["frame"] for answer in answers[: len(expected)]] == [answer.frame for answer in expected]
    for found, wanted in zip(answers, expected, strict=False):
        assert dict(map(tuple, found["top"])) == pytest.approx(dict(wanted.top), abs=1e-5)


def test_people_of_a_stream_come_in_any_order(
    runs: dict[str, Path], clips: dict[str, Recorded], monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracks = next(each.tracks for each in clips.values() if len(each.tracks) == 2).copy()
    tracks[1, ..., 0] += 2
    frames = tracks.swapaxes(0, 1).tolist()
    shuffled = [bodies[:: (-1) ** frame] for frame, bodies in enumerate(frames)]
    found = [
        stream(
            runs["fixed"] / "best.pt", list(map(json.dumps, lines)), monkeypatch, capsys, "--top", "4", *more
        )
        for lines, more in ((frames, ()), (shuffled, ()), (shuffled, ("--link_distance", "0")))
    ]
    assert found[0] == found[1] != found[2]


def test_lines_of_another_layout(
    runs: dict[str, Path], clips: dict[str, Recorded], monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinect = get_skeleton("kinect-v1")
    poses = map_joints(next(iter(clips.values())).tracks[0], joint_map(NTU, kinect), "xyz")
    weights, words = runs["fixed"] / "best.pt", ["--top", "4"]
    mapped = map_joints(poses, joint_map(kinect, NTU), "xyz")
    expected = stream(weights, list(map(json.dumps, mapped.tolist())), monkeypatch, capsys, *words)
    lines = list(map(json.dumps, poses.tolist()))
    assert expected[0] == 0
    words += ["--layout", "kinect-v1"]
    assert stream(weights, lines, monkeypatch, capsys, *words, "--to", "ntu-rgb+d") == expected
    for more in ([], ["--to", "coco"]):
        assert command("-", "--weights", weights, *words, *more) == 1
    assert command("-", "--weights", weights, "--layout", "coco", "--to", "ntu-rgb+d") == 1
    assert "hip centre" in capsys.readouterr().err


def test_recordings_of_another_layout_are_mapped(
    runs: dict[str, Path], clips: dict[str, Recorded], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinect = get_skeleton("kinect-v1")
    poses = map_joints(next(iter(clips.values())).tracks, joint_map(NTU, kinect), "xyz")
    poses[0, 4:6, 3] = np.nan
    np.savez(tmp_path / "a.npz", names=np.array(["x"]), skel=poses.transpose(2, 3, 1, 0))
    words = [
        tmp_path / "a.npz",
        "--weights",
        runs["fixed"] / "best.pt",
        "--layout",
        "kinect-v1",
        "--max_gap",
        "5",
    ]
    assert command(*words, "--to", "ntu-rgb+d", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "2 interpolated, 0 absent" in said and "V, C, T, M" in said
    (row,) = json.loads((tmp_path / "out" / "answers.json").read_text())
    filled = poses.copy()
    filled[0, 4:6, 3] = [
        poses[0, 3, 3] * 2 / 3 + poses[0, 6, 3] / 3,
        poses[0, 3, 3] / 3 + poses[0, 6, 3] * 2 / 3,
    ]
    ranking = Recogniser.load(runs["fixed"] / "best.pt", device="cpu")(
        map_joints(filled, joint_map(kinect, NTU), "xyz"), frame_rate=30.0
    )
    assert row["probability"] == pytest.approx(dict(ranking), abs=1e-4)
    assert command(*words) == 1
    assert "--to" in capsys.readouterr().out
    assert command(*words, "--to", "coco") == 1
    assert "--to is coco" in (said := capsys.readouterr().err) and "'ntu-rgb+d'" in said


def test_a_stream_that_cannot_be_answered(
    runs: dict[str, Path], monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stream(runs["joint"] / "best.pt", [], monkeypatch, capsys)[0] == 1
    assert stream(runs["predict"] / "best.pt", ["[]"], monkeypatch, capsys)[0] == 1
    words = ("--layout", "kinect-v1")
    assert stream(runs["joint"] / "best.pt", ["[]"], monkeypatch, capsys, *words)[0] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.npy", "--weights", "{joint}"], "not found"),
        (["{empty}", "--weights", "{joint}"], "holds no recording"),
        (["{empty}", "--weights", "missing.pt"], "missing.pt"),
        (["{empty}", "--weights", "{encoder}"], "pre-trained encoder"),
        (["{clip}", "--weights", "{joint}", "--layout", "coco"], "shape"),
        (["{clip}", "--weights", "{joint}", "--layout", "nonsense"], "unknown layout"),
    ],
)
def test_bad_input_is_one_line(
    runs: dict[str, Path], folder: Path, tmp_path: Path, words: list[str], said: str, capsys
) -> None:
    (tmp_path / "empty").mkdir()
    places = {name: work / "best.pt" for name, work in runs.items()}
    places |= {"empty": tmp_path / "empty", "clip": folder / "clip064.npy"}
    assert command(*(word.format(**places) for word in words)) == 1
    captured = capsys.readouterr()
    assert said in captured.out + captured.err and "Traceback" not in captured.err


@pytest.mark.parametrize(
    "words",
    [
        ["a.npy", "--animate"],
        ["-", "b.npy"],
        ["-", "--html", "a.html"],
        ["a.npy", "--threshold", "2"],
        ["a.npy", "--window", "0"],
        ["a.npy", "--frame_rate", "-1"],
        ["a.npy", "--axes", "tvx"],
        ["a.npy", "--picture", "0x480"],
        ["a.npy", "--picture", "640"],
        ["a.npy", "--max_gap", "-1"],
        ["a.npy", "--link_distance", "nan"],
        ["-", "--axes", "vct"],
    ],
)
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        infer.main([*words, "--weights", "x.pt"])
    assert error.value.code == 2


def test_very_short_and_very_long_recordings(runs: dict[str, Path], clips: dict[str, Recorded]) -> None:
    recogniser = Recogniser.load(runs["joint"] / "best.pt", device="cpu")
    tracks = next(iter(clips.values())).tracks
    for num_frame in (1, 2, 12_000):
        long = np.resize(tracks[0], (num_frame, 25, 3))
        assert sum(p for _, p in recogniser(long)) == pytest.approx(1, abs=1e-5)


def test_ffmpeg_adds_a_film(runs: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    out = tmp_path / "out"
    command(folder / "clip064.npy", "--weights", runs["joint"] / "best.pt", "--out", out, "--animate")
    assert (out / "clip064.mp4").stat().st_size > 1000
