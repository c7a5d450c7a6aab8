"""The textbook side does the same work as ours, so a ratio compares like with like; and the report is kept."""

import re

import numpy as np
import pytest
import torch
from batches import Given, names_of

from feeder.augment import TemporalBlur, augment, rotations
from feeder.ragged import RaggedBatch
from feeder.views import View
from net import aimclr, as_gcn, ctr_gcn, st_gcn
from net.long_term import LongTerm
from net.utils.layouts import get_skeleton
from tools import (
    benchmark,
    benchmark_batch,
    benchmark_inference,
    benchmark_long_term,
    benchmark_network,
    benchmark_pretrain,
    contest,
    textbook,
    textbook_as_gcn,
    textbook_networks,
)
from tools.contest import LAYOUT, Row, adjacency

CPU = torch.device("cpu")

ST_GCN_NAMES = {
    r"^blocks\.(\d+)\.graph\.": r"st_gcn_networks.\1.gcn.conv.",
    r"^blocks\.(\d+)\.temporal\.": r"st_gcn_networks.\1.tcn.",
    r"^blocks\.(\d+)\.residual\.": r"st_gcn_networks.\1.residual.",
    r"^blocks\.(\d+)\.importance$": r"edge_importance.\1",
    r"^head\.": "fcn.",
}


def copy_weights(ours, usual):
    """Give the textbook's ST-GCN the weights of ours."""
    state = ours.state_dict()
    for name, value in usual.state_dict().items():
        for pattern, replacement in ST_GCN_NAMES.items():
            name = re.sub(pattern, replacement, name)
        # A residual that is the identity has no weights, so every name must be found.
        value.copy_(state[name].view_as(value) if name != "A" else value)


def test_st_gcn_is_the_same_function():
    torch.manual_seed(0)
    ours = st_gcn.Model(3, 7, layout=LAYOUT, hidden_channels=8, dropout=0.0)
    usual = textbook_networks.STGCN(adjacency("spatial"), 7, hidden_channels=8)
    copy_weights(ours, usual)
    x = torch.randn(2, 3, 24, 25, 2)
    torch.testing.assert_close(usual(x), ours(x), rtol=1e-4, atol=1e-5)


def test_ctr_gcn_does_the_same_work():
    ours = ctr_gcn.Model(3, 7, layout=LAYOUT, num_body=2, base_channels=16)
    usual = textbook_networks.CTRGCN(adjacency("digraph"), 7, base_channels=16)
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
        sampling=[{"Resize": {"num_frame": 50}}],
        normalise="align_shoulders",
    )
    expected = benchmark_batch.aligned(clip)
    np.testing.assert_allclose(view(batch, torch.Generator())[0], expected, atol=1e-4)


def test_flip_and_rotation_are_the_same():
    clip, _ = one_clip()
    swap, angles = get_skeleton(LAYOUT).swap, [0.3, -0.7, 1.1]
    matrix = rotations(torch.tensor([angles]))[0].numpy()
    np.testing.assert_array_equal(textbook.flip(clip, swap), clip[:, :, list(swap)])
    turned = np.einsum("cd,dtvm->ctvm", matrix, clip)
    np.testing.assert_allclose(textbook.rotate(clip, angles), turned, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 1.3])
def test_blur_is_the_same(sigma):
    clip, _ = one_clip()
    tracks = torch.from_numpy(clip.transpose(3, 1, 2, 0).copy())
    step = TemporalBlur(1.0, min_sigma=sigma, max_sigma=sigma)
    swap, bodies = get_skeleton(LAYOUT).swap, torch.zeros(2, dtype=torch.int64)
    ours = augment(tracks, [step], clip=bodies, num_clip=1, swap=swap, generator=torch.Generator())
    np.testing.assert_allclose(textbook.blur(clip, sigma), ours.permute(3, 1, 2, 0), atol=1e-5)


def test_noise_and_mask_change_what_they_say():
    clip, _ = one_clip()
    assert (textbook.noise(clip, 0.1) - clip).std() == pytest.approx(0.1, rel=0.05)
    masked = textbook.axis_mask(clip, 1)
    assert not masked[1].any()
    np.testing.assert_array_equal(masked[[0, 2]], clip[[0, 2]])


