"""Each part measures what its rows say, in alternation; and a page keeps its other sections."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import Given

from benchmarks import (
    inference,
    long_term,
    masked_motion,
    matrix_product,
    network,
    pretrain,
    report,
    speed,
    steps,
    timing,
)
from benchmarks.batch import aimclr_views
from benchmarks.batch import batch as view_rows
from benchmarks.clips import device_loader, padded, random_feeder, random_ragged
from benchmarks.linear_evaluation import linear_evaluation, probe_epoch, textbook_probe_step
from benchmarks.memory import peak_memory
from benchmarks.ntu import BODIES, LAYOUT, adjacency
from benchmarks.preparation import preparation
from benchmarks.report import Row
from benchmarks.textbook.as_gcn import ASGCN
from benchmarks.textbook.st_gcn import STGCN
from benchmarks.textbook.views import resize_and_align
from feeder.views import View
from net import as_gcn, st_gcn
from net.long_term import LongTerm
from net.utils.layouts import get_skeleton
from tools import benchmark

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
SMALL = pretrain.Size(hidden_channels=4, hidden_dim=8, queue_size=20)


@pytest.fixture(params=[True, False], ids=["bf16", "no bf16"])
def precisions(request, monkeypatch) -> list[str]:
    """What is measured on a CPU with or without instructions for bf16."""
    monkeypatch.setattr(steps, "cpu_has_bf16", lambda: request.param)
    return ["fp32", "bf16"] if request.param else ["fp32"]


@pytest.fixture
def fp32(monkeypatch) -> None:
    """A CPU without instructions for bf16."""
    monkeypatch.setattr(steps, "cpu_has_bf16", lambda: False)


def test_padded_clips_are_the_clips():
    clips = random_ragged([2, 1, 2], CPU)
    view = View(get_skeleton(LAYOUT), num_body=2, sampling=[{"Pad": {"num_frame": 104, "mode": "zero"}}])
    found = view(clips, torch.Generator())
    for number, clip in enumerate(padded(clips, 3)):
        np.testing.assert_array_equal(found[number, :, : clip.shape[1]], clip)
        assert clip.shape[1] == clips.num_frame[number]


def test_ratio_is_the_median_over_the_rounds():
    assert timing.ratio([2, 8, 9], [1, 1, 3]) == 3


def test_functions_alternate_and_the_first_round_is_not_counted():
    calls = []
    work = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = timing.time_interleaved(work, 2)
    assert calls == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_report_replaces_its_own_section_alone(tmp_path):
    path = tmp_path / "docs.md"
    path.write_text("# Performance\n\nHand-written.\n\n## batch on cuda\n\nkeep\n")
    report.write_section("first", "batch on cpu", path)
    report.write_section("second", "batch on cpu", path)
    text = path.read_text()
    assert text.count("## ") == 2
    assert "Hand-written." in text
    assert "keep" in text
    assert "second" in text
    assert "first" not in text


def test_a_duration_has_the_unit_that_leaves_a_small_number():
    assert [timing.duration(seconds) for seconds in (0.1234, 119, 150, 9000, 432_000)] == [
        "0.123 s",
        "119 s",
        "2.5 min",
        "2.5 h",
        "5 days",
    ]


def test_columns_that_no_row_fills_are_left_out():
    table = report.table([Row("a", "1,234"), Row("bb", "5", time="2 s")])
    assert table.splitlines() == [
        "| work | clips/s | time |",
        "|------|---------|------|",
        "| a    | 1,234   |      |",
        "| bb   | 5       | 2 s  |",
    ]


def rates(rows):
    return [float(row.clips_per_second.replace(",", "")) for row in rows]


def test_rows_of_a_small_comparison(monkeypatch, precisions):
    both = network.Comparison(
        network.Implementation(lambda: st_gcn.Model(3, 60, layout=LAYOUT, hidden_channels=4, hidden_dim=8)),
        network.Implementation(lambda: STGCN(adjacency("spatial"), 60, hidden_channels=4, hidden_dim=8)),
        (2, 3, 16, 25, 1),
    )
    train = both._replace(ours=both.ours._replace(infer=None))
    monkeypatch.setitem(network.COMPARISONS, "network", {"both": both, "one": train})
    monkeypatch.setattr(network, "peak_memory", lambda make, arguments, device: make(*arguments)() or 7.0)
    # A CPU without instructions for bf16 would take minutes.
    monkeypatch.setattr(matrix_product, "SIZE", 64)
    rows = list(network.compare("network", 1, CPU))
    assert [row.work for row in rows] == [
        f"{what}, {how}"
        for what in ("both, train", "both, infer", "one, train")
        for how in ("textbook", *precisions)
    ]
    assert min(rates(rows)) > 0 and {row.memory for row in rows} == {"7 MiB"}
    assert [[bool(cell) for cell in row[2:7]] for row in rows] == [
        [False] * 5,
        *[[True, False, True, True, True]] * len(precisions),
    ] * 3


def test_rows_of_masked_motion(monkeypatch, precisions):
    size = masked_motion.Size("kinect-v1", 16, 2, 8, 8, 1, 2, 2.0, 8, 1, 0.75)
    monkeypatch.setattr(masked_motion, "SIZES", {"small": size, "of NTU": size._replace(layout=LAYOUT)})
    rows = list(masked_motion.masked_motion(1, CPU))
    how = ["textbook", *precisions]
    assert [row.work for row in rows] == [f"{what}, {each}" for what in ("small", "of NTU") for each in how]
    assert min(rates(rows)) > 0
    assert [bool(row.ratio) for row in rows] == [each != "textbook" for each in how] * 2
    assert [bool(row.time) for row in rows] == [False] * len(how) + [True] * len(how)


def make_random_bytes(before, during):
    """A function that makes so many bytes, after others were made and freed."""
    os.urandom(before)
    return functools.partial(os.urandom, during)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read as on Linux")
def test_peak_memory_is_that_of_the_function_alone():
    assert 31 < peak_memory(make_random_bytes, (2**27, 2**25), CPU) < 40


def test_a_step_trains_or_infers_as_its_implementation_says():
    """The loss, whether gradients are kept, and the mode are those of the step."""
    seen = []

    def loss(model, batch):
        seen.append((model.training, torch.is_grad_enabled(), batch.future.x.shape))
        return model(batch.views[0].x).square().sum()

    def infer(model, x):
        seen.append((model.training, torch.is_grad_enabled(), x.shape))

    model = torch.nn.Linear(1, 1)
    batch = network.random_batch((2, 3, 4, 5, 1), CPU)
    implementation = network.Implementation(lambda: model, loss, infer)
    implementation.step(model, batch, torch.float32, True)()
    assert model.weight.grad is not None
    implementation.step(model, batch, torch.float32, False)()
    assert seen == [(True, True, (2, 3, 10, 5, 1)), (False, False, (2, 3, 4, 5, 1))]


def test_comparisons_of_as_gcn_have_the_same_losses_and_scores():
    """Small networks with the same weights, nothing drawn, one body: the textbook's future is of the first."""
    torch.manual_seed(0)
    names = [name for name in network.RECOGNISERS if name.startswith("AS-GCN")]
    sizes = {"hidden_channels": 4, "link_hidden": 8}
    ours = as_gcn.Model(3, 60, **sizes, dropout=0.0, likeliest_links=True).double().eval()
    for parameter in ours.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    A = network.RECOGNISERS[names[0]].textbook.make().A
    textbook = ASGCN(A, 60, hidden_channels=4, hidden=8).double().eval()
    textbook.load_state_dict(ours.state_dict())
    batch = network.random_batch((2, 3, 290, 25, 1), CPU)
    batch = Given([batch.views[0].x.double()], batch.future.x.double(), batch.label).batch()
    for name in names:
        both = network.RECOGNISERS[name]
        pairs = [(both.ours.loss(ours, batch), both.textbook.loss(textbook, batch))]
        if both.ours.infer:
            x = batch.views[0].x
            pairs.append((both.ours.infer(ours, x), both.textbook.infer(textbook, x)))
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert len(names) == 3


