"""Which clips a part holds: splits, validation and labelled parts, label maps, and what bad input is told."""

import numpy as np
import pytest

from feeder.feeder import Feeder
from feeder.label_map import read_label_map
from feeder.prepared import PreparedWriter
from net.utils.layouts import get_skeleton

CLASSES = ["wave", "bow", "sit", "jump"]
SHARES = {"wave": 60, "bow": 40, "sit": 20, "jump": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """124 training clips of unequal classes by 10 subjects, then 40 held-out clips; another split of fewer."""
    path = tmp_path_factory.mktemp("feeder") / "data.h5"
    write(path, [k for k, name in enumerate(CLASSES) for _ in range(SHARES[name])], [0, 1, 2, 3] * 10)
    return path


def open_writer(path, classes):
    return PreparedWriter(
        path,
        skeleton=get_skeleton("kinect-v1"),
        class_names=classes,
        frame_rate=30.0,
        bodies="first",
        source="tests",
    )


def write(path, train, held_out, *, subjects=10, keys=True, classes=CLASSES):
    rng = np.random.default_rng(0)
    with open_writer(path, classes) as writer:
        for clip, label in enumerate([*train, *held_out]):
            tracks = rng.standard_normal((1 + clip % 3, 2 + clip % 5, 20, 3)).astype(np.float32)
            of_clip = {"subject": clip % subjects, "sequence": clip // 3} if keys else {}
            writer.append(f"clip{clip}", label, tracks, **of_clip)
        boundary = len(train)
        writer.finish(
            {
                "xsub": {"train": range(boundary), "val": range(boundary, boundary + len(held_out))},
                "one_class": {"train": range(boundary // 2, boundary // 2 + 1), "val": []},
            }
        )


def feeder(data, part="train", benchmark="xsub", **changes):
    arguments = {"layout": "kinect-v1", "num_class": 4, "val_by": "random"} | changes
    return Feeder(data, benchmark, part=part, **arguments)


# -- parts -------------------------------------------------------------------------------------------------


def test_the_test_part_is_the_official_held_out_part(data):
    test = feeder(data, "test")
    assert test.clips.tolist() == list(range(124, 164))
    assert test.label.tolist() == [0, 1, 2, 3] * 10
    assert test.label.dtype == np.int64
    assert test.name.tolist() == [f"clip{clip}" for clip in range(124, 164)]
    assert test.num_frame.tolist() == [2 + clip % 5 for clip in range(124, 164)]
    assert test.num_body_of.tolist() == [min(2, 1 + clip % 3) for clip in range(124, 164)]
    assert test.class_names == CLASSES
    assert test.skeleton == get_skeleton("kinect-v1")
    assert len(test) == 40


def test_without_a_validation_part_all_training_clips_train(data):
    assert feeder(data, val_fraction=0.0).clips.tolist() == list(range(124))
    assert feeder(data, val_fraction=0).num_body == 2


@pytest.mark.parametrize("val_by", ["random", "subject"])
@pytest.mark.parametrize("seed", range(3))
def test_train_and_val_divide_the_official_training_clips(data, val_by, seed):
    train, val = (
        feeder(data, part, val_by=val_by, val_seed=seed, val_fraction=0.2) for part in ("train", "val")
    )
    assert sorted([*train.clips, *val.clips]) == list(range(124))
    assert train.clips.tolist() == sorted(train.clips)
    assert set(train.label) == {0, 1, 2, 3}
    again = feeder(data, "val", val_by=val_by, val_seed=seed, val_fraction=0.2)
    assert again.clips.tolist() == val.clips.tolist()


def test_random_holds_out_the_fraction_of_every_class(data):
    val = feeder(data, "val", val_fraction=0.2)
    assert np.bincount(val.label).tolist() == [12, 8, 4, 1]
    almost_all = feeder(data, "train", val_fraction=0.99)
    assert np.bincount(almost_all.label).tolist() == [1, 1, 1, 1]
    other = feeder(data, "val", val_fraction=0.2, val_seed=1)
    assert other.clips.tolist() != val.clips.tolist()


def test_by_subject_holds_out_whole_subjects_nearest_to_the_fraction(data):
    seen = set()
    for seed in range(12):
        train, val = (
            feeder(data, part, val_by="subject", val_seed=seed, val_fraction=0.2) for part in ("train", "val")
        )
        subjects = set(val.clips % 10)
        assert not subjects & set(train.clips % 10)
        assert len(subjects) == 2
        seen |= subjects
    assert len(seen) > 5


def test_by_sequence_holds_out_whole_sequences(data):
    train, val = (feeder(data, part, val_by="sequence", val_fraction=0.1) for part in ("train", "val"))
    assert not set(val.clips // 3) & set(train.clips // 3)
    assert len(val) == 12


def test_a_subject_that_a_class_needs_is_kept(tmp_path):
    # Only subject 0 jumps; it may not be held out, whatever the seed.
    path = tmp_path / "data.h5"
    write(path, [3 if clip % 4 == 0 else clip % 3 for clip in range(40)], [0], subjects=4)
    for seed in range(8):
        val = feeder(path, "val", val_by="subject", val_seed=seed, val_fraction=0.25)
        assert len(set(val.clips % 4)) == 1
        assert 0 not in val.clips % 4


def test_when_no_subject_can_be_held_out_it_says_so(tmp_path):
    path = tmp_path / "data.h5"
    write(path, [clip % 4 for clip in range(40)], [0], subjects=4)
    with pytest.raises(ValueError, match=r"no subject of .* can be held out: .* 4 .*val_by: random"):
        feeder(path, val_by="subject", val_fraction=0.25)


def test_data_that_does_not_know_subjects_says_so(tmp_path):
    path = tmp_path / "data.h5"
    write(path, [0, 1, 2, 3] * 4, [0], keys=False)
    with pytest.raises(ValueError, match=r"no key 'subject', by which data\.val_by .*; choose from random"):
        feeder(path, val_by="subject")
    assert len(feeder(path, val_by="subject", val_fraction=0.0)) == 16
    assert len(feeder(path, "test", val_by="subject")) == 1


# -- labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_a_label_fraction_keeps_a_share_of_each_class_nested_in_larger_ones(data, seed):
    kept: set[int] = set()
    for fraction, counts in [
        (0.01, [1, 1, 1, 1]),
        (0.1, [6, 4, 2, 1]),
        (0.5, [30, 20, 10, 2]),
        (1.0, [60, 40, 20, 4]),
    ]:
        labelled = feeder(data, val_fraction=0.0, label_fraction=fraction, label_seed=seed)
        assert np.bincount(labelled.label).tolist() == counts
        assert kept <= set(labelled.clips)
        kept = set(labelled.clips)


def test_labels_are_drawn_from_training_and_validation_part_apart(data):
    val = feeder(data, "val", val_fraction=0.2)
    # Labels that choose the epoch are labels used.
    few = feeder(data, "val", val_fraction=0.2, label_fraction=0.1)
    assert np.bincount(few.label).tolist() == [max(1, round(0.1 * n)) for n in np.bincount(val.label)]
    assert set(few.clips) <= set(val.clips)
    labelled = feeder(data, val_fraction=0.2, label_fraction=0.1)
    assert not set(labelled.clips) & set(val.clips)
    assert set(labelled.clips) <= set(feeder(data, val_fraction=0.2).clips)
    assert len(feeder(data, "test", label_fraction=0.1)) == 40
    other = feeder(data, val_fraction=0.2, label_fraction=0.1, label_seed=1)
    assert other.clips.tolist() != labelled.clips.tolist()


# -- label maps --------------------------------------------------------------------------------------------


def test_a_label_map_of_names_numbers_targets_as_they_appear(data, tmp_path):
    file = tmp_path / "map.yaml"
    file.write_text("jump: legs\nwave: arms\n1: arms\nsit:\n")
    mapped = feeder(data, val_fraction=0.0, num_class=2, label_map=str(file))
    assert mapped.class_names == ["legs", "arms"]
    assert mapped.clips.tolist() == [*range(100), *range(120, 124)]
    assert mapped.label.tolist() == [1] * 100 + [0] * 4
    test = feeder(data, "test", num_class=2, label_map=str(file))
    assert test.label.tolist() == [1, 1, 0] * 10


def test_a_label_map_of_numbers_keeps_them_and_names_them_by_source(tmp_path):
    file = tmp_path / "map.csv"
    file.write_text("source,note,target\nsit,x,0\nbow,y,1\n0,,1\njump,,\n")
    table, names = read_label_map(file, CLASSES, num_class=3)
    assert table.tolist() == [1, 1, 0, -1]
    assert names == ["sit", "bow/wave", "2"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("map.yaml", "wavee: a\nbow: b\n", "no class 'wavee'; did you mean 'wave'"),
        ("map.yaml", "7: a\nbow: b\n", "no class 7.*number from 0 to 3"),
        ("map.yaml", "wave: a\n0: b\n", "names source class 0 twice"),
        ("map.yaml", "wave: a\nbow: a\n", "names 1 target classes, the run has 2"),
        ("map.yaml", "wave: a\nbow: 1\n", "all names or all numbers"),
        ("map.yaml", "wave:\n", "all names or all numbers"),
        ("map.yaml", "wave: 2\nbow: 0\n", "target 2; num_class 2 has 0 to 1"),
        ("map.yaml", "- wave\n", "holds list; .*{source: target}"),
        ("map.yaml", "wave: [\n", "not valid YAML"),
        ("map.csv", "from,to\nwave,0\n", "no columns 'source' and 'target'"),
        ("map.csv", "source,target\n", "has no rows"),
    ],
)
def test_a_bad_label_map_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        read_label_map(tmp_path / name, CLASSES, num_class=2)


def test_a_missing_label_map_is_named(data):
    with pytest.raises(FileNotFoundError, match=r"label map nowhere\.yaml not found"):
        feeder(data, label_map="nowhere.yaml")


# -- bad input ---------------------------------------------------------------------------------------------


def test_missing_data_names_the_commands_that_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)ntu_gen_preprocess.py.*make demo"):
        feeder(tmp_path / "ntu60.h5")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmark": "xsubs"}, "no benchmark 'xsubs'; did you mean 'xsub'"),
        ({"benchmark": "other"}, "choose from one_class, xsub"),
        (
            {"layout": "ntu-rgb+d"},
            r"layout 'kinect-v1' \(20 joints\), the run has 'ntu-rgb\+d' \(25 joints\)",
        ),
        ({"num_class": 10}, "has 4 classes, the run has num_class 10; .*data.label_map"),
        ({"part": "valid"}, "part is 'valid'"),
        ({"num_body": 0}, "num_body is 0"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"val_by": "subjects"}, "no key 'subjects', .* did you mean 'subject'"),
        ({"label_fraction": 0.0}, "label_fraction is 0.0"),
        ({"part": "val", "val_fraction": 0.0}, r"part 'val' .* is empty \(val_fraction is 0\)"),
        (
            {"part": "val", "val_by": "random", "val_fraction": 1e-4},
            r"part 'val' .* is empty: data.val_fraction 0.0001 .*; set it higher, or to 0",
        ),
        ({"benchmark": "one_class", "part": "test"}, "part 'test' of benchmark 'one_class' .* is empty$"),
        ({"benchmark": "one_class", "part": "test", "val_fraction": 0.0}, "is empty$"),
        (
            {"benchmark": "one_class"},
            "no training clip of benchmark 'one_class' .* of class 'wave', 'sit', 'jump'",
        ),
    ],
)
def test_bad_arguments_are_refused_with_value_and_remedy(data, changes, said):
    with pytest.raises(ValueError, match=said):
        feeder(data, **changes)