@pytest.mark.parametrize(("drawn", "done"), [(0.0, slice(0, 6)), (0.99, slice(0, 3, 2))])
def test_views_of_the_textbook_take_the_steps_of_ours(monkeypatch, drawn, done):
    steps = {
        "shear": "Shear",
        "flip": "Flip",
        "rotate": "RotateMainAxis",
        "noise": "GaussianNoise",
        "blur": "TemporalBlur",
        "axis_mask": "AxisMask",
    }
    called = []

    def recorded(name):
        change = getattr(textbook, name)
        return lambda data, *args: called.append(steps[name]) or change(data, *args)

    for name in steps:
        monkeypatch.setattr(textbook, name, recorded(name))
    monkeypatch.setattr(textbook.random, "random", lambda: drawn)
    ours = [[type(step).__name__ for step in view.augment] for view in benchmark_batch.aimclr_views()]
    assert ours == [["Shear"], ["Shear"], [*steps.values()]]
    made = textbook.aimclr_views(benchmark_batch.aligned(one_clip()[0]))
    assert [view.shape for view in made] == [(3, 50, 25, 2)] * 3
    assert called == ["Shear", "Shear", *list(steps.values())[done]]


def test_padded_clips_are_the_clips():
    clips = benchmark_batch.ragged([2, 1, 2], CPU)
    view = View(get_skeleton(LAYOUT), num_body=2, sampling=[{"Pad": {"num_frame": 104, "mode": "zero"}}])
    found = view(clips, torch.Generator())
    for number, clip in enumerate(benchmark_batch.padded(clips, 3)):
        np.testing.assert_array_equal(found[number, :, : clip.shape[1]], clip)
        assert clip.shape[1] == clips.num_frame[number]


def test_attention_drop_is_the_same():
    maps = torch.randn(4, 8, 5, 25, generator=torch.Generator().manual_seed(0)) * 2
    dropped = textbook_networks.attention_drop(maps)
    assert (dropped == 0).any()
    torch.testing.assert_close(dropped, aimclr.attention_drop(maps))


def test_training_steps_have_the_same_losses():
    """Two steps on the same views: losses, gradients, momentum and queue of the first show in the second."""
    torch.manual_seed(0)
    encoder = st_gcn.Model(layout=LAYOUT, hidden_channels=4, hidden_dim=16, dropout=0.0)
    ours = aimclr.AimCLR(encoder, queue_size=8, feature_dim=8)
    usual = textbook_networks.AimCLR(
        textbook_networks.STGCN(adjacency("spatial"), 60, hidden_channels=4, hidden_dim=16), 8, feature_dim=8
    )
    copy_weights(ours.encoder_q, usual.encoder_q)
    copy_weights(ours.encoder_k, usual.encoder_k)
    usual.queue.copy_(ours.queue)
    # In float32 rounding would grow from step to step.
    ours, usual = ours.double(), usual.double()
    views = [torch.randn(4, 3, 16, 25, 2, dtype=torch.float64) for _ in range(3)]
    given = Given(views).batch()

    def our_losses(batch):
        return ours(batch, names_of(ours.LOSSES)).losses

    steps = [
        benchmark_pretrain.training_step(
            ours, lambda batch: ours(batch, names_of(ours.LOSSES)).losses, lambda: given, torch.float32
        ),
        benchmark_pretrain.training_step(usual, usual, lambda: views, torch.float32),
    ]
    seen, before = [], ours.encoder_q.data_bn.weight.clone()
    for _ in range(3):
        losses, expected = (run() for run in steps)
        assert losses.keys() == expected.keys()
        for name, loss in losses.items():
            assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4)
        torch.testing.assert_close(ours.queue, usual.queue, atol=1e-4, rtol=1e-4)
        seen.append(losses["info_nce"].item())
    assert len(set(seen)) == 3
    assert not torch.equal(ours.encoder_q.data_bn.weight, before)