def test_rows_of_views():
    rows = list(view_rows(1, CPU))
    for (ours, *textbook), what in ((rows[:3], "AimCLR's normal view"), (rows[3:], "AimCLR's three views")):
        assert ours.work == what
        assert float(ours.ratio) > 1
        assert [row.work for row in textbook] == [
            f"{what}, textbook",
            f"{what}, textbook, clips resized and aligned before",
        ]
    assert min(rates(rows)) > 0


@pytest.mark.parametrize(
    ("bodies", "title", "skipped"),
    [
        ((2,), "AimCLR step, 5 clips of 2 bodies", False),
        (BODIES, "AimCLR step, 5 clips, 80% with one body", True),
    ],
)
def test_rows_of_a_training_step(precisions, bodies, title, skipped):
    rows = list(pretrain.step(1, CPU, bodies, num_clip=5, size=SMALL))
    ours = [*precisions, *([f"{precisions[-1]}, empty bodies skipped"] if skipped else [])]
    assert [row.work for row in rows] == [f"{title}, {name}" for name in ("textbook", *ours)]
    assert [bool(row.ratio) for row in rows] == [False, *[True] * len(ours)]
    assert min(rates(rows)) > 0


def test_rows_of_what_each_loss_costs():
    small = {"num_clip": 2, "num_frame": 8, "hidden_channels": 4, "queue_size": 8}
    rows = list(long_term.costs(1, CPU, torch.float32, "fp32", **small))
    names = [row.work.rsplit(", ", 1)[1] for row in rows]
    assert names[0] == "all losses" and names[-1] == "the action alone"
    assert names[1:-1] == [f"without {loss.name}" for loss in LongTerm.LOSSES[1:]]
    assert rows[0].time == ""
    assert all(re.fullmatch(r"-?[\d.]+ % less time", row.time) for row in rows[1:])


