"""Skeleton tables and adjacency, against the published graphs and hand-made ones."""

import json

import numpy as np
import pytest

from net.utils.graph import Graph
from net.utils.layouts import LAYOUTS, get_skeleton
from net.utils.skeleton import Skeleton

CHAIN = {"joints": ["hip", "chest", "head"], "parents": ["hip", "hip", "chest"], "centre": "hip"}


@pytest.fixture
def layout_file(tmp_path):
    """Path of a YAML layout: a chain of three joints, with the changes given."""

    def write(**changes):
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps({k: v for k, v in {**CHAIN, **changes}.items() if v is not None}))
        return str(path)

    return write


def test_published_graphs_are_equal(reference):
    graphs = {key: value for key, value in reference("stgcn_graph.npz").items() if key != "meta"}
    assert graphs
    for key, expected in graphs.items():
        layout, strategy, max_hop = key.split("|")
        A = Graph(layout, strategy, max_hop=int(max_hop)).A
        assert A.dtype == np.float64
        np.testing.assert_array_equal(A, expected, err_msg=key)


@pytest.mark.parametrize(
    ("name", "layout"), [("ctrgcn_ntu.npz", "ntu-rgb+d"), ("ctrgcn_ucla.npz", "kinect-v1")]
)
def test_published_digraphs_are_equal(reference, name, layout):
    np.testing.assert_array_equal(Graph(layout, "digraph").A, reference(name)["A"])


def test_spatial_subsets_of_a_chain(layout_file):
    A = Graph(layout_file(), "spatial", max_hop=2).A
    third = 1 / 3  # within two hops everything is a neighbour of everything
    np.testing.assert_allclose(A[0], np.eye(3) * third)
    np.testing.assert_allclose(A[1], [[0, 0, 0], [third, 0, 0], [0, third, 0]])  # one hop, to the nearer
    np.testing.assert_allclose(A[2], [[0, third, 0], [0, 0, third], [0, 0, 0]])  # one hop, to the farther
    np.testing.assert_allclose(A[3], [[0, 0, 0], [0, 0, 0], [third, 0, 0]])
    np.testing.assert_allclose(A[4], [[0, 0, third], [0, 0, 0], [0, 0, 0]])


def test_layouts_have_the_published_sizes():
    sizes = {name: skeleton.num_joint for name, skeleton in LAYOUTS.items()}
    assert sizes == {"ntu-rgb+d": 25, "ntu_edge": 24, "kinect-v1": 20, "openpose": 18, "coco": 17} | {
        "body_25": 25,
        "body_25b": 25,
        "mediapipe": 33,
        "h36m": 17,
        "cmu": 38,
    }


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=LAYOUTS)
def test_mirroring_keeps_the_bones(skeleton):
    swap = skeleton.swap
    assert {(swap[joint], swap[parent]) for joint, parent in skeleton.bones} == set(skeleton.bones)
    for joint, other in enumerate(swap):
        assert ("left" in skeleton.joints[joint]) == ("right" in skeleton.joints[other])
    right, left = skeleton.shoulders
    assert swap[right] == left and "right" in skeleton.joints[right]


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=LAYOUTS)
def test_dict_round_trip_survives_json(skeleton):
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


def test_ntu_joints_are_where_kinect_puts_them():
    ntu = get_skeleton("ntu-rgb+d")
    assert (ntu.torso, ntu.shoulders, ntu.spine, ntu.centre) == ((0, 1), (8, 4), 1, 20)
    assert [ntu.swap[v] for v in (4, 7, 12, 21, 22, 20)] == [8, 11, 16, 23, 24, 20]
    assert len(ntu.bones) == 24 and (0, 1) in ntu.bones and (20, 20) not in ntu.bones


def test_kinect_v1_is_listed_as_in_its_data(shared_data):
    """Bones join near joints: those of the table are far shorter than between joints drawn otherwise."""
    path = min(shared_data("nw_ucla/all_sqe").glob("*.json"))
    joints = np.array(json.loads(path.read_text())["skeletons"])
    child, parent = np.array(get_skeleton("kinect-v1").bones).T
    length, other = (
        np.linalg.norm(joints[:, child] - joints[:, p], axis=-1) for p in (parent, np.roll(parent, 7))
    )
    assert length.mean() < 0.5 * other.mean()
    assert length.mean(0).max() < 0.55  # metres


