"""What a skeleton is: joints, and which hangs on which.

V joints, counted from 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
