import json
from pathlib import Path

import numpy as np
import pytest

from processor import io
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
