"""Text summary of a data set: clips of each class and part, lengths, bodies, missing joints.

N clips, R poses of all bodies in all frames, V joints, C coordinates.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from feeder.prepared import Prepared
from net.utils.channels import joints_there
from net.utils.skeleton import Skeleton
from processor.displayed import Shown, known_rate, label_name, split_confidence

# Poses in a block: blocks limit the memory.
BLOCK = 1 << 16
# Largest number of joints that are named as missing most often, and the smallest share of missing for a name.
MOST_JOINTS, LEAST_SHARE = 3, 0.001


class Missing(NamedTuple):
    """Counts of missing poses and joints.

    num_pose: R.
    absent: number of poses without any joint: the body is not in that frame.
    of_joint: (V,) number of other poses in which a joint is missing.
    """

    num_pose: int
    absent: int
    of_joint: np.ndarray

    @property
    def share(self) -> float:
        """Share of missing joints in poses that are not absent."""
        return self.of_joint.sum() / max((self.num_pose - self.absent) * len(self.of_joint), 1)


def count_missing(blocks: Iterable[np.ndarray], num_joint: int) -> Missing:
    """Count missing poses and joints in blocks of poses (n, V, C)."""
    num_pose, absent, of_joint = 0, 0, np.zeros(num_joint, np.int64)
    for poses in blocks:
        there = joints_there(poses)
        present = there.any(1)
        num_pose += len(poses)
        absent += int((~present).sum())
        of_joint += (~there[present]).sum(0)
    return Missing(num_pose, absent, of_joint)


class Summary(NamedTuple):
    """Lines about a data set, and its clips by class and part, if classes are known."""

    lines: list[str]
    classes: pd.DataFrame | None = None

    def __str__(self) -> str:
        table = [] if self.classes is None else ["", self.classes.to_string()]
        return "\n".join([*self.lines, *table])


def summary_of_prepared(prepared: Prepared) -> Summary:
    """Summary of a prepared file."""
    missing = count_missing(_blocks(prepared), prepared.skeleton.num_joint)
    rate = known_rate(prepared)
    head = _heading(str(prepared.path), len(prepared), prepared.skeleton, rate)
    facts = _facts(prepared.num_frame, prepared.num_body, missing, prepared.skeleton, rate)
    return Summary([head, *facts], class_table(prepared))


def _blocks(prepared: Prepared) -> Iterator[np.ndarray]:
    for start in range(0, len(prepared.joints), BLOCK):
        yield split_confidence(prepared.joints[start : start + BLOCK], prepared.channels)[0]


def class_table(prepared: Prepared) -> pd.DataFrame:
    """Number of clips of each class (rows), in all and in each part of each benchmark; the last row is the sum."""
    labels = [k for k in range(-1, len(prepared.class_names)) if k >= 0 or (prepared.label < 0).any()]
    columns = {"clips": prepared.label} | {
        f"{benchmark} {part}": prepared.label[clips]
        for benchmark, parts in prepared.splits.items()
        for part, clips in parts.items()
    }
    counts = {name: [*((values == k).sum() for k in labels), len(values)] for name, values in columns.items()}
    return pd.DataFrame(counts, index=[*(label_name(prepared, k) for k in labels), "all"])


def summary_of_recordings(what: str, clips: Sequence[Shown]) -> Summary:
    """Summary of one or more recordings, for each layout; lengths are in frames only if frame rates differ."""
    skeletons = {clip.skeleton.name: clip.skeleton for clip in clips}
    rates = {clip.frame_rate for clip in clips}
    rate = rates.pop() if len(rates) == 1 else None
    lines: list[str] = []
    for name, skeleton in skeletons.items():
        of_layout = [clip for clip in clips if clip.skeleton.name == name]
        poses = (clip.tracks.reshape(-1, *clip.tracks.shape[2:]) for clip in of_layout)
        num_body, num_frame = np.array([clip.tracks.shape[:2] for clip in of_layout]).T
        missing = count_missing(poses, skeleton.num_joint)
        lines.append(_heading(what, len(of_layout), skeleton, rate))
        lines += _facts(num_frame, num_body, missing, skeleton, rate)
    return Summary(lines)


def _heading(what: str, num_clip: int, skeleton: Skeleton, rate: float | None) -> str:
    speed = "frame rate not known" if rate is None else f"{rate:g} frames a second"
    plural = "s" if num_clip != 1 else ""
    return f"{what}: {num_clip} clip{plural}, {skeleton.name} ({skeleton.num_joint} joints), {speed}"


def _facts(
    num_frame: np.ndarray, num_body: np.ndarray, missing: Missing, skeleton: Skeleton, rate: float | None
) -> list[str]:
    """Lines on lengths (N,), numbers of bodies (N,) and missing joints."""
    lengths = [num_frame.min(), np.median(num_frame), num_frame.max()]
    seconds = "" if rate is None else " ({} s)".format(", ".join(f"{n / rate:.1f}" for n in lengths))
    bodies = ", ".join(f"{m}: {n}" for m, n in zip(*np.unique(num_body, return_counts=True), strict=True))
    of_joint = missing.of_joint / max(missing.num_pose - missing.absent, 1)
    worst = [j for j in np.argsort(-of_joint, kind="stable")[:MOST_JOINTS] if of_joint[j] >= LEAST_SHARE]
    named = ", ".join(f"{skeleton.joints[j]} {of_joint[j]:.1%}" for j in worst)
    return [
        "frames:   min {:g}, median {:g}, max {:g}".format(*lengths) + seconds,
        f"bodies:   clips by their number {bodies}",
        f"absent:   {missing.absent / missing.num_pose:.1%} of all poses have no joint: the body is absent",
        f"missing:  {missing.share:.1%} of the joints of the others" + (f"; most: {named}" if named else ""),
    ]