def test_a_task_that_names_no_action_is_tested_on_classes_without_a_training_clip(tmp_path):
    path = tmp_path / "data.h5"
    write(path, [0, 1], [1, 2], classes=["a", "b", "c"])
    for part, label in (("train", [0, 1]), ("test", [1, 2])):
        found = feeder(path, part, num_class=3, val_fraction=0.0, every_class=False)
        assert found.label.tolist() == label


def test_many_absent_classes_are_counted(tmp_path):
    path = tmp_path / "data.h5"
    write(path, [0, 1], list(range(2, 9)), classes=[f"c{k}" for k in range(12)])
    with pytest.raises(ValueError, match="of class 'c2', 'c3', 'c4', 'c5', 'c6' and 2 more"):
        feeder(path, num_class=12, val_fraction=0.0)
    assert len(feeder(path, "test", num_class=12)) == 7


def test_a_class_that_no_clip_of_the_data_has_is_no_mistake(tmp_path):
    path = tmp_path / "data.h5"
    write(path, [0, 2], [2], classes=["a", "b", "c", "d"])
    assert feeder(path, val_fraction=0.0).label.tolist() == [0, 2]


def test_another_description_of_the_same_layout_is_told(data, monkeypatch):
    changed = get_skeleton("kinect-v1").to_dict() | {"spine": 5}
    monkeypatch.setattr(
        "feeder.feeder.get_skeleton", lambda layout: type(get_skeleton(layout)).from_dict(changed)
    )
    with pytest.raises(ValueError, match="the two describe its joints differently"):
        feeder(data)