@pytest.mark.parametrize("name", ["S001C001P001R001A001", "S017C003P020R002A054"])
def test_preparation_is_that_of_the_original(reference, shared_data, name):
    data = textbook.read_skeleton(shared_data("ntu_raw") / f"{name}.skeleton")
    found = textbook.align_torso(textbook.choose_bodies(data))
    expected = reference("ntu_preprocess.npz")[f"{name}/energy_two_bodies_normalised"]
    np.testing.assert_allclose(found.transpose(3, 1, 2, 0), expected, atol=1e-5)


def test_ratio_is_the_median_over_the_turns():
    assert contest.ratio([2, 8, 9], [1, 1, 3]) == 3


def test_turns_are_taken_in_order_and_the_first_round_is_not_counted():
    calls = []
    work = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = contest.take_turns(work, 2)
    assert calls == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_report_replaces_its_own_section_alone(tmp_path):
    path = tmp_path / "docs.md"
    path.write_text("# Performance\n\nHand-written.\n\n## batch on cuda\n\nkeep\n")
    benchmark.write_report("first", "batch on cpu", path)
    benchmark.write_report("second", "batch on cpu", path)
    text = path.read_text()
    assert text.count("## ") == 2
    assert "Hand-written." in text
    assert "keep" in text
    assert "second" in text
    assert "first" not in text


def test_a_duration_has_the_unit_that_leaves_a_small_number():
    assert [contest.duration(seconds) for seconds in (0.1234, 119, 150, 9000)] == [
        "0.123 s",
        "119 s",
        "2.5 min",
        "2.5 h",
    ]


def test_columns_that_no_row_fills_are_left_out():
    table = benchmark.table([Row("a", "1,234"), Row("bb", "5", time="2 s")])
    assert table.splitlines() == [
        "| work | clips/s | time |",
        "|------|---------|------|",
        "| a    | 1,234   |      |",
        "| bb   | 5       | 2 s  |",
    ]


def rates(rows):
    return [float(row.clips_per_second.replace(",", "")) for row in rows]


def test_rows_of_a_small_contest(monkeypatch):
    both = benchmark_network.Contest(
        benchmark_network.Contestant(
            lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=4, hidden_dim=8)
        ),
        benchmark_network.Contestant(
            lambda: textbook_networks.STGCN(adjacency("spatial"), 60, hidden_channels=4, hidden_dim=8)
        ),
        (2, 3, 16, 25, 1),
    )
    train = both._replace(ours=both.ours._replace(infer=None))
    monkeypatch.setattr(benchmark_network, "CONTESTS", {"both": both, "one": train})
    monkeypatch.setattr(benchmark_network, "peak_memory", lambda *args: 1.0)
    # A CPU without instructions for bf16 would take minutes.
    monkeypatch.setattr(benchmark_network, "YARDSTICK", 64)
    rows = list(benchmark_network.network(1, CPU))
    assert [row.work for row in rows] == [
        f"{what}, {how}"
        for what in ("both, train", "both, infer", "one, train")
        for how in ("textbook", "fp32", "bf16")
    ]
    assert min(rates(rows)) > 0


def test_a_step_learns_or_infers_as_its_contestant_says():
    """The loss, whether gradients are kept, and the mode are those of the step."""
    seen = []

    def learn(model, batch):
        seen.append((model.training, torch.is_grad_enabled(), batch.future.x.shape))
        return model(batch.views[0].x).square().sum()

    def infer(model, x):
        seen.append((model.training, torch.is_grad_enabled(), x.shape))

    model = torch.nn.Linear(1, 1)
    batch = benchmark_network._batch((2, 3, 4, 5, 1), CPU)
    contestant = benchmark_network.Contestant(lambda: model, learn, infer)
    benchmark_network._step(contestant, model, batch, torch.float32, True)()
    assert model.weight.grad is not None
    benchmark_network._step(contestant, model, batch, torch.float32, False)()
    assert seen == [(True, True, (2, 3, 10, 5, 1)), (False, False, (2, 3, 4, 5, 1))]


