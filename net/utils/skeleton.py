"""A skeleton: joints, and the parent of each.

V joints, counted from 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torchlight.build import nearest


@dataclass(frozen=True)
class Skeleton:
    """The joints of one body as a tree.

    name: of the layout.
    joints: V names, all different.
    parents: V indices; the parent of the root is the root.
    centre: the joint from which graph partitions count hops.
    swap: V indices, the permutation that mirrors the body; its own inverse.
    spine: the joint at the origin of centred clips.
    torso: (lower, upper) joints of the line that upright normalisation turns to z, or None.
    shoulders: (right, left) joints of the line that upright normalisation turns to x, or None.

    Raises ValueError if the fields do not describe one tree with a mirror image.
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
                raise ValueError(f"{where} has {what} {pair}; give two different joints")
        roots = [joint for joint, parent in enumerate(self.parents) if joint == parent]
        if len(roots) > 1:
            names = [self.joints[root] for root in roots]
            raise ValueError(
                f"{where} has {len(roots)} roots {names}; exactly one joint must be its own parent"
            )
        for joint in range(count):
            seen = [joint]
            while self.parents[seen[-1]] not in seen:
                seen.append(self.parents[seen[-1]])
            if self.parents[seen[-1]] != seen[-1]:
                cycle = [self.joints[j] for j in seen[seen.index(self.parents[seen[-1]]) :]]
                raise ValueError(
                    f"{where} has a cycle in its parents: {' -> '.join([*cycle, cycle[0]])}; "
                    "the parents of every joint must lead to the root, which is its own parent"
                )
        for joint, other in enumerate(self.swap):
            if self.swap[other] != joint:
                raise ValueError(
                    f"{where} swaps {self.joints[joint]!r} with {self.joints[other]!r}, "
                    "but not the other way; swap pairs of joints, or a joint with itself"
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
        """The fields as JSON types. `from_dict` reads them back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Skeleton":
        """The skeleton with the fields that `to_dict` gave."""
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
    """A skeleton from joint names or indices, as a layout file has them.

    parents: one per joint; the parent of the root is the root.
    pairs: (left, right) joints that mirror each other; all others mirror themselves.
    spine: None for the centre.
    torso: (lower, upper) joints, or None.
    shoulders: (right, left) joints, or None.

    Raises ValueError for a joint that does not exist or is in two pairs, and for what `Skeleton` refuses.
    """
    names = list(joints)
    for each in names:
        if not isinstance(each, str):
            raise ValueError(
                f"skeleton {name!r} has a joint named {each!r}; names are strings: put numbers in quotes"
            )

    def index(joint: str | int, where: str) -> int:
        if isinstance(joint, int):
            return joint
        if joint not in names:
            hint = nearest(str(joint), names)
            raise ValueError(f"skeleton {name!r} has {where} with an unknown joint {joint!r}; {hint}")
        return names.index(joint)

    def two(value: Sequence[str | int], where: str) -> tuple[int, int]:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
            raise ValueError(f"skeleton {name!r} has {where} {value!r}; give a list of two joints")
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
                    "list each joint once, and leave out joints that mirror themselves"
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
