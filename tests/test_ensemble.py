import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from net.utils.layouts import get_skeleton
from processor import io
from processor.metrics import OVERALL
from processor.prediction_metrics import mpjpe_table, published_weight
from tools import ensemble


def write_run(folder, name, label, scores, class_name=("a", "b")):
    folder.mkdir()
    arrays = {"name": name, "label": label, "scores": scores, "class_name": class_name}
    io.save_scores(folder / "scores.npz", {key: np.asarray(value) for key, value in arrays.items()})
    return str(folder)


@pytest.fixture
def two_runs(tmp_path):
    """Each run is wrong about another clip; the second lists its clips in another order."""
    first = write_run(tmp_path / "1", ["x", "y", "z"], [0, 1, 1], [[3, 0], [0, 3], [1, 0]])
    second = write_run(tmp_path / "2", ["z", "x", "y"], [1, 0, 1], [[0, 4], [0, 1], [0, 2]])
    return [first, second]


def test_scores_are_joined_by_name_not_by_position(two_runs, tmp_path):
    assert ensemble.main([*two_runs, "--weights", "1", "0.5", "--out", str(tmp_path / "out")]) == 0
    fused = io.load_scores(tmp_path / "out/scores.npz")
    assert fused["name"].tolist() == ["x", "y", "z"]
    np.testing.assert_allclose(fused["scores"], [[3, 0.5], [0, 4], [1, 2]])
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["top1"] == 1
    assert [member["weight"] for member in result["fused"]] == [1, 0.5]