def test_as_gcn_s_contests_compare_the_same_losses_and_scores():
    """Small networks with the same weights, nothing drawn, one body: the textbook's future is of the first."""
    torch.manual_seed(0)
    names = [name for name in benchmark_network.CONTESTS if name.startswith("AS-GCN")]
    sizes = {"hidden_channels": 4, "link_hidden": 8}
    ours = as_gcn.Model(3, 60, **sizes, dropout=0.0, likeliest_links=True).double().eval()
    for parameter in ours.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    A = benchmark_network.CONTESTS[names[0]].textbook.make().A
    usual = textbook_as_gcn.ASGCN(A, 60, hidden_channels=4, hidden=8).double().eval()
    usual.load_state_dict(ours.state_dict())
    batch = benchmark_network._batch((2, 3, 290, 25, 1), CPU)
    batch = Given([batch.views[0].x.double()], batch.future.x.double(), batch.label).batch()
    for name in names:
        contest = benchmark_network.CONTESTS[name]
        pairs = [(contest.ours.learn(ours, batch), contest.textbook.learn(usual, batch))]
        if contest.ours.infer:
            x = batch.views[0].x
            pairs.append((contest.ours.infer(ours, x), contest.textbook.infer(usual, x)))
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert len(names) == 3


def test_rows_of_views():
    rows = list(benchmark_batch.batch(1, CPU))
    for (ours, *usual), what in ((rows[:3], "AimCLR's normal view"), (rows[3:], "AimCLR's three views")):
        assert ours.work == what
        assert float(ours.ratio) > 1
        assert [row.work for row in usual] == [
            f"{what}, textbook",
            f"{what}, textbook, clips resized and aligned before",
        ]
    assert min(rates(rows)) > 0


@pytest.mark.parametrize(
    ("bodies", "title", "more"),
    [
        ((2,), "AimCLR step, 5 clips of 2 bodies", []),
        (
            benchmark_pretrain.BODIES,
            "AimCLR step, 5 clips, 80% with one body",
            ["bf16, empty bodies skipped"],
        ),
    ],
)
def test_rows_of_a_training_step(bodies, title, more):
    rows = list(benchmark_pretrain.step(1, CPU, bodies, num_clip=5, queue_size=10))
    assert [row.work for row in rows] == [f"{title}, {name}" for name in ("textbook", "fp32", "bf16", *more)]
    assert [bool(row.ratio) for row in rows] == [False] + [True] * (2 + len(more))
    assert min(rates(rows)) > 0


def test_rows_of_what_each_loss_costs():
    small = {"num_clip": 2, "num_frame": 8, "hidden_channels": 4, "queue_size": 8}
    rows = list(benchmark_long_term.costs(1, CPU, torch.float32, "fp32", **small))
    names = [row.work.rsplit(", ", 1)[1] for row in rows]
    assert names[0] == "all losses" and names[-1] == "the action alone"
    assert names[1:-1] == [f"without {loss.name}" for loss in LongTerm.LOSSES[1:]]
    assert rows[0].time == ""
    assert all(re.fullmatch(r"-?[\d.]+ % less time", row.time) for row in rows[1:])


def test_rows_of_an_epoch():
    small = {"num_clip": 12, "num_step": 2, "batch_size": 4, "hidden_channels": 4, "queue_size": 8}
    rows = list(benchmark_long_term.epoch(1, CPU, **small))
    assert [row.work.rsplit(", ", 1)[1] for row in rows] == ["fp32", "bf16"]
    assert all(row.clips_per_second and row.time for row in rows)


def test_rows_of_linear_evaluation():
    rows = list(benchmark_pretrain.linear_evaluation(1, CPU, num_clip=2000, sample=8, batch_size=512))
    of_features, an_epoch = "features of 2,000 clips at the rate of 8", "an epoch of 2,000 clips"
    assert [row.work.removeprefix("linear evaluation, ") for row in rows] == [
        f"{of_features}, fp32",
        f"{of_features}, bf16",
        f"{an_epoch} on stored features",
        f"{an_epoch} at the rate of 8, textbook",
    ]
    assert all(row.time for row in rows)
    assert float(rows[2].ratio.replace(",", "")) > 1


