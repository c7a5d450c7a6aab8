"""Prediction of poses: whole runs through main.py, and judging and decoding on cases worked by hand."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import main
from feeder.prepared import PreparedWriter, open_prepared
from net.future import (
    FutureDecoder,
    mean_distance,
    mean_squared_error,
    scored_joints,
    unit_poses,
)
from net.utils.clip import Clip
from net.utils.layouts import CONSTANT_JOINTS, COPIED_JOINTS, get_skeleton
from processor import io
from processor.figures import draw_errors, draw_poses, save_curves
from processor.prediction_metrics import (
    BASELINES,
    NETWORK,
    OVERALL,
    constant_velocity,
    distances_by_action,
    mpjpe,
    mpjpe_table,
    published_table,
    published_weight,
    roll_out,
    total_error,
    zero_velocity,
)

pytestmark = pytest.mark.usefixtures("few_blocks", "blank")

NTU = get_skeleton("ntu-rgb+d")
OBSERVE, PREDICT = 8, 6

# The network gives 4 frames at once, so that a test goes on from those.
CONFIG = """
data: {{path: {data}, layout: ntu-rgb+d, num_class: 4, val_fraction: 0.25}}
benchmark: xsub
work_dir: {work_dir}
model: net.st_gcn.Model
model_args: {{num_class: 4, layout: "${{data.layout}}", hidden_channels: 4, hidden_dim: 8}}
method: net.long_term.LongTerm
method_args:
  {{layout: "${{data.layout}}", num_predict: 4, decoder_hidden: 8, decoder_block: 1, num_recent: 4, embedding: 4,
   queue_size: 8}}
observe: 8
predict: 6
train_view:
  sampling: [{{Crop: {{num_frame: "${{add:${{observe}},${{method_args.num_predict}}}}", where: random}}}}]
  normalise: center_per_frame
test_view:
  sampling: [{{Crop: {{num_frame: "${{add:${{observe}},${{predict}}}}", where: start}}}}]
  normalise: center_per_frame