@pytest.mark.usefixtures("fp32")
def test_rows_of_an_epoch():
    small = {"num_clip": 12, "num_step": 2, "batch_size": 4, "hidden_channels": 4, "queue_size": 8}
    rows = list(long_term.epoch(1, CPU, **small))
    assert [row.work.rsplit(", ", 1)[1] for row in rows] == ["fp32"]
    assert all(row.clips_per_second and row.time for row in rows)


@pytest.mark.usefixtures("fp32")
def test_rows_of_linear_evaluation():
    rows = list(linear_evaluation(1, CPU, num_clip=2000, sample=8, batch_size=512))
    of_features, an_epoch = "features of 2,000 clips at the rate of 8", "an epoch of 2,000 clips"
    assert [row.work.removeprefix("linear evaluation, ") for row in rows] == [
        f"{of_features}, fp32",
        f"{an_epoch} on stored features",
        f"{an_epoch} at the rate of 8, textbook",
    ]
    assert all(row.time for row in rows)
    assert float(rows[1].ratio.replace(",", "")) > 1


def test_epochs_of_the_layer_lower_its_loss(tmp_path):
    feeder = random_feeder(tmp_path / "clips.h5", 120, (1, 2))
    loader = device_loader(feeder, [], CPU, batch_size=40, shuffle=True)
    run = probe_epoch(loader, 256)
    first = run()
    for _ in range(20):
        last = run()
    assert last < first / 2