def test_yaml_layout_by_names_and_by_indices(layout_file):
    named = get_skeleton(layout_file(pairs=[["chest", "head"]], torso=["hip", "chest"]))
    assert named == Skeleton("mine", ("hip", "chest", "head"), (0, 0, 1), 0, (0, 2, 1), 0, torso=(0, 1))
    indexed = get_skeleton(layout_file(name="other", parents=[0, 0, 1], spine=1, shoulders=[2, 1]))
    assert (indexed.name, indexed.parents, indexed.spine, indexed.shoulders) == (
        "other",
        (0, 0, 1),
        1,
        (2, 1),
    )
    assert get_skeleton(named) is named


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parents": ["hip", "head", "chest"]}, "chest -> head -> chest"),
        ({"parents": ["chest", "head", "hip"]}, "hip -> chest -> head -> hip"),
        ({"parents": ["hip", "chest", "chest"]}, r"2 roots .*'hip', 'chest'"),
        ({"parents": ["hip", "hip"]}, r"\b3 joints .*\b2 parents"),
        ({"parents": ["hip", "hip", "chets"]}, r"parents .*'chets'.*'chest'"),
        ({"parents": [0, 0, 7]}, r"joint 7\b.*\b0\.\.2"),
        ({"parents": "hip"}, r"parents 'hip'.*\blist\b"),
        ({"joints": ["hip", "hip", "head"], "parents": [0, 0, 1]}, "'hip' more than once"),
        ({"joints": [1, 2, 3]}, r"joint named 1\b"),
        ({"joints": [], "parents": [], "centre": 0}, "no joints"),
        ({"centre": "xyzzy"}, "centre .*'xyzzy'.*chest, head, hip"),
        ({"centre": -1}, r"joint -1\b"),
        ({"pairs": [["chest", "head"], ["head", "chest"]]}, "'head' twice in pairs"),
        ({"pairs": [["chest", "head"], ["hip", "head"]]}, "'head' twice in pairs"),
        ({"pairs": [["hip", "hip"]]}, "'hip' twice in pairs"),
        ({"pairs": [[0, 3]]}, r"pairs joint 3\b"),
        ({"pairs": ["chest"]}, r"pairs 'chest'"),
        ({"torso": ["hip"]}, r"torso \['hip'\]"),
        ({"shoulders": ["hip", "hip"]}, r"shoulders \(0, 0\)"),
        ({"centre": None}, r"holds \['joints', .*\['centre', 'joints', 'parents'\]"),
        ({"bones": []}, r"holds \['bones', .*\['centre', 'joints', 'parents'\]"),
    ],
)
def test_yaml_layout_errors_speak(layout_file, changes, message):
    with pytest.raises(ValueError, match=message):
        get_skeleton(layout_file(**changes))


def test_one_sided_swap_is_refused():
    with pytest.raises(ValueError, match="not the other way"):
        Skeleton("s", ("a", "b", "c"), (0, 0, 0), 0, (1, 2, 0), 0)
    with pytest.raises(ValueError, match="2 swap"):
        Skeleton("s", ("a", "b", "c"), (0, 0, 0), 0, (0, 1), 0)


def test_files_that_are_no_layout(tmp_path):
    with pytest.raises(ValueError, match="unknown layout 'ntu'; give one of ntu-rgb\\+d"):
        get_skeleton("ntu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        get_skeleton(str(tmp_path / "absent.yaml"))
    for text in ("joints: [", "- a\n- b"):
        (tmp_path / "bad.yml").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.yml"):
            get_skeleton(str(tmp_path / "bad.yml"))


def test_graph_arguments_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="unknown graph strategy 'spacial'; give one of uniform"):
        Graph("ntu-rgb+d", "spacial")
    with pytest.raises(ValueError, match="max_hop 0"):
        Graph("ntu-rgb+d", "spatial", max_hop=0)
    with pytest.raises(ValueError, match="max_hop 2 with strategy 'digraph'"):
        Graph("ntu-rgb+d", "digraph", max_hop=2)
