"""The textbook side does the same work as ours, so a ratio compares like with like; and the report is kept."""

import re

import numpy as np
import pytest
import torch

from feeder.ragged import RaggedBatch
from feeder.views import View
from net import ctr_gcn, st_gcn
from net.utils.graph import Graph
from net.utils.layouts import get_skeleton
from tools import benchmark, textbook

LAYOUT = "ntu-rgb+d"

ST_GCN_NAMES = {
    r"^blocks\.(\d+)\.graph\.": r"st_gcn_networks.\1.gcn.conv.",
    r"^blocks\.(\d+)\.temporal\.": r"st_gcn_networks.\1.tcn.",
    r"^blocks\.(\d+)\.residual\.": r"st_gcn_networks.\1.residual.",
    r"^blocks\.(\d+)\.importance$": r"edge_importance.\1",
    r"^head\.": "fcn.",
}


def test_st_gcn_is_the_same_function():
    torch.manual_seed(0)
    ours = st_gcn.Model(3, 7, layout=LAYOUT, hidden_channels=8, dropout=0.0)
    usual = textbook.STGCN(torch.from_numpy(Graph(LAYOUT).A).float(), 7, hidden_channels=8)
    state = ours.state_dict()
    for name, value in usual.state_dict().items():
        for pattern, replacement in ST_GCN_NAMES.items():
            name = re.sub(pattern, replacement, name)
        # A residual that is the identity has no weights, so every name must be found.
        value.copy_(state[name].view_as(value) if name != "A" else value)
    x = torch.randn(2, 3, 24, 25, 2)
    torch.testing.assert_close(usual(x), ours(x), rtol=1e-4, atol=1e-5)


def test_ctr_gcn_does_the_same_work():
    ours = ctr_gcn.Model(3, 7, layout=LAYOUT, num_body=2, base_channels=16)
    usual = textbook.CTRGCN(torch.from_numpy(Graph(LAYOUT, "digraph").A).float(), 7, base_channels=16)
    count = [sum(p.numel() for p in model.parameters()) for model in (ours, usual)]
    assert count[0] == count[1]
    assert usual(torch.randn(2, 3, 24, 25, 2)).shape == (2, 7)


def one_clip():
    clip = np.random.default_rng(0).standard_normal((2, 31, 25, 3)).astype(np.float32)
    one = torch.tensor([1])
    rows = torch.from_numpy(clip).reshape(-1, 25, 3)
    return clip.transpose(3, 1, 2, 0), RaggedBatch(rows, start=one * 0, num_frame=one * 31, num_body=one * 2)


def test_resize_is_the_same():
    clip, batch = one_clip()
    view = View(get_skeleton(LAYOUT), num_body=2, sampling=[{"Resize": {"num_frame": 50}}])
    np.testing.assert_allclose(view(batch, torch.Generator())[0], textbook.resize(clip, 50), atol=1e-5)


def test_aligned_view_is_the_same():
    clip, batch = one_clip()
    view = View(
        get_skeleton(LAYOUT),
        num_body=2,
        **{**benchmark.NORMAL_VIEW, "sampling": [{"Resize": {"num_frame": 50}}], "augment": []},
    )
    expected = textbook.align_shoulders(textbook.resize(clip, 50))
    np.testing.assert_allclose(view(batch, torch.Generator())[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["S001C001P001R001A001", "S017C003P020R002A054"])
def test_preparation_is_that_of_the_original(reference, shared_data, name):
    data = textbook.read_skeleton(shared_data("ntu_raw") / f"{name}.skeleton")
    found = textbook.align_torso(textbook.choose_bodies(data))
    expected = reference("ntu_preprocess.npz")[f"{name}/energy_two_bodies_normalised"]
    np.testing.assert_allclose(found.transpose(3, 1, 2, 0), expected, atol=1e-5)


def test_ratio_is_the_median_over_the_turns():
    assert benchmark.ratio([2, 8, 9], [1, 1, 3]) == 3


def test_turns_are_taken_in_order_and_the_first_round_is_not_counted():
    calls = []
    work = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = benchmark.take_turns(work, 2)
    assert calls == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_report_replaces_its_own_section_alone(tmp_path):
    path = tmp_path / "docs.md"
    path.write_text("# Benchmarks\n\nHand-written.\n\n## batch on cuda\n\nkeep\n")
    benchmark.write_report("first", "batch on cpu", path)
    benchmark.write_report("second", "batch on cpu", path)
    text = path.read_text()
    assert text.count("## ") == 2
    assert "Hand-written." in text
    assert "keep" in text
    assert "second" in text
    assert "first" not in text


def test_rows_of_a_small_contest(monkeypatch):
    small = benchmark.Contest(
        lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=4, hidden_dim=8),
        lambda: textbook.STGCN(
            torch.from_numpy(Graph(LAYOUT).A).float(), 60, hidden_channels=4, hidden_dim=8
        ),
        (2, 3, 16, 25, 1),
    )
    monkeypatch.setattr(benchmark, "CONTESTS", {"small": small})
    monkeypatch.setattr(benchmark, "peak_memory", lambda *args: 1.0)
    rows = list(benchmark.network(1, torch.device("cpu")))
    assert [row.work for row in rows] == [
        f"small, {phase}, {how}" for phase in ("train", "infer") for how in ("textbook", "fp32", "bf16")
    ]
    assert all(float(row.clips_per_second.replace(",", "")) > 0 for row in rows)
    table = benchmark.table(rows).splitlines()
    assert len({len(line) for line in table}) == 1
    ours, *usual = benchmark.batch(1, torch.device("cpu"))
    assert len(usual) == 2 and all(row.work.startswith(f"{ours.work}, textbook") for row in usual)