def test_the_textbook_trains_the_layer_and_not_the_encoder(monkeypatch):
    maps, trains = STGCN.maps, []
    monkeypatch.setattr(
        STGCN,
        "maps",
        lambda encoder, x: trains.append(torch.is_grad_enabled() or encoder.training) or maps(encoder, x),
    )
    clips = map(resize_and_align, padded(random_ragged([2] * 4, CPU), 4))
    run = textbook_probe_step(list(clips), CPU)
    losses = [run() for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert trains == [False] * 3


def test_random_clips_have_lengths_bodies_and_classes(tmp_path):
    feeder = random_feeder(tmp_path / "clips.h5", 100, (5, 9))
    assert set(feeder.num_frame) == {5, 6, 7, 8}
    assert (feeder.num_body_of == 1).mean() == 0.8
    assert set(feeder.label) == set(range(60))


def test_our_step_mines_and_skips_if_asked():
    clips, kind = random_ragged([1, 2], CPU), torch.float32
    views = [view(clips, torch.Generator()) for view in aimclr_views()]
    given = Given(views).batch()

    def losses(**changes):
        torch.manual_seed(0)
        run = pretrain.our_step(lambda: given, CPU, kind, size=SMALL, **changes)
        return [loss.item() for loss in run().values()]

    plain, mined = losses(), losses(mines=True)
    assert mined[0] > plain[0]
    assert mined[1:] == plain[1:]
    assert losses(skip_empty_bodies=True) != plain


@pytest.mark.usefixtures("fp32")
def test_rows_of_pre_training_on_all_clips():
    small = {"num_clip": 70, "num_step": 2, "batch_size": 4, "size": SMALL}
    rows = list(pretrain.whole_epochs(1, CPU, **small))
    what = "AimCLR pre-training, 70 clips on the device, 300 epochs"
    assert [row.work for row in rows] == [
        f"{what}, {name}" for name in ("fp32", "fp32, empty bodies skipped")
    ]
    assert all(row.time for row in rows)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_a_gpu_pre_trains_on_all_clips(monkeypatch, device):
    called = []
    for name in ("step", "linear_evaluation", "whole_epochs"):
        monkeypatch.setattr(
            pretrain,
            name,
            lambda rounds, kind, *bodies, _name=name: called.append((_name, *bodies)) or [],
        )
    assert list(pretrain.pretrain(1, torch.device(device))) == []
    expected = [("step", (2,)), ("step", BODIES), ("linear_evaluation",)]
    assert called == expected + [("whole_epochs",)] * (device == "cuda")


def test_the_command_measures_the_parts_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        speed,
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
    monkeypatch.setattr(inference, "NUM_ANSWER", 2)
    monkeypatch.setattr("net.st_gcn.BLOCKS", ((1, 1), (2, 2), (4, 2)))  # whose export takes half the time
    rows = list(inference.inference(1, CPU))
    assert [row.time.split()[-1] for row in rows[:-1]] == ["ms"] * (len(rows) - 1)
    assert rows[-1].time.endswith("% of a core")


def test_rows_of_preparation():
    rows = list(preparation(1, options=["--num_subject", "3", "--num_action", "2", "--num_replication", "1"]))
    workers = os.cpu_count() or 1
    assert [row.work.split(" (")[0] for row in rows] == [
        "preparation, 1 process",
        f"preparation, {workers} processes",
        "preparation, textbook",
    ]
    assert min(rates(rows)) > 0
    assert all(row.ratio and row.memory.endswith("MiB") for row in rows[:2])


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The packages that setup.py names, in a folder of their own."""
    folder = tmp_path_factory.mktemp("installed")
    calls = [
        node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)
    ]
    (patterns,) = [each.value for call in calls for each in call.keywords if each.arg == "include"]
    for path in ROOT.glob("*/__init__.py"):
        name = path.parent.name
        if any(fnmatch(name, pattern) for pattern in ast.literal_eval(patterns)):
            shutil.copytree(path.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run_as_module(cwd: Path, path: Path) -> subprocess.CompletedProcess:
    """`python -m tools.benchmark --help` in a folder, with nothing installed but what is in `path`."""
    command = [sys.executable, "-S", "-m", "tools.benchmark", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("foreign", [False, True])
def test_without_the_repository_the_command_says_where_benchmarks_are(installed, tmp_path, foreign):
    """Not even a folder of that name where the command is run is taken for them."""
    if foreign:
        (tmp_path / "benchmarks").mkdir()
    done = run_as_module(tmp_path, installed)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "repository" in done.stderr and "python tools/benchmark.py" in done.stderr


def test_a_missing_requirement_is_named():
    done = run_as_module(ROOT, ROOT)
    assert done.returncode == 1 and "No module named 'torch'" in done.stderr