schedule: [{{name: predict, losses: {{future: 1.0}}}}]
batch_size: 16
test_batch_size: 20
num_epoch: 12
eval_interval: 4
optim: {{optimizer: adamw, lr: 0.02, warmup_epoch: 1}}
tensorboard: false
device: cpu
"""


def run(config, *args: str) -> int:
    return main.main(["prediction", "-c", str(config), *args])


def write_config(folder, data):
    path = folder / "predict.yaml"
    path.write_text(CONFIG.format(data=data, work_dir=folder / "work"))
    return path


def result_of(work) -> dict:
    """`result.json`, which must be JSON: that knows no NaN."""
    return json.loads((work / "result.json").read_text(), parse_constant=pytest.fail)


def predictions_of(work) -> dict[str, np.ndarray]:
    with np.load(work / "predictions.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def config(tiny_data, tmp_path):
    return write_config(tmp_path, tiny_data)


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    """A run of 12 epochs: (config file, work_dir)."""
    folder = tmp_path_factory.mktemp("prediction")
    path = write_config(folder, tiny_data)
    assert run(path) == 0
    return path, folder / "work"


def test_clips(data) -> list[np.ndarray]:
    """The held-out clips, (M, T, V, C) each."""
    source = open_prepared(data)
    return [
        source.read(np.array([clip])).reshape(source.num_body[clip], source.num_frame[clip], -1, 3)
        for clip in source.splits["xsub"]["val"]
    ]


test_clips.__test__ = False


def error_at(predictions, horizon, predicted):
    """MPJPE in mm at one horizon, one joint at a time."""
    distances = [
        1000 * math.dist(predicted[place], predictions["true"][place])
        for place in zip(*predictions["scored"].nonzero(), strict=True)
        if place[2] == horizon - 1
    ]
    return np.mean(distances)


def test_a_run_beats_standing_still_and_leaves_predictions_errors_and_figures(finished, tiny_data):
    _, work = finished
    result = result_of(work)
    assert result["beats"]["zero_velocity"]
    assert (result["observe"], result["predict"], result["num_test_clip"]) == (OBSERVE, PREDICT, 32)
    assert (result["short"], result["num_short"]) == ("leave_out", {"test": 0, "train": 0, "val": 0})
    assert result["val_mpjpe"] > 0
    found = predictions_of(work)
    # In every clip the first body is judged.
    alike = found["label"][:, None] == found["label"]
    distances = {}
    for name in ("predicted", "true"):
        unit = unit_poses(torch.from_numpy(found[name][:, 0])).numpy()
        distance = np.linalg.norm(unit[:, None] - unit, axis=2)
        distances[name] = distance[alike & ~np.eye(len(unit), dtype=bool)].mean(), distance[~alike].mean()
    same, other = distances["predicted"]
    assert result["distance_same_action"] == pytest.approx(same, rel=1e-4)
    assert result["distance_other_action"] == pytest.approx(other, rel=1e-4)
    assert result["distance_ratio"] == pytest.approx(same / other, rel=1e-4)
    assert result["true_distance_ratio"] == pytest.approx(np.divide(*distances["true"]), rel=1e-4)
    assert found["name"].tolist() == [f"clip{clip:03d}" for clip in range(64, 96)]
    assert found["label"].tolist() == [clip % 4 for clip in range(64, 96)]
    moving = np.zeros_like(found["true"])
    for number, clip in enumerate(test_clips(tiny_data)):
        centred = clip - clip[:1, :, NTU.spine, None]
        there = len(clip)
        step = np.arange(1, PREDICT + 1)[:, None, None]
        last, before = centred[:, OBSERVE - 1 : OBSERVE], centred[:, OBSERVE - 2 : OBSERVE - 1]
        moving[number, :there] = last + step * (last - before)
        np.testing.assert_allclose(found["last"][number, :there], centred[:, OBSERVE - 1], atol=1e-6)
        future = centred[:, OBSERVE : OBSERVE + PREDICT]
        np.testing.assert_allclose(found["true"][number, :there], future, atol=1e-6)
        assert not found["true"][number, there:].any()
        assert not found["scored"][number, there:].any()
        # All joints but the one that all others are relative to.
        assert (~found["scored"][number, 0]).nonzero()[1].tolist() == [NTU.spine] * PREDICT
    still = np.broadcast_to(found["last"][:, :, None], found["true"].shape)
    for horizon in (1, 2, 4, 6):
        for predicted, key in (
            (found["predicted"], ""),
            (still, "zero_velocity_"),
            (moving, "constant_velocity_"),
        ):
            expected = pytest.approx(error_at(found, horizon, predicted), rel=1e-5)
            assert result[f"{key}mpjpe_{horizon}"] == expected
    # The origin moves nowhere, whatever is predicted.
    assert not found["predicted"][:, 0, :, NTU.spine].any()
    assert not any("mpjpe_3" in key or "mpjpe_5" in key for key in result)
    assert result["mpjpe"] == pytest.approx(
        np.mean([error_at(found, horizon, found["predicted"]) for horizon in range(1, PREDICT + 1)]), rel=1e-5
    )
    for name in ("mpjpe.png", "poses.png", "curves.png"):
        assert (work / name).stat().st_size > 1000
    rows = list(csv.DictReader((work / "metrics.csv").open()))
    assert [row["epoch"] for row in rows if row["val_mpjpe"]] == ["4", "8", "12"]


def test_table_has_each_action_predictor_and_horizon(finished):
    _, work = finished
    table, found = pd.read_csv(work / "mpjpe.csv"), predictions_of(work)
    assert table["action"].unique().tolist() == [OVERALL, *found["class_name"]]
    assert len(table) == 5 * 3 * 4
    of_action = {key: found[key][found["label"] == 2] for key in ("true", "predicted", "scored")}
    row = table[(table["action"] == "left leg") & (table["predictor"] == NETWORK) & (table["frames"] == 4)]
    assert row["mpjpe_mm"].item() == pytest.approx(error_at(of_action, 4, of_action["predicted"]), rel=1e-5)
    assert (row["clips"].item(), row["ms"].item()) == (8, pytest.approx(4000 / 30))


def test_a_test_may_go_on_for_longer_than_the_training_did(finished, tmp_path, monkeypatch, capsys):
    config, work = finished
    drawn = []
    monkeypatch.setattr(io, "draw_errors", lambda table, path: drawn.append(table))
    test = ["--phase", "test", "--weights", str(work / "best.pt"), "-w", str(tmp_path)]
    assert run(config, *test, "predict=11", "horizon=[11, 6, 6]") == 0
    assert "trained with another input" not in capsys.readouterr().out
    longer, shorter = predictions_of(tmp_path), predictions_of(work)
    assert longer["predicted"].shape[2] == 11
    np.testing.assert_allclose(longer["predicted"][:, :, :PREDICT], shorter["predicted"], atol=1e-6)
    result = result_of(tmp_path)
    assert [key for key in result if key.startswith("mpjpe_")] == ["mpjpe_6", "mpjpe_11"]
    assert result["mpjpe_6"] == pytest.approx(result_of(work)["mpjpe_6"])
    assert drawn[0]["mpjpe_mm"].tolist() == pytest.approx(
        [
            result[f"{of}mpjpe_{horizon}"]
            for of in ("", "zero_velocity_", "constant_velocity_")
            for horizon in (6, 11)
        ]
    )
    assert run(config, *test, "observe=7", "--overwrite") == 0
    assert "trained with another input: observe was 8, is 7" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["a text", "a: [b", "model_args: null"])
def test_weights_of_another_program_may_have_a_config_of_their_own(finished, tmp_path, text):
    config, work = finished
    content = torch.load(work / "best.pt", weights_only=True)
    torch.save({**content, "config": text}, tmp_path / "other.pt")
    words = ["--phase", "test", "--weights", str(tmp_path / "other.pt"), "-w", str(tmp_path / "test")]
    assert run(config, *words) == 0


def test_a_network_that_learnt_nothing_says_so(config, tmp_path):
    work = tmp_path / "work"
    assert run(config, "optim.lr=0", "num_epoch=1") == 0
    result, found = result_of(work), predictions_of(work)
    # It begins with bodies that stand still.
    still = np.broadcast_to(found["last"][:, :, None], found["true"].shape)
    np.testing.assert_allclose(found["predicted"], still, atol=1e-6)
    assert result["beats"]["zero_velocity"] is False
    assert (
        "warning: the network is no better than the baseline zero_velocity" in (work / "log.txt").read_text()
    )


def test_a_trial_judges_the_clips_that_it_has_seen(config, tmp_path):
    assert run(config, "--debug", "test_batch_size=5") == 0
    found = predictions_of(tmp_path / "work/debug")
    assert found["name"].tolist() == [f"clip{clip:03d}" for clip in range(64, 74)]
    assert found["label"].tolist() == [clip % 4 for clip in range(64, 74)]


def test_clips_of_several_processes_are_put_in_order(finished, tmp_path, monkeypatch):
    """As two processes have them, one the even clips, the other the odd ones."""
    by_rank = lambda values: torch.cat((values[::2], values[1::2]))  # noqa: E731
    monkeypatch.setattr("processor.prediction.distributed.all_gather_ragged", by_rank)
    config, work = finished
    assert run(config, "--phase", "test", "--weights", str(work / "best.pt"), "-w", str(tmp_path)) == 0
    alone, together = predictions_of(work), predictions_of(tmp_path)
    assert alone.keys() == together.keys()
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name], values)
    alone, together = (pd.read_csv(folder / "mpjpe.csv") for folder in (work, tmp_path))
    pd.testing.assert_frame_equal(alone, together)


def test_a_model_that_predicts_by_itself_needs_no_method(config, tmp_path):
    args = "{_delete_: true, num_class: 4, num_predict: 4, hidden_channels: 4, link_hidden: 4, num_link_frame: 8}"
    settings = ["model=net.as_gcn.Model", f"model_args={args}", "method=null", "method_args={}"]
    crop = "train_view.sampling.0.Crop.num_frame=12"
    assert run(config, "--debug", "test_batch_size=4", *settings, crop) == 0
    assert np.isfinite(predictions_of(tmp_path / "work/debug")["predicted"]).all()


@pytest.mark.parametrize("model", ["motion_mixer", "simlpe"])
def test_a_network_for_prediction_alone_learns_from_windows(config, tiny_data, tmp_path, capsys, model):
    args = "{_delete_: true, layout: ntu-rgb+d, num_observe: 8, num_predict: 4, num_block: 2}"
    settings = [f"model=net.{model}.Model", f"model_args={args}", "method=null", "method_args={}"]
    settings += ["schedule=[{name: a, losses: {future: 1.0, velocity: 1.0}}]", "num_epoch=4"]
    settings += ["train_view.sampling=[{Crop: {num_frame: 12}}, Reverse]", "train_step=4", "test_step=3"]
    assert run(config, *settings) == 0
    result, found = result_of(tmp_path / "work"), predictions_of(tmp_path / "work")
    assert result["beats"]["zero_velocity"]
    expected = [
        (f"clip{64 + number:03d}@{first}", clip[:, first : first + OBSERVE + PREDICT])
        for number, clip in enumerate(test_clips(tiny_data))
        for first in range(0, clip.shape[1] - OBSERVE - PREDICT + 1, 3)
    ]
    assert found["name"].tolist() == [name for name, _ in expected]
    for true, (_, frames) in zip(found["true"], expected, strict=True):
        centred = frames - frames[:1, :, NTU.spine, None]
        np.testing.assert_allclose(true[: len(centred)], centred[:, OBSERVE:], atol=1e-6)
    longer = ["observe=9", "model_args.num_observe=9", "train_view.sampling.0.Crop.num_frame=13"]
    weights = ["--weights", str(tmp_path / "work" / "best.pt"), "-w", str(tmp_path / "other")]
    assert run(config, *settings, *longer, *weights) == 1
    assert "set observe=8" in capsys.readouterr().err


def test_two_views_may_be_compared_beside_it(config, tmp_path):
    view = "{sampling: [{Crop: {num_frame: 12, where: random}}], same_frames: true, augment: [Flip]}"
    losses = "schedule=[{name: a, losses: {future: 1.0, pose_contrast: 0.1}}]"
    assert run(config, "--debug", losses, f"key_view={view}") == 0
    rows = list(csv.DictReader((tmp_path / "work/debug/metrics.csv").open()))
    assert float(rows[0]["train_future_loss"]) + float(rows[0]["train_pose_contrast_loss"]) == pytest.approx(
        float(rows[0]["train_loss"]), rel=1e-5
    )


# -- clips that cannot be judged ---------------------------------------------------------------------------


def write_data(path, clips, *, skeleton=NTU, num_class=4):
    """Clips (M, T, V, C), each both trained and tested on."""
    with PreparedWriter(
        path,
        skeleton=skeleton,
        class_names=["a", "b", "c", "d"][:num_class],
        frame_rate=30.0,
        bodies="first",
        source="tests",
    ) as writer:
        for number, clip in enumerate([*clips, *clips]):
            writer.append(f"clip{number}", number % len(clips) % num_class, clip.astype(np.float32))
        writer.finish({"xsub": {"train": range(len(clips)), "val": range(len(clips), 2 * len(clips))}})
    return path


def moving(*shape, seed=0):
    """Bodies 3 m away that drift: (M, T, V, C)."""
    drift = np.random.default_rng(seed).standard_normal(shape).cumsum(1) * 0.02
    return drift + np.random.default_rng(seed + 1).standard_normal((1, 1, *shape[2:])) * 0.4 + [0, 0, 3]


WITHOUT_VAL = ["data.val_fraction=0", "select=last", "--debug"]


def test_short_clips_are_left_out_or_repeated_and_counted(tiny_data, config, tmp_path, capsys):
    lengths = [clip.shape[1] for clip in test_clips(tiny_data)]
    long = [f"clip{64 + number:03d}" for number, length in enumerate(lengths) if length >= OBSERVE + 30]
    assert 0 < len(long) < 32
    folder, settings = tmp_path / "work/debug", [*WITHOUT_VAL, "predict=30", "test_batch_size=32"]
    assert run(config, *settings) == 0
    result = result_of(folder)
    assert predictions_of(folder)["name"].tolist() == long
    assert (result["num_test_clip"], result["num_short"]["test"]) == (len(long), 32 - len(long))
    assert run(config, *settings, "short=repeat") == 0
    result, found = result_of(folder), predictions_of(folder)
    assert (result["short"], result["num_test_clip"]) == ("repeat", 32)
    assert result["num_short"] == {"test": 32 - len(long), "train": 0}
    assert min(lengths) > OBSERVE
    short = int(np.argmin(lengths))
    begin = lengths[short] - OBSERVE  # from there on the clip comes again
    np.testing.assert_allclose(found["true"][short, :, begin], found_first(tiny_data, short), atol=1e-6)


def test_clips_of_frames_that_are_all_seen_are_not_repeated(tmp_path):
    clips = [moving(1, frames, 25, 3, seed=frames) for frames in (8, 9, 14, 20)]
    config = write_config(tmp_path, write_data(tmp_path / "data.h5", clips))
    assert run(config, *WITHOUT_VAL, "short=repeat") == 0
    assert predictions_of(tmp_path / "work/debug")["name"].tolist() == ["clip5", "clip6", "clip7"]
    result = result_of(tmp_path / "work/debug")
    assert result["num_short"] == {"test": 2, "train": 2}
    assert result["num_left_out"] == {"test": 1, "train": 1}
    said = "2 test clips have fewer than 14 frames: 1 left out, 1 repeated from their start"
    assert said in (tmp_path / "work/debug/log.txt").read_text()
    said = "has the 21 frames that are needed, one more than observe; the longest has 20. Lower observe"
    with pytest.raises(ValueError, match=said):
        run(config, *WITHOUT_VAL, "short=repeat", "observe=20", "predict=20")


def found_first(data, number):
    """The first frame of a test clip, centred, for two bodies: (2, V, C)."""
    clip = test_clips(data)[number][:, 0]
    return np.concatenate([clip - clip[0, NTU.spine], np.zeros((2 - len(clip), 25, 3))])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["predict=55"],
            "no test clip of {data} has the 63 frames of observe and predict; the longest has 59. "
            "Lower observe or predict, or set short: repeat\n",
        ),
        (
            ["predict=55", "test_step=1"],
            "no test clip of {data} has the 63 frames of observe and predict; the longest has 59. "
            "Lower observe or predict\n",
        ),
        (
            ["predict=60"],
            "no test clip of {data} has the 68 frames of observe and predict; the longest has 59. "
            "Lower observe or predict\n",
        ),
        (
            ["predict=60", "short=repeat"],
            "has the 60 frames to be predicted; the longest has 59. Lower predict\n",
        ),
        (
            ["method_args.num_predict=60"],
            "no train clip of {data} has the 68 frames of observe and predict; the longest has 59. "
            "Lower observe or predict\n",
        ),
    ],
)
def test_clips_that_are_all_too_short_are_an_error_before_training(
    tiny_data, config, tmp_path, capsys, settings, said
):
    assert run(config, *settings) == 1
    assert said.format(data=tiny_data) in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("normalise", ["none", "center_per_frame", "align_torso"])
def test_bodies_are_judged_where_they_are_there(tmp_path, normalise):
    clips = [moving(bodies, 14, 25, 3, seed=number) for number, bodies in enumerate((1, 2, 2, 2, 2))]
    clips[1][1, 11:] = 0  # the second body leaves after three frames to come
    clips[2][1, :8] = 0  # comes when all is seen
    clips[3][0, 10:] = 0  # the first body leaves after two, the second stays
    clips[4][1, :, 6] = 0  # a joint is never there
    clips[0][0, 12, 9] = 0  # and one is not, once
    config = write_config(tmp_path, write_data(tmp_path / "data.h5", clips))
    assert run(config, *WITHOUT_VAL, f"test_view.normalise={normalise}") == 0
    found = predictions_of(tmp_path / "work/debug")
    expected = np.zeros((5, 2, PREDICT, 25), bool)
    expected[:, 0] = expected[[1, 3, 4], 1] = True
    expected[1, 1, 3:] = expected[4, 1, :, 6] = expected[0, 0, 4, 9] = False
    expected[3, 0, 2:] = False
    if normalise != "none":
        expected[:, 0, :, NTU.spine] = False
    np.testing.assert_array_equal(found["scored"], expected)
    assert result_of(tmp_path / "work/debug")["mpjpe"] < 1000


@pytest.mark.parametrize("normalise", ["center_per_frame", "align_torso"])
def test_a_body_that_stands_still_is_predicted_so_when_the_first_body_comes_and_leaves(tmp_path, normalise):
    clips = [moving(2, 14, 25, 3, seed=number) for number in range(4)]
    for clip in clips:
        clip[:] = clip[:, :1]
        # There in the last frame seen, neither in the one before nor in those to come.
        clip[0, :7] = clip[0, 8:] = 0
    config = write_config(tmp_path, write_data(tmp_path / "data.h5", clips))
    assert run(config, *WITHOUT_VAL, f"test_view.normalise={normalise}") == 0
    # In the camera's space the second body is 3 m away.
    result = result_of(tmp_path / "work/debug")
    assert result["constant_velocity_mpjpe_6"] == pytest.approx(0, abs=1e-3)
    assert result["zero_velocity_mpjpe_6"] == pytest.approx(0, abs=1e-3)


def test_the_other_body_is_learnt_from_after_the_first_has_left(tmp_path):
    clips = [moving(2, 12, 25, 3, seed=number) for number in range(4)]
    for clip in clips:
        clip[0, 9:] = 0
    config = write_config(tmp_path, write_data(tmp_path / "data.h5", clips))
    assert run(config, *WITHOUT_VAL, "predict=4", "test_view.normalise=none") == 0
    rows = list(csv.DictReader((tmp_path / "work/debug/metrics.csv").open()))
    assert 0 < float(rows[0]["train_loss"]) < 0.5  # in the camera's space the second body is 3 m away


def test_horizons_at_which_nobody_is_there_are_null(tmp_path):
    clips = [moving(1, 14, 25, 3, seed=number) for number in range(4)]
    for clip in clips:
        clip[:, 11:] = 0
    config = write_config(tmp_path, write_data(tmp_path / "data.h5", clips))
    assert run(config, *WITHOUT_VAL, "horizon=[3, 4]", "test_view.normalise=none") == 0
    result = result_of(tmp_path / "work/debug")
    assert result["mpjpe_3"] > 0
    assert result["mpjpe"] > 0
    assert result["mpjpe_4"] is None
    assert result["zero_velocity_mpjpe_4"] is None
    # Of each action there is one clip.
    assert result["distance_same_action"] is result["distance_ratio"] is None
    for clip in clips:
        clip[:, 8:] = 0
    write_data(tmp_path / "empty.h5", clips)
    assert run(config, *WITHOUT_VAL, f"data.path={tmp_path / 'empty.h5'}") == 0
    result = result_of(tmp_path / "work/debug")
    assert result["mpjpe"] is None
    assert result["beats"] == dict.fromkeys(BASELINES, False)


@pytest.mark.parametrize("normalise", ["center_first_frame", "align_torso"])
def test_frames_to_come_change_no_prediction(tmp_path, normalise):
    clips = [moving(1 + number % 2, 14 + 3 * number, 25, 3, seed=number) for number in range(4)]
    found = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        config = write_config(folder, write_data(folder / "data.h5", clips))
        settings = [f"test_view.normalise={normalise}", "optim.lr=0.05"]
        if name == "second":
            settings += ["--phase", "test", "--weights", str(tmp_path / "first/work/debug/best.pt")]
        assert run(config, *WITHOUT_VAL, *settings) == 0
        found.append(predictions_of(folder / ("work/debug" if name == "first" else "work/debug_test")))
        for number, clip in enumerate(clips):
            clip[:, 8:] = moving(*clip[:, 8:].shape, seed=10 + number)[:, ::-1]
    first, second = found
    assert not np.allclose(first["predicted"][:, 0], first["last"][:, :1], atol=1e-3)
    np.testing.assert_array_equal(first["predicted"], second["predicted"])
    np.testing.assert_array_equal(first["last"], second["last"])
    assert not np.allclose(first["true"], second["true"], atol=1e-2)


# -- layouts -----------------------------------------------------------------------------------------------

THREE_JOINTS = "{joints: [hip, left, right], parents: [hip, hip, hip], centre: hip, pairs: [[left, right]]}"


@pytest.mark.parametrize("layout", ["coco", "three.yaml"])
def test_layouts_without_a_torso_are_predicted(tmp_path, layout, capsys):
    if layout == "three.yaml":
        layout = str(tmp_path / layout)
        (tmp_path / "three.yaml").write_text(THREE_JOINTS)
    skeleton = get_skeleton(layout)
    clips = [moving(1, 16, skeleton.num_joint, 3, seed=number) for number in range(4)]
    data = write_data(tmp_path / "data.h5", clips, skeleton=skeleton)
    config = write_config(tmp_path, data)
    settings = [*WITHOUT_VAL, f"data.layout={layout}", "train_view.augment=[{Flip: {mirror: true}}]"]
    assert run(config, *settings) == 0
    assert predictions_of(tmp_path / "work/debug")["true"].shape == (4, 2, PREDICT, skeleton.num_joint, 3)
    assert run(config, *settings, "test_view.normalise=align_torso") == 2
    assert "test_view.normalise: align_torso needs torso" in capsys.readouterr().err


# -- what a config is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["observe=0"], "observe: is 0; it is 1 frame or more"),
        (["predict=-3"], "predict: is -3; it is 1 frame or more"),
        (["observe=ten"], "observe"),
        (["horizon=[0, 2]"], "horizon: is [0, 2]; it is numbers of frames, 1 or more"),
        (["horizon=[2, 7]"], "horizon: is [2, 7], but predict is 6"),
        (["short=pad"], "short"),
        (["test_repeat=2"], "test_repeat: is 2; it is 1: poses of several views cannot be averaged"),
        (["stream=bone"], "stream: is 'bone'"),
        (
            ["test_view.augment=[Flip]"],
            "test_view.augment: is ['Flip']",
        ),
        (
            ["test_view.normalise=align_shoulders"],
            "test_view.normalise: is 'align_shoulders', which depends on frames that are not seen yet; choose another",
        ),
        (["train_view.normalise=align_shoulders"], "train_view.normalise: is 'align_shoulders'"),
        (["test_view.sampling=[{Resize: {num_frame: 14}}]"], "test_view.sampling: is not a single Crop"),
        (
            ["train_view.sampling=[Reverse, {Crop: {num_frame: 12}}]"],
            "train_view.sampling: is not a single Crop with a num_frame, or that before Reverse",
        ),
        (
            ["test_view.sampling=[{Crop: {num_frame: 14}}, Reverse]"],
            "test_view.sampling: is not a single Crop with a num_frame; ",
        ),
        (["train_step=0"], "train_step: is 0; it is 1 frame or more, or null"),
        (["test_step=1", "short=repeat"], "short: is 'repeat', but a clip that is too short has no window"),
        (["test_view.sampling=[Crop]"], "test_view.sampling.0.Crop.num_frame:"),
        (
            ["test_view.sampling.0.Crop.num_frame=20"],
            "test_view.sampling.0.Crop.num_frame: takes 20 frames, but observe + predict are 14; set it to "
            'that, or in a file to "${add:',
        ),
        (
            ["train_view.sampling.0.Crop.num_frame=8"],
            "train_view.sampling.0.Crop.num_frame: takes 8 frames, but observe is 8",
        ),
        (
            ["train_view.sampling.0.Crop.num_frame=13"],
            "train_view.sampling: has 5 frames after the 8 that are seen, but the network predicts 4 at once",
        ),
        (
            [
                "method=null",
                "method_args={}",
                "model=net.simlpe.Model",
                "model_args={_delete_: true, layout: ntu-rgb+d, num_observe: 9, num_predict: 4}",
            ],
            "model_args.num_observe: the network sees 9 frames, but observe is 8",
        ),
        (["without=[future]"], "schedule: has no phase with the loss 'future'"),
        (["method=null"], "method: net.st_gcn.Model has no loss future; "),
        (
            ["schedule=[{name: a, losses: {cross_entropy: 1.0, future: 1.0}}]"],
            "schedule.0.losses.cross_entropy: needs class scores",
        ),
        (
            ["schedule=[{name: a, losses: {intra_frame: 1.0}}]"],
            "schedule: has no phase with the loss 'future'",
        ),
        (["data.label_fraction=0.5"], "data.label_fraction: is 0.5; no loss"),
        (["select=val", "data.val_fraction=0"], "select: 'val' needs a validation part"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_with_key_value_and_remedy(config, tmp_path, capsys, settings, said):
    assert run(config, *settings) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_all_that_is_wrong_is_told_at_once(config, capsys):
    settings = ["predict=5", "horizon=[9]", "stream=motion", "test_view.sampling.0.Crop.num_frame=3"]
    settings += ["train_view.normalise=align_shoulders", "method=null", "optim.lr=-1", "method_args={}"]
    assert run(config, *settings) == 2
    message = capsys.readouterr().err
    for key in ("horizon", "stream", "test_view.sampling.0", "train_view.normalise", "method", "optim.lr"):
        assert f"{key}: " in message or f"{key}." in message


# -- judging -----------------------------------------------------------------------------------------------


def line(*x):
    """One body of one joint on a line: (1, 1, T, 1, 1)."""
    return torch.tensor(x).view(1, 1, -1, 1, 1)


def test_simplest_predictions():
    seen = line(5.0, 1.0, 1.5)
    assert zero_velocity(seen, 3).flatten().tolist() == [1.5, 1.5, 1.5]
    assert constant_velocity(seen, 3).flatten().tolist() == [2.0, 2.5, 3.0]
    # What was not there before stands still, as in a clip of one frame.
    assert constant_velocity(line(0.0, 4.0), 2).flatten().tolist() == [4.0, 4.0]
    assert constant_velocity(line(4.0), 2).flatten().tolist() == [4.0, 4.0]
    # Each joint and body by itself.
    seen = torch.randn(2, 3, 4, 5, 3)
    found = constant_velocity(seen, 6)
    assert found.shape == (2, 3, 6, 5, 3)
    expected = seen[1, 2, 3, 4] + 6 * (seen[1, 2, 3, 4] - seen[1, 2, 2, 4])
    torch.testing.assert_close(found[1, 2, 5, 4], expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_prediction_goes_on_from_what_was_predicted(count):
    shown = []

    def forecast(clip):
        """Two more frames, each the sum of the two before."""
        x, present = clip
        shown.append(x[0, 0, :, 0, 0].tolist())
        assert present.all(2).tolist() == [[True, False]] * 2
        assert present.shape == (2, 2, x.shape[2])
        first = x[:, :, -1:] + x[:, :, -2:-1]
        return torch.cat((first, first + x[:, :, -1:]), 2)

    seen = torch.tensor([1.0, 1.0, 2.0]).view(1, 1, 3, 1, 1).expand(2, 3, 3, 4, 2)
    present = torch.tensor([True, False])[:, None].expand(2, 2, 3)
    found = roll_out(forecast, Clip(seen, present), count)
    assert found.shape == (2, 3, count, 4, 2)
    assert found[1, 2, :, 3, 1].tolist() == [3.0, 5.0, 8.0, 13.0, 21.0][:count]
    # As many frames as at first, and the last ones.
    assert shown == [[1, 1, 2], [2, 3, 5], [5, 8, 13]][: -(-count // 2)]


def test_error_is_that_at_each_horizon_not_up_to_it():
    # Two bodies, two frames, two joints; off by 5 m at first, then by 1 m and 3 m.
    future = torch.zeros(1, 2, 2, 2, 3)
    predicted = future.clone()
    predicted[0, 0, 0, 0] = torch.tensor([3.0, 4.0, 0.0])
    predicted[0, 0, 1, 0, 2], predicted[0, 1, 1, 1, 0] = 1.0, -3.0
    scored = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    scored[0, 1, 0] = scored[0, 0, 1, 1] = False
    total = total_error(predicted, future, scored)
    count = scored.sum((1, 3))
    assert total.tolist() == [[5000.0, 4000.0]]
    assert mpjpe(total.numpy(), count.numpy()).tolist() == [2500.0, pytest.approx(4000 / 3)]


def test_clips_weigh_by_their_joints_and_none_gives_nan():
    total, count = np.array([[10.0, 0], [50, 0]], np.float32), np.array([[1, 0], [2, 0]])
    np.testing.assert_array_equal(mpjpe(total, count), [20, np.nan])
    table = mpjpe_table(
        {"a": total}, count, np.array([1, 1]), ["x", OVERALL], horizons=[1, 2], frame_rate=float("nan")
    )
    assert table["action"].tolist() == [OVERALL] * 4  # one's own action of that name does not replace it
    assert table["mpjpe_mm"].isna().tolist() == [False, True] * 2
    assert table["ms"].isna().all()


def test_papers_count_copies_and_constant_joints_of_cmu():
    cmu = get_skeleton("cmu")
    weight = published_weight(cmu)
    assert published_weight(NTU) is None
    error = torch.rand(38, dtype=torch.float64)
    counted = error.clone()
    for joint in CONSTANT_JOINTS["cmu"]:
        counted[cmu.joints.index(joint)] = 0
    for copy, joint in COPIED_JOINTS["cmu"].items():
        counted[cmu.joints.index(copy)] = error[cmu.joints.index(joint)]
    predicted = torch.zeros(1, 1, 1, 38, 3, dtype=torch.float64)
    predicted[..., 0] = error
    scored = torch.ones(1, 1, 1, 38, dtype=torch.bool)
    total = total_error(predicted, torch.zeros_like(predicted), scored, weight)
    assert total.item() / 38 == pytest.approx(1000 * counted.mean().item())


def test_the_mean_of_papers_is_over_actions():
    total, count = np.array([[10.0], [20.0], [60.0]]), np.ones((3, 1))
    sums = {"published_network": total, "published_count": count}
    table = published_table(sums, np.array([0, 0, 1]), ["a", "b"], horizons=[1])
    assert dict(zip(table["action"], table["published_mm"], strict=True)) == {OVERALL: 37.5, "a": 15, "b": 60}


def test_distances_within_and_between_actions():
    # Two joints on a line; place and size count for nothing, so 0 and 180 degrees, and their middle.
    east, north = [[-1.0, 0], [1, 0]], [[0, -1.0], [0, 1]]
    poses = torch.tensor([east, [[7.0, 3], [9, 3]], north, [[1.0, 0], [-1, 0]]])[:, None]
    same, other = distances_by_action(poses, torch.tensor([0, 0, 1, 1]))
    assert same == pytest.approx((0 + math.sqrt(2)) / 2, abs=1e-3)
    assert other == pytest.approx((2 * math.sqrt(2) + 2 * 2) / 4, abs=1e-3)
    same, other = distances_by_action(poses[:1], torch.tensor([0]))
    assert math.isnan(same)
    assert math.isnan(other)


def test_distances_are_the_same_in_parts():
    poses, label = torch.randn(1030, 1, 2, 2, dtype=torch.float64), torch.arange(1030) % 3
    unit = (poses - poses.mean((1, 2), keepdim=True)).flatten(1)
    unit = unit / unit.norm(dim=1, keepdim=True)
    distance = (unit[:, None] - unit).norm(dim=2).double()
    alike = label[:, None] == label
    alike_others = alike & ~torch.eye(1030, dtype=torch.bool)
    same, other = distances_by_action(poses, label)
    assert same == pytest.approx(float(distance[alike_others].mean()), rel=1e-7)
    assert other == pytest.approx(float(distance[~alike].mean()), rel=1e-7)


def test_results_are_json_whatever_the_figures(tmp_path):
    figures = {"a": float("nan"), "b": {"c": float("inf"), "d": 0.5, "e": True}, "f": None, "g": "nan"}
    io.save_result(tmp_path, figures)
    result = result_of(tmp_path)
    del result["made_with"]
    assert result == {"a": None, "b": {"c": None, "d": 0.5, "e": True}, "f": None, "g": "nan"}


# -- figures -----------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(monkeypatch):
    """The figures that are saved."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: saved.append(figure))
    return saved


