"""Who is there is data: made where poses are gathered, handed on to networks, and never read off the zeros again."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import Given, forecast, learn, scores
from ragged_clips import generator, make_clips, to_batch

import main as command
from feeder.feeder import Feeder
from feeder.loader import Loader
from feeder.prepared import PreparedWriter, open_prepared
from feeder.ragged import RaggedBatch
from feeder.views import View, make_views
from net import as_gcn, st_gcn
from net.long_term import LongTerm, bodies_in
from net.utils.clip import Clip, presence
from net.utils.layouts import get_skeleton

SKELETON = get_skeleton("ntu-rgb+d")
LENGTHS, BODIES = [1, 7, 30, 12], [1, 3, 2, 1]


def coming_and_going(seed=0):
    """Clips (M, T, 25, 3) in which a third of all frames of bodies are empty."""
    rng = np.random.default_rng(seed)
    clips = make_clips(LENGTHS, BODIES, seed=seed)
    for clip in clips:
        clip[rng.random(clip.shape[:2]) < 0.35] = 0
    return clips


def view(**changes):
    return View(SKELETON, **{"num_body": 2, "sampling": [{"Resize": {"num_frame": 16}}], **changes})


# -- where poses are gathered ------------------------------------------------------------------------------


def there(track, position):
    """Whether a track (T, V, C) is not empty in the frame nearest to a position, of two as near the earlier."""
    if np.isnan(position):
        return False
    before = int(np.floor(position))
    return bool(track[before + (position - before > 0.5)].any())


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_presence_is_that_of_the_nearest_frame(seed, ratio):
    clips = coming_and_going(seed)
    batch = to_batch(clips, gap=2)
    if ratio < 1:
        assert batch.row_present.any()
        batch = batch.beginning(ratio)
    share = torch.rand(len(clips), 40, dtype=torch.float64, generator=generator(seed))
    positions = share * (batch.num_frame[:, None] - 1)
    positions[:, ::3] = positions[:, ::3].round()
    # Half-way between two frames, where there are two.
    positions[:, 1::6] = (positions[:, 1::6].floor() + 0.5).minimum(batch.num_frame[:, None] - 1.0)
    positions[:, 5::7] = float("nan")
    tracks = batch.tracks(2)
    found = batch.present(tracks, positions)
    expected = [
        [there(clips[clip][body], position) for position in positions[clip].tolist()]
        for clip, body in zip(*(each.tolist() for each in tracks), strict=True)
    ]
    assert found.tolist() == expected
    assert 0.2 < found.float().mean() < 0.9
    # And the poses themselves are there, and nowhere else.
    assert torch.equal(batch.poses(tracks, positions).flatten(2).any(2), found)


def test_a_beginning_keeps_the_table_and_movements_make_their_own():
    batch = to_batch([np.ones((1, 6, 25, 3), np.float32)])
    with_table = RaggedBatch(
        batch.rows, batch.start, batch.num_frame, batch.num_body, table=torch.arange(6) > 2
    )
    assert with_table.beginning(0.7).row_present.tolist() == [False] * 3 + [True] * 3
    # Nothing moves but the last frame, from which the way leads to 0.
    assert with_table.displacement().row_present.tolist() == [False] * 5 + [True]


# -- views -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps", [[], ["TemporalCrop"], ["TemporalCrop", "Reverse"], [{"Resize": {"num_frame": 9}}]]
)
@pytest.mark.parametrize("first", [{"Resize": {"num_frame": 16}}, {"Pad": {"num_frame": 20, "mode": "zero"}}])
def test_views_say_who_is_there_alone_or_shared(steps, first):
    batch = to_batch(coming_and_going(), gap=1)
    made = view(sampling=[first, *steps])
    for shown in make_views([made, made, view(sampling=[first, *steps], stream="bone")], batch, generator()):
        assert shown.present.shape == (4, 2, shown.x.shape[2])
        assert torch.equal(shown.present, presence(shown.x))
        assert shown.present.any()
        assert not shown.present.all()


def test_a_body_that_stands_still_is_there_where_movements_are_shown():
    still = np.broadcast_to(make_clips([1], [1])[0], (1, 20, 25, 3))
    leaves = make_clips([20], [2])[0]
    leaves[1, 10:] = 0
    shown = view(stream="motion").show(to_batch([np.ascontiguousarray(still), leaves]), generator())
    assert not shown.x[0, ..., 0].any()
    assert shown.present[0].all(1).tolist() == [True, False]
    assert shown.present[1].sum(1).tolist() == [16, 8]


# -- batches -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def feeder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clips.h5"
    with PreparedWriter(
        path, skeleton=SKELETON, class_names=["a"], frame_rate=30.0, bodies="as given", source="tests"
    ) as writer:
        for number, clip in enumerate([*coming_and_going(), *make_clips([5], [1])]):
            clip[0, 0] = 1  # no clip is empty
            writer.append(f"clip{number}", 0, clip)
        writer.finish({"xsub": {"train": [0, 1, 2, 3], "val": [4]}})
    return Feeder(
        open_prepared(path), "xsub", part="train", layout="ntu-rgb+d", num_class=1, val_fraction=0.0
    )


def batches(feeder, views, **changes):
    settings = {"batch_size": 2, "device": "cpu", "cache": "device", "shuffle": True, "drop_last": False}
    return list(Loader(feeder, views, **settings | changes, seed=1).iterate())


def test_the_future_is_the_frames_that_follow_those_seen(feeder):
    views = [view(), view(same_frames=True, augment=["Shear"])]
    for whole, cut in zip(batches(feeder, views), batches(feeder, views, num_future=5), strict=True):
        assert whole.future is None
        for before, after in zip(whole.views, cut.views, strict=True):
            assert torch.equal(after.x, before.x[:, :, :11])
        assert [each.present.shape for each in cut.views] == [(2, 2, 11)] * 2
        assert torch.equal(cut.future.x, whole.views[0].x[:, :, 11:])
        both = torch.cat((cut.views[0].present, cut.future.present), 2)
        assert torch.equal(both, whole.views[0].present)
    with pytest.raises(ValueError, match="num_future is 16"):
        batches(feeder, views, num_future=16)


def test_frames_that_a_view_has_ahead_are_never_among_those_seen(feeder):
    part = {"num_frame": 8, "min_ratio": 0.5, "max_ratio": 0.5, "num_ahead": 3}
    for batch in batches(feeder, [view(sampling=[{"RandomResizedCrop": part}])]):
        assert [each.shape[2] for each in (*batch.views[0], *batch.future)] == [8, 8, 3, 3]


def test_the_table_of_all_rows_says_what_each_batch_would(feeder):
    views = [view(), view(stream="motion")]
    for one, other in zip(batches(feeder, views), batches(feeder, views, cache="none"), strict=True):
        first, second = one.views
        for found, expected in zip(one.views, other.views, strict=True):
            assert torch.equal(found.present, expected.present)
        assert torch.equal(first.present, presence(first.x))
        assert torch.equal(first.present, second.present)


# -- networks ----------------------------------------------------------------------------------------------


def two_with_rubbish():
    """Two clips of two bodies, what is true of the second body's absence, and the same with rubbish in its place."""
    x = torch.randn(2, 3, 32, 25, 2, generator=generator())
    x[1, ..., 1] = 0
    present = torch.ones(2, 2, 32, dtype=torch.bool)
    present[1, 1] = False
    rubbish = x.clone()
    rubbish[1, ..., 1] = 7
    return x, present, rubbish


