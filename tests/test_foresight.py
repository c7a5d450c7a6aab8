"""The picture of how early actions are recognised and how far their next poses are off."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from processor.io import save_anticipation
from processor.metrics import OVERALL, anticipation_table
from tools import foresight

NAMES = ["wave", "bow", "sit"]


def after(share: float) -> dict[str, np.ndarray]:
    """Ten clips of `wave` and of `bow`, none of `sit`; later more are right, of `wave` all by the half."""
    label = np.repeat([0, 1], 10)
    right = np.concatenate([np.arange(10) < 10 * min(1, 2 * share), np.arange(10) < 8 * share])
    return {"scores": np.eye(3)[np.where(right, label, 2)], "label": label}


def test_shares_of_recognised_clips_are_by_action():
    table = anticipation_table({share: after(share) for share in (0.2, 1.0)}, NAMES)
    assert table["action"].tolist() == [OVERALL, OVERALL, "wave", "wave", "bow", "bow"]
    assert table["clips"].tolist() == [20, 20, 10, 10, 10, 10]
    assert table["observed"].tolist() == [0.2, 1.0] * 3
    assert table["top1"].tolist() == pytest.approx([0.3, 0.9, 0.4, 1.0, 0.2, 0.8])


@pytest.fixture
def runs(tmp_path):
    """A run of recognition and one of prediction, which has no `wave` and one more action."""
    early, late = tmp_path / "early", tmp_path / "late"
    early.mkdir()
    late.mkdir()
    save_anticipation(early, anticipation_table({share: after(share) for share in (0.2, 0.5, 1.0)}, NAMES))
    errors = {OVERALL: 50, "bow": 60, "wave": 40, "sit": 30}
    rows = [
        (action, predictor, frames, factor * error * frames)
        for action, error in errors.items()
        for predictor, factor in (("network", 1), ("zero_velocity", 2))
        for frames in (1, 10)
    ]
    table = pd.DataFrame(rows, columns=["action", "predictor", "frames", "mpjpe_mm"])
    table.to_csv(late / "mpjpe.csv", index=False)
    return early, late


def test_actions_recognised_early_come_first(runs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    assert foresight.main([*map(str, runs), "--out", str(tmp_path / "both")]) == 0
    table = pd.read_csv(tmp_path / "both.csv", index_col="action")
    assert table.index.tolist() == ["wave", "bow", OVERALL]
    assert table["recognised"].tolist() == [0.5, 1.0, 1.0]
    assert table["seen 20 %"].tolist() == pytest.approx([0.4, 0.2, 0.3])
    assert table["10 ahead"].tolist() == [400, 600, 500]
    left, right = drawn[0].axes
    assert [text.get_text() for text in left.texts[:3]] == ["40", "100", "100"]
    assert [text.get_text() for text in right.texts] == ["40", "400", "60", "600", "50", "500"]
    assert [patch.get_xy() for patch in left.patches] == [(0.5, -0.5), (1.5, 0.5), (1.5, 1.5)]


def test_an_action_that_is_never_right_comes_last_and_has_no_frame(runs, tmp_path, monkeypatch):
    early, late = runs
    table = pd.read_csv(early / "anticipation.csv")
    table.loc[table["action"] == "wave", "top1"] = 0
    table.to_csv(early / "anticipation.csv", index=False)
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    assert foresight.main([str(early), str(late), "--out", str(tmp_path / "v1.2")]) == 0
    found = pd.read_csv(tmp_path / "v1.2.csv", index_col="action")["recognised"]
    assert found.index.tolist() == ["bow", "wave", OVERALL]
    assert found.isna().tolist() == [False, True, False]
    assert [patch.get_xy()[1] for patch in drawn[0].axes[0].patches] == [-0.5, 1.5]


def test_a_table_is_kept_unless_overwritten(runs, tmp_path, capsys):
    words = [*map(str, runs), "--out", str(tmp_path / "both")]
    assert foresight.main(words) == 0
    assert foresight.main(words) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert foresight.main([*words, "--overwrite"]) == 0


def test_shares_without_whole_clips_are_refused(runs, tmp_path, capsys):
    early, late = runs
    table = pd.read_csv(early / "anticipation.csv")
    table[table["observed"] < 1].to_csv(early / "anticipation.csv", index=False)
    assert foresight.main([str(early), str(late), "--out", str(tmp_path / "both")]) == 1
    assert "observe_ratio of the recognition is 0.5" in capsys.readouterr().err


def test_runs_without_the_tables_or_without_a_common_action_are_refused(runs, tmp_path, capsys):
    early, late = runs
    words = ["--out", str(tmp_path / "both")]
    assert foresight.main([str(late), str(late), *words]) == 1
    assert "observe_ratio" in capsys.readouterr().err
    table = pd.read_csv(early / "anticipation.csv")
    table[["observed", "top1"]].to_csv(early / "anticipation.csv", index=False)
    assert foresight.main([str(early), str(late), *words]) == 1
    assert "no column action" in capsys.readouterr().err
    table.replace({"action": {"wave": "x", "bow": "y"}}).to_csv(early / "anticipation.csv", index=False)
    assert foresight.main([str(early), str(late), *words]) == 1
    assert "no action in common" in capsys.readouterr().err
    assert not (tmp_path / "both.csv").exists()