def test_poses_are_drawn_while_they_are_there_and_hang_on_their_centre(tmp_path, pictures):
    poses = moving(2, 2, 4, 25, 3) - [0, 0, 3]  # two clips of two bodies, three frames to come
    poses[:, :, :, NTU.torso[0], 2] = -9.0  # they stand along z
    poses[:, :, :, NTU.spine] = 0
    last, true = poses[:, :, 0], poses[:, :, 1:]
    scored = np.ones((2, 2, 3, 25), bool)
    scored[:, 0, :, NTU.spine] = False
    scored[0] = False  # nobody to judge in the first clip
    scored[1, 1] = False  # nor in the second body
    scored[1, 0, 2] = False  # who leaves before the third frame
    arrays = {"label": np.array([0, 1]), "last": last, "true": true, "predicted": true + 1, "scored": scored}
    draw_poses(arrays, ["one", "two"], NTU, tmp_path / "poses.png")
    (figure,) = pictures
    assert [axes.get_title() for axes in figure.axes] == ["last seen", "+1 frames", "+2 frames", "+3 frames"]
    assert figure.axes[0].get_ylabel() == "two"
    plane = [0, 2]
    for axes, expected in zip(
        figure.axes,
        [
            [last[1, 0]],
            [true[1, 0, 0], true[1, 0, 0] + 1],
            [true[1, 0, 1], true[1, 0, 1] + 1],
            [],
        ],
        strict=True,
    ):
        drawn = [lines.get_segments() for lines in axes.collections if len(lines.get_segments())]
        assert len(drawn) == len(expected)
        for bones, pose in zip(drawn, expected, strict=True):
            np.testing.assert_allclose(bones, [pose[list(bone)][:, plane] for bone in NTU.bones])