def test_an_epoch_of_the_layer_learns_from_all_clips(tmp_path):
    feeder = benchmark_pretrain.made_up_clips(tmp_path / "clips.h5", 120, (1, 2))
    loader = benchmark_pretrain.device_loader(feeder, [], CPU, batch_size=40, shuffle=True)
    run = benchmark_pretrain.probe_epoch(loader, 256)
    first = run()
    for _ in range(20):
        last = run()
    assert last < first / 2


def test_the_textbook_s_layer_learns_and_its_encoder_does_not(monkeypatch):
    maps, learns = textbook_networks.STGCN.maps, []
    monkeypatch.setattr(
        textbook_networks.STGCN,
        "maps",
        lambda encoder, x: learns.append(torch.is_grad_enabled() or encoder.training) or maps(encoder, x),
    )
    clips = map(benchmark_batch.aligned, benchmark_batch.padded(benchmark_batch.ragged([2] * 4, CPU), 4))
    run = benchmark_pretrain.usual_probe_step(list(clips), CPU)
    losses = [run() for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert learns == [False] * 3


def test_made_up_clips_have_lengths_bodies_and_classes(tmp_path):
    feeder = benchmark_pretrain.made_up_clips(tmp_path / "clips.h5", 100, (5, 9))
    assert set(feeder.num_frame) == {5, 6, 7, 8}
    assert (feeder.num_body_of == 1).mean() == 0.8
    assert set(feeder.label) == set(range(60))


def test_our_step_mines_and_skips_where_it_is_told_to():
    clips, kind = benchmark_batch.ragged([1, 2], CPU), torch.float32
    views = [view(clips, torch.Generator()) for view in benchmark_batch.aimclr_views()]
    given = Given(views).batch()

    def losses(**changes):
        torch.manual_seed(0)
        run = benchmark_pretrain.our_step(lambda: given, CPU, kind, queue_size=8, **changes)
        return [loss.item() for loss in run().values()]

    plain, mined = losses(), losses(mines=True)
    assert mined[0] > plain[0]
    assert mined[1:] == plain[1:]
    assert losses(skip_empty_bodies=True) != plain


def test_rows_of_pre_training_as_a_whole():
    small = {"num_clip": 70, "num_step": 2, "batch_size": 4, "queue_size": 8}
    rows = list(benchmark_pretrain.whole_epochs(1, CPU, **small))
    what = "AimCLR pre-training, 70 clips on the device, 300 epochs"
    assert [row.work for row in rows] == [
        f"{what}, {name}" for name in ("fp32", "bf16", "bf16, empty bodies skipped")
    ]
    assert all(row.time for row in rows)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_a_gpu_pre_trains_as_a_whole(monkeypatch, device):
    called = []
    for name in ("step", "linear_evaluation", "whole_epochs"):
        monkeypatch.setattr(
            benchmark_pretrain,
            name,
            lambda rounds, kind, *bodies, _name=name: called.append((_name, *bodies)) or [],
        )
    assert list(benchmark_pretrain.pretrain(1, torch.device(device))) == []
    expected = [("step", (2,)), ("step", benchmark_pretrain.BODIES), ("linear_evaluation",)]
    assert called == expected + [("whole_epochs",)] * (device == "cuda")


def test_the_command_measures_the_parts_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        benchmark,
        "PARTS",
        {name: lambda rounds, device: [Row(f"{rounds} on {device}", "7")] for name in "ab"},
    )
    assert (
        benchmark.main(["--only", "b", "--device", "cpu", "--rounds", "3", "--out", str(tmp_path / "r.md")])
        == 0
    )
    assert "| 3 on cpu | 7" in capsys.readouterr().out
    text = (tmp_path / "r.md").read_text()
    assert "## b on cpu" in text
    assert "## a on cpu" not in text


def test_an_answer_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_inference, "NUM_ANSWER", 2)
    rows = list(benchmark_inference.inference(1, CPU))
    assert [row.time.split()[-1] for row in rows[:-1]] == ["ms"] * (len(rows) - 1)
    assert rows[-1].time.endswith("% of a core")
