"""Skeletons and the graphs made from them: the only place that knows which joint hangs on which.

V joints, K adjacency subsets. Joints are counted from 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from torchlight.build import nearest


@dataclass(frozen=True)
class Skeleton:
    """Joints of one body and how they hang together: a tree.

    name: what the layout is called.
    joints: V names, all different.
    parents: V indices; the root's parent is itself.
    centre: the joint that graph partitions measure hops from.
    swap: V indices, the permutation that mirrors the body; its own inverse.
    spine: the joint that stands for the body's place when clips are centred.
    torso: (lower, upper) joint of the line that upright normalisation turns to z, or None.
    shoulders: (right, left) joint of the line that it turns to x, or None.

    Raises ValueError where the numbers do not describe one tree with a mirror image.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    centre: int
    swap: tuple[int, ...]
    spine: int
    torso: tuple[int, int] | None = None
    shoulders: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        where, count = f"skeleton {self.name!r}", len(self.joints)
        if count == 0:
            raise ValueError(f"{where} has no joints; list at least one")
        repeated = [joint for joint in self.joints if self.joints.count(joint) > 1]
        if repeated:
            raise ValueError(f"{where} names joint {repeated[0]!r} more than once; names must differ")
        for what, values in (("parents", self.parents), ("swap", self.swap)):
            if len(values) != count:
                raise ValueError(f"{where} has {count} joints but {len(values)} {what}; give one per joint")
        lines = [*(self.torso or ()), *(self.shoulders or ())]
        for index in (*self.parents, *self.swap, self.centre, self.spine, *lines):
            if not 0 <= index < count:
                raise ValueError(f"{where} refers to joint {index}; its {count} joints are 0..{count - 1}")
        for what, pair in (("torso", self.torso), ("shoulders", self.shoulders)):
            if pair is not None and (len(pair) != 2 or pair[0] == pair[1]):
                raise ValueError(f"{where} has {what} {pair}; it takes two different joints")
        roots = [joint for joint, parent in enumerate(self.parents) if joint == parent]
        if len(roots) > 1:
            names = [self.joints[root] for root in roots]
            raise ValueError(f"{where} has {len(roots)} roots {names}; one joint alone is its own parent")
        for joint in range(count):
            seen = [joint]
            while self.parents[seen[-1]] not in seen:
                seen.append(self.parents[seen[-1]])
            if self.parents[seen[-1]] != seen[-1]:
                cycle = [self.joints[j] for j in seen[seen.index(self.parents[seen[-1]]) :]]
                raise ValueError(
                    f"{where} has a cycle in its parents: {' -> '.join([*cycle, cycle[0]])}; "
                    "every joint must lead to the root, whose parent is itself"
                )
        for joint, other in enumerate(self.swap):
            if self.swap[other] != joint:
                raise ValueError(
                    f"{where} swaps {self.joints[joint]!r} with {self.joints[other]!r}, "
                    "but not the other way; each joint mirrors one joint or itself"
                )

    @property
    def num_joint(self) -> int:
        """V."""
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, its parent) of every joint but the root."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if joint != parent)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON can hold them; `from_dict` reads them back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Skeleton":
        """Inverse of `to_dict`."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**values)


def describe_skeleton(
    name: str,
    joints: Sequence[str],
    *,
    parents: Sequence[str | int],
    centre: str | int,
    pairs: Sequence[Sequence[str | int]] = (),
    spine: str | int | None = None,
    torso: Sequence[str | int] | None = None,
    shoulders: Sequence[str | int] | None = None,
) -> Skeleton:
    """A skeleton from joint names (or indices), as a person writes it down.

    parents: one per joint; the root names itself.
    pairs: (left, right) joints that mirror each other; the rest mirror themselves.
    spine: the centre where not given. torso (lower, upper) and shoulders (right, left) may be left out.

    Raises ValueError for a joint that does not exist, one in two pairs, and what `Skeleton` refuses.
    """
    names = list(joints)
    for each in names:
        if not isinstance(each, str):
            raise ValueError(f"skeleton {name!r} has a joint named {each!r}; names are text (quote numbers)")

    def index(joint: str | int, where: str) -> int:
        if isinstance(joint, int):
            return joint
        if joint not in names:
            hint = nearest(str(joint), names)
            raise ValueError(f"skeleton {name!r} has no joint {joint!r}, named in {where}; {hint}")
        return names.index(joint)

    def two(value: Sequence[str | int], where: str) -> tuple[int, int]:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
            raise ValueError(f"skeleton {name!r} has {where} {value!r}; it takes a list of two joints")
        return index(value[0], where), index(value[1], where)

    swap = list(range(len(names)))
    for pair in pairs:
        left, right = two(pair, "pairs")
        for joint in (left, right):
            if not 0 <= joint < len(names):
                raise ValueError(f"skeleton {name!r} pairs joint {joint}; joints are 0..{len(names) - 1}")
            if left == right or swap[joint] != joint:
                raise ValueError(
                    f"skeleton {name!r} lists joint {names[joint]!r} twice in pairs; "
                    "a joint mirrors one other joint, or is left out"
                )
        swap[left], swap[right] = right, left
    return Skeleton(
        name=name,
        joints=tuple(names),
        parents=tuple(index(parent, "parents") for parent in parents),
        centre=index(centre, "centre"),
        swap=tuple(swap),
        spine=index(centre if spine is None else spine, "spine"),
        torso=None if torso is None else two(torso, "torso"),
        shoulders=None if shoulders is None else two(shoulders, "shoulders"),
    )


def _built_in(name: str, parents: Mapping[str, str], **more: Any) -> Skeleton:
    """A skeleton from {joint: parent}, whose pairs are the names that differ in `left` and `right`."""
    pairs = [(joint, joint.replace("left", "right")) for joint in parents if "left" in joint]
    return describe_skeleton(name, list(parents), parents=list(parents.values()), pairs=pairs, **more)


_KINECT_LIMBS = {
    "left shoulder": "shoulder centre",
    "left elbow": "left shoulder",
    "left wrist": "left elbow",
    "left hand": "left wrist",
    "right shoulder": "shoulder centre",
    "right elbow": "right shoulder",
    "right wrist": "right elbow",
    "right hand": "right wrist",
    "left hip": "hip centre",
    "left knee": "left hip",
    "left ankle": "left knee",
    "left foot": "left ankle",
    "right hip": "hip centre",
    "right knee": "right hip",
    "right ankle": "right knee",
    "right foot": "right ankle",
}
_KINECT_V2_HANDS = {
    "left hand tip": "left thumb",
    "left thumb": "left hand",
    "right hand tip": "right thumb",
    "right thumb": "right hand",
}
_KINECT_LINES = {
    "spine": "spine",
    "torso": ("hip centre", "spine"),
    "shoulders": ("right shoulder", "left shoulder"),
}

LAYOUTS: dict[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (
        _built_in(
            "ntu-rgb+d",
            {"hip centre": "spine", "spine": "shoulder centre", "neck": "shoulder centre", "head": "neck"}
            | _KINECT_LIMBS
            | {"shoulder centre": "shoulder centre"}
            | _KINECT_V2_HANDS,
            centre="shoulder centre",
            **_KINECT_LINES,
        ),
        _built_in(
            "ntu_edge",
            {"hip centre": "spine", "spine": "neck", "neck": "neck", "head": "neck"}
            | _KINECT_LIMBS
            | {"left shoulder": "spine", "right shoulder": "spine"}
            | _KINECT_V2_HANDS,
            centre="neck",
            **_KINECT_LINES,
        ),
        _built_in(
            "kinect-v1",
            {
                "hip centre": "spine",
                "spine": "shoulder centre",
                "shoulder centre": "shoulder centre",
                "head": "shoulder centre",
            }
            | _KINECT_LIMBS,
            centre="shoulder centre",
            **_KINECT_LINES,
        ),
        _built_in(
            "openpose",
            {
                "nose": "neck",
                "neck": "neck",
                "right shoulder": "neck",
                "right elbow": "right shoulder",
                "right wrist": "right elbow",
                "left shoulder": "neck",
                "left elbow": "left shoulder",
                "left wrist": "left elbow",
                "right hip": "right shoulder",
                "right knee": "right hip",
                "right ankle": "right knee",
                "left hip": "left shoulder",
                "left knee": "left hip",
                "left ankle": "left knee",
                "right eye": "nose",
                "left eye": "nose",
                "right ear": "right eye",
                "left ear": "left eye",
            },
            centre="neck",
            shoulders=("right shoulder", "left shoulder"),
        ),
        _built_in(
            "coco",
            {
                "nose": "nose",
                "left eye": "nose",
                "right eye": "nose",
                "left ear": "left eye",
                "right ear": "right eye",
                "left shoulder": "nose",
                "right shoulder": "nose",
                "left elbow": "left shoulder",
                "right elbow": "right shoulder",
                "left wrist": "left elbow",
                "right wrist": "right elbow",
                "left hip": "left shoulder",
                "right hip": "right shoulder",
                "left knee": "left hip",
                "right knee": "right hip",
                "left ankle": "left knee",
                "right ankle": "right knee",
            },
            centre="nose",
            shoulders=("right shoulder", "left shoulder"),
        ),
    )
}


def get_skeleton(layout: str | Skeleton) -> Skeleton:
    """The skeleton of a layout: a name of `LAYOUTS`, or the path of a YAML file that describes one.

    The file holds `joints` (names), `parents` (a name or index per joint; the root names itself), `centre`,
    and where wanted `name` (else the file's), `pairs` ([left, right] lists), `spine`, `torso` [lower, upper],
    `shoulders` [right, left].

    Raises ValueError for an unknown name or a description that is no skeleton, FileNotFoundError for a
    missing file.
    """
    if isinstance(layout, Skeleton):
        return layout
    if layout in LAYOUTS:
        return LAYOUTS[layout]
    path = Path(layout)
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"unknown layout {layout!r}; give one of {', '.join(LAYOUTS)}, "
            "or the path of a .yaml file that describes a skeleton"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"layout file {layout!r} does not exist; known names are {', '.join(LAYOUTS)}"
        )
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"layout file {layout!r} is not valid YAML: {error}") from None
    required = {"joints", "parents", "centre"}
    allowed = required | {"name", "pairs", "spine", "torso", "shoulders"}
    if not isinstance(fields, dict) or required - set(fields) or set(fields) - allowed:
        found = sorted(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise ValueError(
            f"layout file {layout!r} holds {found}; it takes the keys {sorted(required)} "
            f"and may have {sorted(allowed - required)}"
        )
    for key in ("joints", "parents", "pairs"):
        if not isinstance(fields.get(key, []), list):
            raise ValueError(f"layout file {layout!r} has {key} {fields[key]!r}; it takes a list")
    return describe_skeleton(fields.pop("name", path.stem), fields.pop("joints"), **fields)


class Graph:
    """Adjacency of a skeleton, split into subsets that a graph convolution weighs apart.

    layout: see `get_skeleton`.
    strategy: `uniform` (one subset), `distance` (one per hop) or `spatial` (per hop two: senders as far
        from the centre as the receiver or farther, and centripetal ones, which are nearer) after ST-GCN
        (Yan et al., AAAI 2018, section 3.3); `digraph` (self, towards the root, away from it) after CTR-GCN
        (Chen et al., ICCV 2021).
        What a joint receives has weights that sum to 1 over all subsets (in each subset for `digraph`).
    max_hop: joints at most this many bones apart are neighbours.

    A: (K, V, V) float64; A[k, v, w] is what joint v gives to joint w.

    Raises ValueError for an unknown strategy, and for a max_hop below 1, or other than 1 with `digraph`.
    """

    def __init__(self, layout: str | Skeleton, strategy: str = "spatial", *, max_hop: int = 1) -> None:
        if strategy not in _STRATEGIES:
            raise ValueError(f"unknown graph strategy {strategy!r}; give one of {', '.join(_STRATEGIES)}")
        if max_hop < 1 or (strategy == "digraph" and max_hop != 1):
            raise ValueError(
                f"max_hop {max_hop} with strategy {strategy!r}; give 1 (or more, but not for digraph)"
            )
        self.skeleton = get_skeleton(layout)
        self.A: np.ndarray = _STRATEGIES[strategy](self.skeleton, max_hop)


def _hops(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    """(V, V) bones between two joints; infinite past max_hop."""
    joint, parent = np.array(skeleton.bones, dtype=int).reshape(-1, 2).T
    step = np.eye(skeleton.num_joint, dtype=bool)
    step[joint, parent] = step[parent, joint] = True
    hops = np.full(step.shape, np.inf)
    within = np.eye(skeleton.num_joint, dtype=bool)
    for hop in range(max_hop + 1):
        hops[within & np.isinf(hops)] = hop
        within = within @ step
    return hops


def _normalise_columns(adjacency: np.ndarray) -> np.ndarray:
    """Columns that sum to 1, or stay 0."""
    degree = adjacency.sum(axis=-2, keepdims=True, dtype=float)
    return adjacency * np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)


def _uniform(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    return _normalise_columns(np.isfinite(_hops(skeleton, max_hop)))[None]


def _distance(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    hops = _hops(skeleton, max_hop)
    return np.stack([_uniform(skeleton, max_hop)[0] * (hops == hop) for hop in range(max_hop + 1)])


def _spatial(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    hops = _hops(skeleton, max_hop)
    # As published, the distance to the centre is known up to max_hop: all joints beyond are level.
    from_centre = hops[skeleton.centre]
    nearer = from_centre[:, None] < from_centre[None, :]
    rings = _distance(skeleton, max_hop)
    return np.stack([rings[0]] + [ring * side for ring in rings[1:] for side in (~nearer, nearer)])


def _digraph(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    inward = np.zeros((skeleton.num_joint, skeleton.num_joint))
    for joint, parent in skeleton.bones:
        inward[parent, joint] = 1
    return _normalise_columns(np.stack([np.eye(skeleton.num_joint), inward, inward.T]))


_STRATEGIES = {"uniform": _uniform, "distance": _distance, "spatial": _spatial, "digraph": _digraph}