def test_a_joint_that_is_not_there_has_no_bones(tmp_path, pictures):
    poses = moving(1, 1, 3, 25, 3)
    poses[:, :, :, NTU.spine] = 0
    poses[:, :, 0, NTU.spine] = 3.0  # not centred: it is gone
    scored = np.ones((1, 1, 2, 25), bool)
    scored[..., NTU.spine] = False
    arrays = {"label": np.array([0]), "last": poses[:, :, 0], "true": poses[:, :, 1:], "scored": scored}
    draw_poses({**arrays, "predicted": poses[:, :, 1:]}, ["a"], NTU, tmp_path / "poses.png")
    without = sum(NTU.spine not in bone for bone in NTU.bones)
    assert {len(lines.get_segments()) for axes in pictures[0].axes for lines in axes.collections} == {without}


def test_nothing_to_judge_is_drawn_as_nothing(tmp_path, pictures):
    poses = moving(2, 2, 3, 25, 3)
    arrays = {"label": np.array([0, 1]), "last": poses[:, :, 0], "true": poses, "predicted": poses}
    draw_poses({**arrays, "scored": np.zeros((2, 2, 3, 25), bool)}, ["a", "b"], NTU, tmp_path / "poses.png")
    table = pd.DataFrame({"predictor": ["network"], "frames": [1], "mpjpe_mm": [np.nan]})
    draw_errors(table, tmp_path / "mpjpe.png")
    poses, errors = pictures
    assert not any(axes.collections for axes in poses.axes)
    assert errors.axes[0].get_ylim() == (0, 1)


