"""Reads sequences of PKU-MMD, and cuts the clips out that their label files name.

A skeleton file has a row per frame: x, y, z in metres of the 25 joints of one body, then of another, zeros for
a body that is absent. A label file has a row per clip: action, first frame, last frame, confidence; the
confidence is not used, and some rows are without. Frames count from 1, and the last one belongs to the clip, as
AimCLR (Guo et al., AAAI 2022) reads them for its data of 50 frames; others count from 0, or leave the last out.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen import tracks
from data_gen.ntu_skeleton import NUM_JOINT, Recording, SkeletonError, read_number
from data_gen.pku_labels import ACTIONS

NUM_BODY = 2
NUM_VALUE = NUM_BODY * NUM_JOINT * 3
# There are no ids to follow a body by, and no more than two bodies to choose from: what is left is their order.
CHOICES = {name: tracks.CHOICES[name] for name in ("energy", "first")}


class Label(NamedTuple):
    """A row of a label file: line, action (1 on), first and last frame (1 on, both in the clip)."""

    line: int
    action: int
    first: int
    last: int


class Clip(NamedTuple):
    """A clip of a sequence: line of its label, action (1 on), tracks (M, T, V, 3) float32."""

    line: int
    action: int
    tracks: np.ndarray


class Problem(NamedTuple):
    """What `data_gen.report` says of a file."""

    file: Path
    line: int | None
    reason: str
    mended: bool = False


def parse_poses(data: bytes) -> np.ndarray:
    """Poses (T, 2, 25, 3) float32 of the content of a skeleton file.

    Raises:
        SkeletonError: no rows, or one that is not of 150 finite numbers.
    """
    data = data.rstrip()
    if not data:
        raise SkeletonError(None, "no frames")
    try:
        rows = np.loadtxt(io.BytesIO(data), np.float32, comments=None, ndmin=2)
        # Empty lines are passed over, which would shift the frames behind them.
        regular = rows.shape == (data.count(b"\n") + 1, NUM_VALUE) and np.isfinite(rows).all()
    except ValueError:
        regular = False
    if not regular:
        rows = _parse_by_line(data)
    return rows.reshape(-1, NUM_BODY, NUM_JOINT, 3)


def _parse_by_line(data: bytes) -> np.ndarray:
    """`parse_poses`, line by line: slow, but knows which line is wrong and takes any line ends."""
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split()
        if len(words) != NUM_VALUE:
            raise SkeletonError(number, f"{len(words)} values; a frame has {NUM_VALUE}")
        rows.append([read_number(word, number) for word in words])
    return np.array(rows, np.float32)


def parse_label(text: bytes, line: int) -> Label:
    """A row of a label file.

    Raises:
        SkeletonError: it is not of 3 or 4 numbers, there is no such action, or it ends before it begins.
    """
    words = text.split(b",") if b"," in text else text.split()
    if len(words) not in (3, 4):
        raise SkeletonError(
            line, f"{len(words)} values; a label is action, first frame, last frame, confidence"
        )
    numbers = [read_number(word.strip(), line) for word in words]
    if any(number % 1 for number in numbers[:3]):
        raise SkeletonError(line, "action, first frame and last frame are not whole numbers")
    action, first, last = map(int, numbers[:3])
    if not 1 <= action <= len(ACTIONS):
        raise SkeletonError(line, f"action {action}; actions are 1 to {len(ACTIONS)}")
    if last < first:
        raise SkeletonError(line, f"the clip ends in frame {last}, before its first, {first}")
    return Label(line, action, first, last)


def cut(poses: np.ndarray, label: Label, *, bodies: str) -> np.ndarray:
    """Tracks (M, T', V, 3) of one label, out of poses (T, 2, V, 3); bodies absent from all of it are left out.

    Frames that the sequence does not have are left out too.

    Raises:
        SkeletonError: no frame is left, or none with a body.
    """
    clip = poses[max(label.first, 1) - 1 : max(label.last, 0)]
    if len(clip) == 0:
        raise SkeletonError(
            label.line, f"frames {label.first} to {label.last} lie outside the sequence's {len(poses)}"
        )
    clip = clip[:, clip.any((0, 2, 3))]
    num_frame, num_body = clip.shape[:2]
    if num_body == 0:
        raise SkeletonError(label.line, f"none of the frames {label.first} to {label.last} has a body")
    recording = Recording(
        num_body=np.full(num_frame, num_body),
        body=np.tile(np.arange(num_body), num_frame),
        joints=clip.reshape(-1, NUM_JOINT, 3),
    )
    return CHOICES[bodies](recording)


def read_sequence(paths: tuple[Path, Path], *, bodies: str) -> tuple[list[Clip], list[Problem]]:
    """Clips of a sequence, by its skeleton file and its label file, and what is wrong with the files.

    A label that runs past the sequence gives a shorter clip and a problem; any other problem, no clip.
    """
    skeleton_path, label_path = paths
    try:
        poses = parse_poses(skeleton_path.read_bytes())
    except SkeletonError as error:
        return [], [Problem(skeleton_path, error.line, error.reason)]
    except OSError as error:
        return [], [Problem(skeleton_path, None, error.strerror or str(error))]
    try:
        rows = label_path.read_bytes().splitlines()
    except OSError as error:
        return [], [Problem(label_path, None, error.strerror or str(error))]

    clips: list[Clip] = []
    problems: list[Problem] = []
    for line, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            label = parse_label(row, line)
            clips.append(Clip(line, label.action, cut(poses, label, bodies=bodies)))
        except SkeletonError as error:
            problems.append(Problem(label_path, error.line, error.reason))
            continue
        if label.first < 1 or label.last > len(poses):
            problems.append(
                Problem(
                    label_path,
                    line,
                    f"frames {label.first} to {label.last} were cut to those of the sequence, 1 to {len(poses)}",
                    mended=True,
                )
            )
    if not clips and not problems:
        problems.append(Problem(label_path, None, "no labels"))
    return clips, problems