SMALL = {"hidden_channels": 4, "skip_empty_bodies": True}
NETWORKS = {
    "ST-GCN": lambda: st_gcn.Model(3, 5, hidden_dim=8, **SMALL),
    "AS-GCN": lambda: as_gcn.Model(3, 5, num_predict=4, link_hidden=4, num_link_frame=16, **SMALL),
    "long-term": lambda: LongTerm(st_gcn.Model(3, 5, hidden_dim=8, **SMALL), num_predict=4, queue_size=8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_an_absent_body_holds_changes_nothing(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    x, present, rubbish = two_with_rubbish()
    with torch.no_grad():
        expected = scores(network, x)
        assert torch.equal(scores(network, rubbish, present), expected)
        assert not torch.equal(scores(network, rubbish), expected)  # it was not said who is there
        if name != "ST-GCN":
            assert torch.equal(forecast(network, rubbish, present), forecast(network, x))


def test_a_body_that_is_said_to_be_there_is_seen_though_it_is_at_zero():
    torch.manual_seed(0)
    network = NETWORKS["ST-GCN"]().eval()
    x, present, _ = two_with_rubbish()
    assert not torch.equal(network(x, torch.ones_like(present)), network(x, present))


@pytest.mark.parametrize("name", ["AS-GCN", "long-term"])
def test_losses_ignore_absent_bodies(name):
    x, present, rubbish = two_with_rubbish()
    future, leaves = (
        torch.randn(2, 3, 4, 25, 2, generator=generator(1)),
        torch.ones(2, 2, 4, dtype=torch.bool),
    )
    leaves[0, 1, 2:] = leaves[1, 1] = False
    future_rubbish = future.clone()
    future[0, :, 2:, :, 1] = future[1, ..., 1] = 0  # the second body leaves
    future_rubbish[0, :, 2:, :, 1] = future_rubbish[1, ..., 1] = 9
    found = []
    for sample in (
        Given([x, x], future, None),
        Given([rubbish, rubbish], future_rubbish, None, [present, present], leaves),
    ):
        torch.manual_seed(0)
        network = NETWORKS[name]().eval()
        found.append(learn(network, sample).losses)
    for key, loss in found[0].items():
        assert torch.equal(loss, found[1][key]), key


def test_bodies_are_in_the_frames_where_they_are_present():
    x, present, rubbish = two_with_rubbish()
    present[0, 0, 3] = present[0, 1, -1] = False
    found = bodies_in(Clip(rubbish, present))
    assert found.rows.tolist() == [0, 1, 2]
    assert torch.equal(found.poses, x.permute(0, 4, 2, 3, 1).flatten(0, 1)[:3])
    assert (found.in_all_frames.tolist(), found.in_last_frame.tolist()) == ([1, 2], [0, 2])


# -- processors --------------------------------------------------------------------------------------------


def test_an_encoder_gets_presence_in_training_and_in_a_test(tiny_config, monkeypatch):
    matches, encode = [], st_gcn.Model.encode

    def spy(self, clip):
        matches.append((clip.x.shape[4], clip.x.shape[2]) == clip.present.shape[1:])
        return encode(self, clip)

    monkeypatch.setattr(st_gcn.Model, "encode", spy)
    assert (
        command.main(["recognition", "-c", str(tiny_config), "--debug", "model_args.skip_empty_bodies=true"])
        == 0
    )
    assert len(matches) > 4
    assert all(matches)


PLUGIN = '''"""Networks of somebody else."""

import torch


class Plain(torch.nn.Module):
    """Takes clips alone."""

    def __init__(self, num_class):
        super().__init__()
        self.layer = torch.nn.Linear(3, num_class)

    def forward(self, x):
        return self.layer(x.mean((2, 3, 4)))
'''


def test_a_plain_network_is_given_clips_alone(tiny_config, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    args = ["recognition", "-c", str(tiny_config), "--plugin", "stranger", "--debug"]
    assert command.main([*args, "model=stranger.Plain", "model_args={_delete_: true, num_class: 4}"]) == 0


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("net.multi_task", "MultiTask", "net.method.Method"),
        ("net.contrast", "SelfSupervised", "net.method.Method"),
        ("net.utils.backbone", "Backbone", "net.encoder.Encoder"),
        ("net.multi_task", "CROSS_ENTROPY", "net.method.Method"),
    ],
)
def test_a_plug_in_of_an_earlier_version_is_told_what_to_change(
    tiny_config, tmp_path, monkeypatch, capsys, module, name, instead
):
    plugin = f"earlier_{name.lower()}"
    (tmp_path / f"{plugin}.py").write_text(f"from {module} import {name}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["recognition", "-c", str(tiny_config), "--plugin", plugin, f"model={plugin}.Model"]
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert f"{module}.{name} " in said and f" {instead}; docs/extending.md" in said


# -- zeros as absence ---------------------------------------------------------------------------------------

ROOT = Path(command.__file__).parent
# The functions that look for zeros in poses, and what for.
READ_ZEROS = {
    # which bodies are there, of clips from outside: a file's rows, an array, a network called by itself
    "feeder/ragged.py": {"rows_with_body"},
    "feeder/arrays.py": {"_scan"},
    "net/utils/clip.py": {"presence"},
    "net/utils/channels.py": {"bodies_there", "joints_there"},
    # which joints of a body that is there were not seen, as `joints_there` does: for what must not move
    "feeder/normalise.py": {"_subtract"},
    "feeder/augment.py": {"_absent", "_present"},
}
# Who asks which bodies are there: where clips come from outside, and the readers of recordings.
ASK_FOR_BODIES = {
    "net/utils/clip.py": {"of"},
    "processor/export.py": {"recorded_presence"},
    "processor/online.py": {"push"},
}


def functions(*rooms: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    yield path.relative_to(ROOT).as_posix(), node


def compares_with_zero(node: ast.AST) -> bool:
    """Whether an expression holds `x != 0` or `x == 0`."""
    return any(
        isinstance(each, ast.Compare)
        and isinstance(each.ops[0], ast.Eq | ast.NotEq)
        and isinstance(each.comparators[0], ast.Constant)
        and each.comparators[0].value == 0
        for each in ast.walk(node)
    )


def reads_zeros(function: ast.FunctionDef) -> bool:
    """Whether a function asks if any, or all, of some numbers are 0, or if a length is."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("any", "all") and any(
                map(compares_with_zero, (node.func.value, *node.args))
            ):
                return True
        elif isinstance(node, ast.Compare) and compares_with_zero(node) and "norm(" in ast.unparse(node.left):
            return True
    return False


def by_file(found: Iterator[tuple[str, ast.FunctionDef]]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for file, function in found:
        names.setdefault(file, set()).add(function.name)
    return names


def test_zeros_are_read_as_absence_in_these_places_alone() -> None:
    rooms = functions("net", "feeder", "processor")
    assert by_file((file, each) for file, each in rooms if reads_zeros(each)) == READ_ZEROS


def test_which_bodies_are_there_is_asked_where_clips_come_in_alone() -> None:
    asks = {"presence", "bodies_there"}
    found = by_file(
        (file, function)
        for file, function in functions("net", "feeder", "processor")
        if not file.startswith("feeder/recordings/")
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in asks
    )
    assert found == ASK_FOR_BODIES