def test_errors_are_drawn_at_the_scale_of_the_network(tmp_path, pictures):
    errors = {"network": (10.0, 30.0), "zero_velocity": (20.0, 40.0), "constant_velocity": (9.0, 900.0)}
    rows = [[name, frame, error[frame // 8]] for name, error in errors.items() for frame in (1, 8)]
    draw_errors(pd.DataFrame(rows, columns=["predictor", "frames", "mpjpe_mm"]), tmp_path / "mpjpe.png")
    (axes,) = pictures[0].axes
    assert axes.get_ylim() == (0, 60)
    assert [line.get_label() for line in axes.lines] == ["network", "zero velocity", "constant velocity"]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "--"]
    for line, error in zip(axes.lines, errors.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), [[1, error[0]], [8, error[1]]])


@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (["train_loss"], ["loss"]),
        (["train_loss", "val_mpjpe", "val_mpjpe_10"], ["loss", "error in mm"]),
        (["train_loss", "train_top1", "val_mpjpe"], ["loss", "accuracy"]),
    ],
)
def test_curves_are_of_losses_and_of_accuracies_or_errors(tmp_path, pictures, columns, titles):
    save_curves(
        pd.DataFrame({"epoch": [1, 2], **{key: [0.5, 0.4] for key in columns}}), tmp_path / "curves.png"
    )
    assert [axes.get_title() for axes in pictures[0].axes] == titles
    assert all(len(axes.lines) == 1 for axes in pictures[0].axes)