def test_real_clips_of_nw_ucla_have_the_published_counts(shared_data, tmp_path):
    """Its split files list 1,020 clips to train on and 464 to test."""
    folder = shared_data("nw_ucla")
    listed = {
        part: [
            line.split("\t")[0]
            for line in (folder / f"split_{part}.tsv").read_text().splitlines()
            if "_s" in line
        ]
        for part in ("train", "val")
    }
    names = [*listed["train"], *listed["val"]]
    path = tmp_path / "ucla.h5"
    with PreparedWriter(
        path,
        skeleton=get_skeleton("kinect-v1"),
        class_names=[f"a{k}" for k in (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)],
        frame_rate=30.0,
        bodies="first",
        source="NW-UCLA",
    ) as writer:
        actions = sorted({name[1:3] for name in names})
        for name in names:
            label = actions.index(name[1:3])
            writer.append(name, label, np.ones((1, 1, 20, 3), np.float32), subject=int(name[5:7]))
        count = len(listed["train"])
        writer.finish({"xview": {"train": range(count), "val": range(count, len(names))}})
    parts = {
        part: Feeder(path, "xview", part=part, layout="kinect-v1", num_class=10, num_body=1)
        for part in ("train", "val", "test")
    }
    assert len(parts["test"]) == 464
    assert len(parts["train"]) + len(parts["val"]) == 1020
    assert 0.05 < len(parts["val"]) / 1020 < 0.15


