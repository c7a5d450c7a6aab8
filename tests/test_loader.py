"""Batches: the same whatever holds the poses, in an order that seed, epoch and rank alone decide."""

import pickle
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeder.arrays import ArrayFolder
from feeder.feeder import Feeder
from feeder.loader import Batch, Loader
from feeder.prepared import PreparedWriter, open_prepared
from feeder.ragged import RaggedBatch
from feeder.views import Base, View
from net.utils.layouts import get_skeleton
from torchlight.seed import derive_seed

NTU = get_skeleton("ntu-rgb+d")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """45 training and 10 held-out clips of 1 to 40 frames and 1 to 3 bodies."""
    path, rng = tmp_path_factory.mktemp("loader") / "data.h5", np.random.default_rng(0)
    with PreparedWriter(
        path, skeleton=NTU, class_names=["a", "b", "c"], frame_rate=30.0, bodies="first", source="tests"
    ) as writer:
        for clip in range(55):
            tracks = rng.standard_normal((1 + clip % 4 // 2 + clip % 7 // 6, int(rng.integers(1, 40)), 25, 3))
            writer.append(f"clip{clip}", clip % 3, tracks.astype(np.float32))
        writer.finish({"xsub": {"train": range(45), "val": range(45, 55)}})
    return path


def make_feeder(data, part="train", **changes):
    return Feeder(data, "xsub", part=part, layout="ntu-rgb+d", num_class=3, **{"val_fraction": 0.0} | changes)


def view(**changes):
    sampling = [{"RandomResizedCrop": {"num_frame": 8, "min_ratio": 0.4, "max_ratio": 1.0}}, "Reverse"]
    augment = ["Shear", "Flip", "GaussianNoise", "TemporalBlur"]
    return View(
        NTU,
        **{"num_body": 2, "sampling": sampling, "normalise": "center_first_frame", "augment": augment}
        | changes,
    )


def make_loader(feeder, views=None, **changes):
    arguments = {
        "batch_size": 8,
        "device": "cpu",
        "cache": "device",
        "shuffle": True,
        "drop_last": False,
        "seed": 3,
    }
    return Loader(feeder, views or [view()], **arguments | changes)


def collect(loader, epoch=0, start_step=0):
    loader.set_epoch(epoch)
    return list(loader.iterate(start_step))


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for field in ("label", "index", "num_body"):
            assert torch.equal(getattr(one, field), getattr(other, field))
        assert len(one.views) == len(other.views)
        for a, b in zip(one.views, other.views, strict=True):
            assert torch.equal(a.x, b.x) and torch.equal(a.present, b.present)


def order(batches):
    return torch.cat([batch.index for batch in batches]).tolist()


@pytest.mark.parametrize(
    "other", [{"cache": "memory"}, {"cache": "none"}, {"cache": "none", "num_worker": 2}], ids=str
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_cache_and_any_number_of_workers_give_the_same_batches(data, other, shuffle):
    feeder, views = make_feeder(data), [view(), view(stream="bone")]
    torch.manual_seed(0)
    expected = collect(make_loader(feeder, views, shuffle=shuffle), epoch=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert_same(collect(make_loader(feeder, views, shuffle=shuffle, **other), epoch=1), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_views_of_a_batch_share_what_they_have_in_common(data, monkeypatch):
    made, make = [], Base.make
    monkeypatch.setattr(Base, "make", lambda base, batch: made.append(base) or make(base, batch))
    views = [view(sampling=[{"Resize": {"num_frame": 8}}, "TemporalCrop"], augment=[]) for _ in range(3)]
    batches = collect(make_loader(make_feeder(data), views))
    assert len(made) == len(batches)


@pytest.mark.parametrize("changes", [{}, {"cache": "none", "num_worker": 1}], ids=str)
def test_an_epoch_can_be_taken_up_at_any_step(data, changes):
    loader = make_loader(make_feeder(data), **changes)
    expected = collect(loader, epoch=4)
    for start in (0, 1, 5, 6):
        assert_same(collect(loader, epoch=4, start_step=start), expected[start:])


def test_a_batch_holds_its_clips_and_what_belongs_to_them(data):
    feeder = make_feeder(data)
    sampling = [{"Pad": {"num_frame": 40, "mode": "zero"}}]
    for batch in make_loader(feeder, [view(sampling=sampling, normalise="none", augment=[])]).iterate():
        assert batch.views[0].x.shape == (len(batch.index), 3, 40, 25, 2)
        for number, index in enumerate(batch.index.tolist()):
            clip = feeder.clips[index]
            length, bodies = feeder.num_frame[index], feeder.source.num_body[clip]
            tracks = feeder.source.read(np.array([clip])).reshape(bodies, length, 25, 3)[:2]
            found = batch.views[0].x[number].permute(3, 1, 2, 0)
            np.testing.assert_array_equal(found[: len(tracks), :length], tracks)
            assert not found[len(tracks) :].any()
            assert not found[:, length:].any()
            assert batch.num_body[number] == len(tracks)
            assert batch.label[number] == feeder.label[index]


def test_every_epoch_has_its_own_order_and_views(data):
    loader = make_loader(make_feeder(data))
    first, second = collect(loader, 0), collect(loader, 1)
    assert sorted(order(first)) == sorted(order(second)) == list(range(45))
    assert order(first) != order(second)
    assert order(first) != list(range(45))
    assert order(collect(make_loader(make_feeder(data), seed=4))) != order(first)
    assert_same(collect(loader, 0), first)
    fixed = make_loader(make_feeder(data), shuffle=False)
    assert not torch.equal(collect(fixed, 0)[0].views[0].x, collect(fixed, 1)[0].views[0].x)
    assert not torch.equal(collect(fixed, 0)[0].views[0].x, collect(fixed, 0)[1].views[0].x)


def test_without_shuffling_clips_come_once_in_order_and_the_last_batch_is_small(data):
    batches = collect(make_loader(make_feeder(data, "test"), shuffle=False))
    assert order(batches) == list(range(10))
    assert [len(batch.index) for batch in batches] == [8, 2]


def test_drop_last_leaves_out_what_does_not_fill_a_batch(data):
    loader = make_loader(make_feeder(data), drop_last=True)
    assert [len(batch.index) for batch in collect(loader)] == [8] * 5
    assert len(loader) == 5
    assert len(make_loader(make_feeder(data))) == 6


@pytest.mark.parametrize("world_size", [2, 4, 7])
def test_ranks_share_the_clips(data, world_size):
    feeder = make_feeder(data)
    training = [
        collect(make_loader(feeder, rank=rank, world_size=world_size, drop_last=True, batch_size=3), epoch=2)
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in training}) == 1
    padded = [
        order(collect(make_loader(feeder, rank=rank, world_size=world_size), epoch=2))
        for rank in range(world_size)
    ]
    assert {len(shard) for shard in padded} == {-(-45 // world_size)}
    assert set(chain(*padded)) == set(range(45))
    evaluation = [
        order(collect(make_loader(feeder, shuffle=False, rank=rank, world_size=world_size)))
        for rank in range(world_size)
    ]
    assert sorted(chain(*evaluation)) == list(range(45))


def test_without_balance_an_epoch_is_one_permutation_after_another(data):
    """The order that earlier runs had, which a resumed one must go on with."""
    generator = torch.Generator().manual_seed(derive_seed(3, "order", 5))
    expected = torch.cat([torch.randperm(45, generator=generator) for _ in range(3)])[:100]
    assert order(collect(make_loader(make_feeder(data), min_clip=100), 5)) == expected.tolist()


def uneven_feeder(data):
    """45 clips: 36 of class 0, 8 of class 1, one of class 2."""
    feeder = make_feeder(data)
    feeder.label = np.repeat([0, 1, 2], [36, 8, 1])
    return feeder


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("min_clip", [0, 200])
def test_balanced_epochs_have_equally_many_clips_of_each_class(data, world_size, min_clip):
    feeder = uneven_feeder(data)
    loaders = [
        make_loader(feeder, balanced=True, min_clip=min_clip, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    length = -(-max(45, min_clip) // world_size) * world_size
    drawn, extra = np.zeros(45, int), np.zeros(3, int)
    for epoch in range(20):
        places = np.array(list(chain(*(order(collect(loader, epoch)) for loader in loaders))))
        assert len(places) == length
        count = np.bincount(feeder.label[places], minlength=3)
        assert count.max() - count.min() <= 1
        extra += count - length // 3
        drawn += np.bincount(places, minlength=45)
        # Of a class, no clip comes twice before all have come.
        for each in range(3):
            times = np.bincount(places, minlength=45)[feeder.label == each]
            assert times.max() - times.min() <= 1
    assert (drawn > 0).all()
    # What does not divide goes to classes by chance.
    assert length % 3 == 0 or (extra > 0).all()


def test_balanced_batches_mix_the_classes_and_depend_on_seed_and_epoch_alone(data):
    feeder = uneven_feeder(data)
    loader = make_loader(feeder, balanced=True)
    first = collect(loader, 1)
    assert all(len(set(batch.label.tolist())) > 1 for batch in first)
    assert order(first) != order(collect(loader, 2))
    assert order(first) != order(collect(make_loader(feeder, balanced=True, seed=4), 1))
    assert_same(collect(loader, 1, start_step=3), first[3:])
    # Evaluation takes every clip once, whatever training takes.
    shown = loader.with_views([view()], batch_size=8)
    assert order(collect(shown)) == list(range(45))
    assert order(collect(make_loader(feeder, balanced=True, shuffle=False))) == list(range(45))


def test_ranks_draw_their_own_views_even_of_one_clip(data):
    feeder = make_feeder(data, label_fraction=0.01, label_map=None)
    feeder.clips, feeder.label = feeder.clips[:1], feeder.label[:1]
    feeder.num_frame, feeder.num_body_of = feeder.num_frame[:1], feeder.num_body_of[:1]
    made = [collect(make_loader(feeder, rank=rank, world_size=3)) for rank in range(3)]
    assert [order(batches) for batches in made] == [[0]] * 3
    assert not torch.equal(made[0][0].views[0].x, made[1][0].views[0].x)


def test_abandoned_workers_end(data):
    loader = make_loader(make_feeder(data), cache="none", num_worker=2)
    batches = loader.iterate()
    next(batches)
    batches.close()
    assert len(collect(loader)) == 6


def test_arrays_are_batched_like_the_prepared_file_they_came_from(data, tmp_path):
    feeder = make_feeder(data, "test")
    source = feeder.source
    for part, clips in source.splits["xsub"].items():
        padded = np.zeros((len(clips), 3, 40, 25, 2), np.float32)
        for place, clip in enumerate(clips):
            shape = (source.num_body[clip], source.num_frame[clip], 25, 3)
            tracks = source.read(np.array([clip])).reshape(shape)[:2]
            padded[place, :, : shape[1], :, : len(tracks)] = tracks.transpose(3, 1, 2, 0)
        np.save(tmp_path / f"{part}_data.npy", padded)
        (tmp_path / f"{part}_label.pkl").write_bytes(
            pickle.dumps((source.name[clips].tolist(), source.label[clips].tolist()))
        )
    folder = Feeder(tmp_path, tmp_path.name, part="test", layout="ntu-rgb+d", num_class=3, val_fraction=0.0)
    assert isinstance(folder.source, ArrayFolder)
    for cache, workers in (("device", 0), ("none", 1)):
        made = collect(make_loader(folder, shuffle=False, cache=cache, num_worker=workers))
        assert_same(made, collect(make_loader(feeder, shuffle=False)))


@pytest.mark.parametrize(("cache", "sizes"), [("device", [45]), ("memory", [45]), ("none", [8] * 5 + [5])])
def test_a_cache_is_read_once_and_none_with_each_batch(data, cache, sizes):
    feeder, read = make_feeder(data), []
    prepared = feeder.source
    feeder.source = SimpleNamespace(
        num_frame=prepared.num_frame,
        num_body=prepared.num_body,
        read=lambda clips: (read.append(len(clips)), prepared.read(clips))[1],
    )
    assert len(list(make_loader(feeder, cache=cache).iterate())) == 6
    assert read == sizes


def test_memory_sends_another_device_the_rows_of_a_batch_alone(data):
    feeder = make_feeder(data)
    views = [view(augment=["Shear"])]
    loader = make_loader(feeder, views, cache="memory", device="meta")
    (rows,) = loader._read([torch.tensor([3, 44, 0])])
    np.testing.assert_array_equal(rows, feeder.source.read(feeder.clips[[3, 44, 0]]))
    assert [batch.views[0].x.device.type for batch in collect(loader)] == ["meta"] * 6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", [{"cache": "memory"}, {"cache": "none", "num_worker": 1}], ids=str)
def test_caches_agree_on_cuda_and_with_the_cpu(data, changes):
    feeder, plain = make_feeder(data), [view(augment=["Shear", "Flip"])]
    expected = collect(make_loader(feeder, device="cuda"))
    assert all(batch.views[0].x.is_cuda and batch.label.is_cuda and batch.index.is_cuda for batch in expected)
    assert_same(collect(make_loader(feeder, device="cuda", **changes)), expected)
    on_cpu, on_cuda = (collect(make_loader(feeder, plain, device=device)) for device in ("cpu", "cuda"))
    for one, other in zip(on_cpu, on_cuda, strict=True):
        torch.testing.assert_close(one.views[0].x, other.views[0].x.cpu(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"cache": "disk"}, "cache is 'disk'"),
        ({"num_worker": 2}, "num_worker is 2.* cache 'device'"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of world_size 2"),
        ({"views": [View(NTU, num_body=1, sampling=[{"Pad": {"num_frame": 3}}])]}, "1 bodies"),
        (
            {"views": [View(get_skeleton("kinect-v1"), num_body=2, sampling=[{"Pad": {"num_frame": 3}}])]},
            "layout 'kinect-v1', the feeder has 2 of 'ntu-rgb\\+d'",
        ),
    ],
)
def test_bad_arguments_are_refused(data, changes, said):
    with pytest.raises(ValueError, match=said):
        make_loader(make_feeder(data), **changes)


# -- beginnings of clips -----------------------------------------------------------------------------------

WHOLE_CLIP = ["none", "center_first_frame", "center_per_frame", "align_torso", "align_shoulders"]


def rewritten(data, path, change):
    """Another file of the same clips, whose tracks (M, T, V, C) `change` has changed."""
    source = open_prepared(data)
    with PreparedWriter(
        path, skeleton=NTU, class_names=["a", "b", "c"], frame_rate=30.0, bodies="first", source="tests"
    ) as writer:
        for clip in range(len(source.name)):
            shape = (source.num_body[clip], source.num_frame[clip], 25, 3)
            tracks = source.read(np.array([clip])).reshape(shape)
            writer.append(str(source.name[clip]), int(source.label[clip]), change(tracks))
        writer.finish({"xsub": {part: clips.tolist() for part, clips in source.splits["xsub"].items()}})
    return path


def seen_frames(num_frame, ratio):
    return max(1, round(num_frame * ratio))


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("changes", [{}, {"cache": "memory"}, {"cache": "none", "num_worker": 1}], ids=str)
def test_beginnings_are_the_clips_as_if_cut_by_hand(data, tmp_path, ratio, changes):
    cut = rewritten(
        data, tmp_path / "cut.h5", lambda tracks: tracks[:, : seen_frames(tracks.shape[1], ratio)]
    )
    views = [
        view(augment=["Shear"]),
        view(sampling=[{"Resize": {"num_frame": 9}}], normalise="align_shoulders"),
    ]
    whole = make_loader(make_feeder(data), views, **changes)
    expected = collect(make_loader(make_feeder(cut), views), epoch=1)
    assert_same(collect(whole.beginnings(ratio), epoch=1), expected)
    # The loader itself still shows whole clips.
    assert_same(collect(whole, epoch=1), collect(make_loader(make_feeder(data), views), epoch=1))
    assert_same(collect(whole.beginnings(0.5).beginnings(ratio), epoch=1), expected)


@pytest.mark.parametrize("normalise", WHOLE_CLIP)
def test_what_comes_later_shows_in_no_beginning(data, tmp_path, normalise):
    def late(tracks):
        """The first body comes when all is seen, where there is a second one."""
        changed = tracks.copy()
        changed[0, : seen_frames(tracks.shape[1], 0.4)] *= len(tracks) == 1
        return changed

    def other_end(tracks):
        changed = late(tracks)
        ends = changed[:, seen_frames(tracks.shape[1], 0.4) :]
        ends[...] = -3 * ends[..., ::-1] + 1
        return changed

    data, other = (
        rewritten(data, tmp_path / f"{change.__name__}.h5", change) for change in (late, other_end)
    )
    views = [
        view(normalise=normalise, augment=["UnitBox", {"TemporalBlur": {"p": 1.0}}]),
        view(normalise=normalise, sampling=[{"Resize": {"num_frame": 9}}], augment=[]),
        view(normalise=normalise, sampling=[{"Crop": {"num_frame": 9}}, "TemporalCrop"], augment=[]),
        view(normalise=normalise, sampling=[{"Pad": {"num_frame": 30}}], augment=[], stream="bone_motion"),
    ]
    first, second = (make_loader(make_feeder(path), views) for path in (data, other))
    assert_same(collect(first.beginnings(0.4)), collect(second.beginnings(0.4)))
    with pytest.raises(AssertionError):
        assert_same(collect(first.beginnings(0.6)), collect(second.beginnings(0.6)))


def test_ways_to_the_next_frame_end_with_the_beginning():
    clip = torch.arange(12.0).square().view(2, 6, 1, 1)  # two bodies of six frames
    batch = RaggedBatch(clip.flatten(0, 1), torch.tensor([0]), torch.tensor([6]), torch.tensor([2]))
    moved = batch.beginning(0.5).displacement()
    positions = torch.arange(3, dtype=torch.float64)[None]
    found = moved.poses(moved.tracks(2), positions)[..., 0, 0]
    assert found.tolist() == [[1, 3, -4], [13, 15, -64]]  # the last one's leads to 0
    assert batch.beginning(0.5).beginning(1 / 3).num_frame.tolist() == [1]
    assert batch.beginning(0.5).beginning(1.0).row(moved.tracks(2), torch.zeros(2, 1).long()).tolist() == [
        [0],
        [6],
    ]


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_cannot_be_seen_is_refused(data, ratio):
    with pytest.raises(ValueError, match=f"ratio is {ratio}; give more than 0, up to 1"):
        make_loader(make_feeder(data)).beginnings(ratio)


def test_features_have_no_beginning(data):
    feeder = make_feeder(data)
    with pytest.raises(AssertionError):
        make_loader(feeder).with_features(torch.zeros(len(feeder), 1, 4)).beginnings(0.5)


def test_views_of_the_same_frames_are_sampled_alike(data):
    same = [view(), view(same_frames=True, normalise="none", augment=[])]
    assert len(collect(make_loader(make_feeder(data), same))[0].views) == 2
    other = [view(), view(same_frames=True, sampling=[{"Resize": {"num_frame": 8}}])]
    with pytest.raises(ValueError, match="same_frames: true"):
        make_loader(make_feeder(data), other)


@pytest.mark.parametrize("cache", ["device", "memory", "none"])
def test_windows_show_the_frames_of_their_clip(data, cache):
    feeder = make_feeder(data)
    windows = feeder.windows(5, 2)
    crop = view(sampling=[{"Crop": {"num_frame": 5}}], augment=[], normalise="none")
    loader = make_loader(windows, [crop], cache=cache, shuffle=False)
    shown = torch.cat([batch.views[0].x for batch in collect(loader)])
    assert len(shown) == len(windows)
    for x, clip, first in zip(shown, windows.clips, windows.first, strict=True):
        bodies = feeder.source.num_body[clip]
        poses = feeder.source.read(np.array([clip])).reshape(bodies, -1, 25, 3)[:2, first : first + 5]
        expected = torch.zeros(2, 5, 25, 3)
        expected[: len(poses)] = torch.from_numpy(poses)
        assert torch.equal(x.permute(3, 1, 2, 0), expected)