# -- what is to come ---------------------------------------------------------------------------------------


def test_joints_are_judged_that_are_there_then_and_in_the_last_frame_seen():
    last = torch.tensor([[1.0, 0], [0, 0], [0, 2], [3, 3]])  # the second joint is not there
    target = torch.tensor([[[0.0, 1], [1, 1], [0, 0], [2, 2]], [[0, 0], [1, 1], [4, 0], [0, 5]]])
    expected = [[True, False, False, True], [False, False, True, True]]
    both, here = torch.tensor([True, True]), torch.tensor(True)
    assert scored_joints(target, last, both, here).tolist() == expected
    several = (target.expand(3, 2, 2, 4, 2), last.expand(3, 2, 4, 2), both.expand(3, 2, 2), here.expand(3, 2))
    assert scored_joints(*several).tolist() == [[expected] * 2] * 3


def test_a_body_is_judged_where_it_is_said_to_be_whatever_its_poses_hold():
    target, last = torch.ones(2, 3, 4, 2), torch.ones(2, 4, 2)
    leaves = torch.tensor([[True, True, False], [True, True, True]])
    found = scored_joints(target, last, leaves, torch.tensor([True, False]))
    assert found.all(2).tolist() == [[True, True, False], [False] * 3]
    assert torch.equal(found.all(2), found.any(2))