def test_table_names_each_run(two_runs, capsys):
    assert ensemble.main(two_runs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0.6667", "0.6667", "1.0000"]


def test_out_is_kept_unless_overwritten(two_runs, tmp_path, capsys):
    command = [*two_runs, "--out", str(tmp_path / "out")]
    assert ensemble.main(command) == 0
    assert ensemble.main(command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert ensemble.main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("name", "label", "class_name", "message"),
    [
        (["x", "y", "w"], [0, 1, 1], ("a", "b"), "2 are in one only, e.g. 'w'"),
        (["x", "y", "z"], [0, 0, 1], ("a", "b"), "other labels"),
        (["x", "y", "z"], [0, 1, 1], ("a", "c"), "other classes"),
    ],
)
def test_runs_of_other_clips_labels_or_classes_are_refused(
    two_runs, tmp_path, capsys, name, label, class_name, message
):
    third = write_run(tmp_path / "3", name, label, np.zeros((3, 2)), class_name)
    assert ensemble.main([two_runs[0], third]) == 1
    assert message in capsys.readouterr().err


def test_only_its_own_files_are_replaced(two_runs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.yaml").write_text("mine")
    for overwrite in ([], ["--overwrite"]):
        assert ensemble.main([*two_runs, "--out", str(out), *overwrite]) == 0
        assert (out / "config.yaml").read_text() == "mine"


@pytest.mark.parametrize("weights", [["0", "0"], ["1", "nan"], ["1", "inf"]])
def test_weights_that_fuse_nothing_are_refused(two_runs, capsys, weights):
    with pytest.raises(SystemExit, match="2"):
        ensemble.main([*two_runs, "--weights", *weights])
    assert "give finite numbers, not all of them 0" in capsys.readouterr().err


def test_missing_and_foreign_files(two_runs, tmp_path, capsys):
    assert ensemble.main([two_runs[0], str(tmp_path / "none")]) == 1
    assert "not found" in capsys.readouterr().err
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    np.save(foreign / "scores.npz", np.zeros(3))
    (foreign / "scores.npz.npy").rename(foreign / "scores.npz")
    assert ensemble.main([two_runs[0], str(foreign)]) == 1
    assert "holds no scores" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ensemble.main([*two_runs, "--weights", "1"])
    assert "2 runs but 1 weights" in capsys.readouterr().err
    (Path(two_runs[0]) / "result.json").write_text("{")
    with pytest.raises(SystemExit):
        ensemble.main([*two_runs])
    assert "result.json cannot be read" in capsys.readouterr().err


def test_three_pretrained_streams_weigh_as_in_aimclr(tmp_path, capsys):
    runs = [
        write_run(tmp_path / name, ["x", "y"], [0, 1], [[1, 0], [0, 1]])
        for name in ("bone", "joint", "motion")
    ]

    def say(**about):
        for stream in ("bone", "joint", "motion"):
            (tmp_path / stream / "result.json").write_text(json.dumps({"stream": stream, **about}))

    def weights():
        assert ensemble.main(runs) == 0
        lines = capsys.readouterr().out.splitlines()[1:4]
        return [float(line.split()[3]) for line in lines]

    assert weights() == [1, 1, 1]
    say(protocol="linear")
    assert weights() == [0.6, 0.6, 0.4]
    say(protocol="scratch")
    assert weights() == [1, 1, 1]
    say(protocol="finetune")
    assert ensemble.main(runs[:2]) == 0
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()[1:3]] == ["1.0", "1.0"]


# -- poses -------------------------------------------------------------------------------------------------


def write_poses(folder, name, predicted, *, layout="kinect-v1", **changes):
    """A run of two clips, one body, two frames; true poses are 0, and standing still is 1 m off.

    One joint is not scored. It is predicted 9 m away.
    """
    folder.mkdir()
    skeleton = get_skeleton(layout)
    poses = np.zeros((2, 1, 2, skeleton.num_joint, 3), np.float32)
    arrays = {"name": np.array(name), "label": np.array([0, 1])[np.argsort(name)], "true": poses}
    arrays |= {"last": poses[:, :, 0] + [1, 0, 0], "scored": np.ones(poses.shape[:-1], bool)}
    arrays |= {"predicted": poses + np.array([*predicted, 0])[None, None, None, None], **changes}
    arrays["scored"][:, :, :, 5] = False
    arrays["predicted"][:, :, :, 5] = 9
    table = mpjpe_table(
        {"network": np.ones((2, 2)), "zero_velocity": np.full((2, 2), 1000.0)},
        np.ones((2, 2)),
        arrays["label"],
        ["a", "b"],
        horizons=[1, 2],
        frame_rate=30,
    )
    io.save_predictions(folder, arrays, table, class_names=["a", "b"], skeleton=skeleton)
    (folder / "config.yaml").write_text(f"data: {{layout: {layout}}}")
    return str(folder)


@pytest.fixture
def two_predictors(tmp_path):
    """Errors of 300 and 500 mm, in opposite directions."""
    first = write_poses(tmp_path / "1", ["x", "y"], [0.3, 0])
    return [first, write_poses(tmp_path / "2", ["y", "x"], [-0.5, 0])]


def test_poses_are_averaged(two_predictors, tmp_path, capsys):
    out = tmp_path / "out"
    assert ensemble.main([*two_predictors, "--weights", "3", "1", "--out", str(out)]) == 0
    found = io.load_predictions(out / "predictions.npz")
    np.testing.assert_allclose(found["predicted"][:, :, :, 0, 0], 0.1, rtol=1e-6)
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["mpjpe", "300.0000", "500.0000", "100.0000"]
    result = json.loads((out / "result.json").read_text())
    assert result["mpjpe_2"] == pytest.approx(100, rel=1e-5)
    table = pd.read_csv(out / "mpjpe.csv")
    assert table["action"].tolist() == [OVERALL] * 4 + ["a"] * 4 + ["b"] * 4
    still = table[(table["predictor"] == "zero_velocity") & (table["action"] == "b")]
    assert still["mpjpe_mm"].tolist() == [1000, 1000]
    assert still["ms"].tolist() == pytest.approx([1000 / 30, 2000 / 30])
    # A fusion of a fusion and a run.
    assert ensemble.main([str(out), two_predictors[0], "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["mpjpe"] == pytest.approx(200, rel=1e-5)


def test_a_fusion_has_the_errors_of_papers(tmp_path, capsys):
    """Of the 38 joints of CMU; those that are exact for papers have no error."""
    runs = [
        write_poses(tmp_path / str(number), ["x", "y"], [error, 0], layout="cmu")
        for number, error in enumerate((0.3, -0.1))
    ]
    out = tmp_path / "out"
    assert ensemble.main([*runs, "--out", str(out)]) == 0
    weight = published_weight(get_skeleton("cmu"))
    weight[5] = 0  # the joint that is not scored
    expected = 100 * float(weight.sum()) / 38
    result = json.loads((out / "result.json").read_text())
    assert result["published_mpjpe_1"] == pytest.approx(expected, rel=1e-5)
    table = pd.read_csv(out / "mpjpe.csv")
    assert table["published_mm"][table["predictor"] == "network"].tolist() == pytest.approx([expected] * 6)


def test_a_fusion_that_cannot_be_made_leaves_an_earlier_one(two_predictors, tmp_path, capsys):
    words = [*two_predictors, "--out", str(tmp_path / "out"), "--overwrite"]
    assert ensemble.main(words) == 0
    (Path(two_predictors[0]) / "mpjpe.csv").unlink()
    assert ensemble.main(words) == 1
    assert (tmp_path / "out" / "predictions.npz").is_file()


def test_true_poses_may_differ_by_rounding(two_predictors, tmp_path, capsys):
    near = np.full((2, 1, 2, 20, 3), 1e-5, np.float32)
    other = write_poses(tmp_path / "3", ["x", "y"], [0, 0], true=near)
    assert ensemble.main([two_predictors[0], other]) == 0


def test_runs_that_predict_other_poses_and_weights_without_a_mean_are_refused(
    two_predictors, tmp_path, capsys
):
    other = write_poses(tmp_path / "3", ["x", "y"], [0, 0], true=np.ones((2, 1, 2, 20, 3)))
    assert ensemble.main([two_predictors[0], other]) == 1
    assert "observe" in capsys.readouterr().err
    assert ensemble.main([*two_predictors, "--weights", "1", "-1"]) == 1
    assert "sum is 0" in capsys.readouterr().err