# -- takes -------------------------------------------------------------------------------------------------


def write_takes(path, keys):
    with open_writer(path, CLASSES) as writer:
        for clip, values in enumerate(keys):
            writer.append(f"clip{clip}", clip % 4, np.ones((1, 2, 20, 3), np.float32), **values)
        writer.finish({"xsub": {"train": range(len(keys)), "val": []}})
    return path


def test_clips_of_a_take_differ_in_the_camera_alone(tmp_path):
    rng = np.random.default_rng(0)
    clips = [(subject, camera, time) for subject in (7, 3) for camera in (2, 5, 9) for time in (1, 0)]
    del clips[4]
    clips = [clips[place] for place in rng.permutation(len(clips))]
    keys = [dict(zip(("subject", "camera", "replication"), clip, strict=True)) for clip in clips]
    take = feeder(write_takes(tmp_path / "data.h5", keys), val_fraction=0.0).take_index("camera")
    expected = [[a[::2] == b[::2] for a in clips] for b in clips]
    np.testing.assert_array_equal(take[:, None] == take, expected)
    assert sorted(set(take.tolist())) == list(range(4))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([{}] * 8, "has no key 'camera' .*; it has none"),
        ([{"camera_id": n % 2, "subject": n // 2} for n in range(8)], "did you mean 'camera_id'"),
        ([{"camera": 0, "subject": n} for n in range(8)], "no two train clips of benchmark 'xsub'"),
        (
            [{"camera": camera, "subject": n} for n in range(2) for camera in (0, 1, 1, 2)],
            "clip1 and clip2 of .* are equal in all keys, 'camera' included",
        ),
    ],
    ids=["no keys", "another key", "one camera", "two clips of a camera"],
)
def test_takes_that_the_data_does_not_tell_are_explained(tmp_path, keys, message):
    data = write_takes(tmp_path / "data.h5", keys)
    with pytest.raises(ValueError, match=message):
        feeder(data, val_fraction=0.0).take_index("camera")


# -- clips without a label ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def partly_labelled(tmp_path_factory):
    """As `data`, but every third clip has no label."""
    path = tmp_path_factory.mktemp("feeder") / "partly.h5"
    labels = [k for k, name in enumerate(CLASSES) for _ in range(SHARES[name])]
    write(path, [-1 if clip % 3 == 0 else k for clip, k in enumerate(labels)], [0, 1, 2, 3] * 10)
    return path


@pytest.mark.parametrize("val_by", ["random", "subject"])
def test_clips_without_a_label_train_where_they_are_wanted(partly_labelled, val_by):
    train, val = (feeder(partly_labelled, part, val_by=val_by) for part in ("train", "val"))
    assert (train.label >= 0).all() and (val.label >= 0).all()
    everything = feeder(partly_labelled, val_by=val_by, unlabelled=True)
    others = everything.clips[everything.label == -1]
    np.testing.assert_array_equal(everything.clips[everything.label >= 0], train.clips)
    # With a subject go its clips without a label.
    subject = everything.source.keys["subject"]
    kept = [
        clip for clip in range(0, 124, 3) if val_by == "random" or subject[clip] not in subject[val.clips]
    ]
    assert others.tolist() == kept
    assert feeder(partly_labelled, "val", val_by=val_by, unlabelled=True).clips.tolist() == val.clips.tolist()


def test_a_label_map_gives_no_class_to_clips_without_a_label(partly_labelled, tmp_path):
    (tmp_path / "map.yaml").write_text("{wave: b, bow: a, jump: a}")
    mapped = feeder(
        partly_labelled, num_class=2, label_map=str(tmp_path / "map.yaml"), unlabelled=True, val_fraction=0
    )
    label = mapped.source.label[mapped.clips]
    np.testing.assert_array_equal(mapped.label, np.array([0, 1, -1, 1, -1])[label])
    # A class without a target is left out; clips without a label are not.
    assert set(label.tolist()) == {0, 1, 3, -1}


def test_data_without_any_label_has_one_part(tmp_path):
    write(tmp_path / "a.h5", [-1] * 6, [], classes=[])
    arguments = {"num_class": 1, "val_fraction": 0}
    assert feeder(tmp_path / "a.h5", unlabelled=True, **arguments).clips.tolist() == list(range(6))
    for part in ("train", "test"):
        with pytest.raises(ValueError, match="is empty"):
            feeder(tmp_path / "a.h5", part, **arguments)


# -- windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_frame", "step"), [(3, 1), (2, 2), (6, 1)])
def test_windows_are_all_parts_of_the_clips(data, num_frame, step):
    whole = feeder(data, val_fraction=0)
    expected = [
        (clip, first)
        for clip, count in zip(whole.clips.tolist(), whole.num_frame.tolist(), strict=True)
        for first in range(0, count - num_frame + 1, step)
    ]
    found = whole.windows(num_frame, step)
    assert list(zip(found.clips.tolist(), found.first.tolist(), strict=True)) == expected
    assert set(found.num_frame) == {num_frame}
    assert found.name.tolist() == [f"clip{clip}@{first}" for clip, first in expected]
    assert len(set(found.name.tolist())) == len(found)


@pytest.mark.parametrize(
    ("num_frame", "step", "said"), [(7, 1, "7 frames"), (0, 1, "num_frame"), (2, 0, "step")]
)
def test_windows_that_there_cannot_be_are_refused(data, num_frame, step, said):
    with pytest.raises(ValueError, match=said):
        feeder(data).windows(num_frame, step)