def test_losses_are_means_over_judged_joints():
    predicted, target = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    target[0, 0, 0], target[0, 1, 1] = torch.tensor([3.0, 4.0]), torch.tensor([100.0, 0.0])
    scored = torch.tensor([[[True, True], [True, False]]])
    assert mean_distance(predicted, target, scored).item() == pytest.approx(5 / 3, rel=1e-4)
    assert mean_squared_error(predicted, target, scored).item() == pytest.approx(12.5 / 3)
    nobody = torch.zeros_like(scored)
    for loss in (mean_distance, mean_squared_error):
        predicted = torch.zeros(1, 2, 2, 2, requires_grad=True)
        assert loss(predicted, target, nobody).item() == 0
        loss(predicted, torch.zeros_like(target), scored).backward()
        assert predicted.grad.isfinite().all()
        assert loss(predicted.bfloat16(), target, scored).dtype == torch.float32


def there(bodies):
    """In which frames bodies (B, T, V, C) are: (B, T) bool."""
    return (bodies != 0).flatten(2).any(2)


def fresh_decoder(**changes):
    sizes = {"num_predict": 4, "decoder_hidden": 6, "decoder_block": 2, "num_recent": 3}
    return FutureDecoder(5, 3, layout="ntu-rgb+d", **sizes | changes)


def decoder():
    torch.manual_seed(0)
    made = fresh_decoder()
    torch.nn.init.normal_(made.out.weight)
    return made.eval()


def test_decoder_adds_to_the_last_pose():
    bodies, maps = torch.randn(2, 7, 25, 3), torch.randn(2, 5, 4, 25)
    torch.testing.assert_close(
        fresh_decoder()(maps, bodies, there(bodies)), bodies[:, -1:].expand(-1, 4, -1, -1)
    )
    made = decoder()
    moved = made(maps, bodies, there(bodies)) - bodies[:, -1:]
    assert moved.shape == (2, 4, 25, 3)
    assert moved.abs().max() > 0.1
    # Elsewhere the same motion follows.
    torch.testing.assert_close(
        made(maps, bodies + 2, there(bodies)) - bodies[:, -1:] - 2, moved, atol=1e-4, rtol=1e-4
    )
    assert made(maps[:0], bodies[:0], there(bodies[:0])).shape == (0, 4, 25, 3)


def test_joints_that_are_not_there_in_the_last_pose_stay_nowhere():
    bodies, maps = torch.randn(2, 7, 25, 3), torch.randn(2, 5, 4, 25)
    bodies[0, :, 1] = 0  # what poses are centred on
    bodies[1, -1] = 0  # a body that has left
    found = decoder()(maps, bodies, there(bodies))
    nowhere = torch.zeros(2, 4, 25, dtype=torch.bool)
    nowhere[0, :, 1] = nowhere[1] = True
    assert ((found == 0).all(-1) == nowhere).all()


def test_decoder_sees_the_maps_and_the_frames_seen_last():
    made, bodies, maps = decoder(), torch.randn(2, 7, 25, 3), torch.randn(2, 5, 4, 25)
    expected = made(maps, bodies, there(bodies))
    earlier = bodies.clone()
    earlier[:, :4] += 1
    torch.testing.assert_close(made(maps, earlier, there(earlier)), expected)
    for change in ({"frame": 4}, {"map": 0}, {"map": 3}):
        other, others = bodies.clone(), maps.clone()
        if "frame" in change:
            other[:, change["frame"]] += 1
        else:
            others[:, :, change["map"]] += 1
        assert not torch.allclose(made(others, other, there(other)), expected, atol=1e-3)
    # The first frame stands for those before it.
    once = bodies[:, -1:]
    thrice = once.expand(-1, 3, -1, -1)
    torch.testing.assert_close(made(maps, once, there(once)), made(maps, thrice, there(thrice)))


def test_to_come_or_to_leave_is_no_movement():
    """It would be the largest of a batch, by which all are normalised."""
    made, bodies, maps = decoder().train(), torch.randn(4, 7, 25, 3), torch.randn(4, 5, 4, 25)
    came, stands = bodies.clone(), bodies.clone()
    came[0, :-1], stands[0, :-1] = 0, bodies[0, -1]
    came[1, -3, 8], stands[1, -3, 8] = 0, bodies[1, -1, 8]  # a joint
    torch.testing.assert_close(made(maps, came, there(came)), made(maps, stands, there(stands)))
    left, empty = bodies.clone(), bodies.clone()
    left[0, -1], empty[0] = 0, 0
    torch.testing.assert_close(made(maps, left, there(left)), made(maps, empty, there(empty)))


@pytest.mark.parametrize("name", ["num_predict", "decoder_hidden", "decoder_block", "num_recent"])
def test_sizes_of_the_decoder_are_one_or_more(name):
    with pytest.raises(ValueError, match=f"{name} is 0; give 1 or more"):
        fresh_decoder(**{name: 0})
