"""Reads sequences of PKU-MMD, and cuts out the clips in their label files.

`feeder.recordings.pku` reads the skeleton files. A label file has a row per clip: action, first frame, last frame,
confidence. The confidence is not used, and may be missing. Frames count from 1, and the last frame belongs to the
clip, as in AimCLR (Guo et al., AAAI 2022) for its data of 50 frames. Other projects count from 0, or leave out the last
frame.
"""

import codecs
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen.pku_labels import ACTIONS
from data_gen.sources.source import Problem, problem_of
from feeder.recordings.ntu import read_number
from feeder.recordings.pku import CHOICES, parse_poses
from feeder.recordings.recording import Recording, RecordingError


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


def parse_label(text: bytes, line: int) -> Label:
    """A row of a label file.

    Raises:
        RecordingError: the row is not 3 or 4 numbers, there is no such action, or the clip ends before it begins.
    """
    words = text.split(b",") if b"," in text else text.split()
    if len(words) not in (3, 4):
        raise RecordingError(
            line, f"{len(words)} values; a label is action, first frame, last frame, confidence"
        )
    numbers = [read_number(word.strip(), line) for word in words]
    if any(number % 1 for number in numbers[:3]):
        raise RecordingError(line, "action, first frame and last frame are not whole numbers")
    action, first, last = map(int, numbers[:3])
    if not 1 <= action <= len(ACTIONS):
        raise RecordingError(line, f"action {action}; actions are 1 to {len(ACTIONS)}")
    if last < first:
        raise RecordingError(line, f"the clip ends in frame {last}, before its first, {first}")
    return Label(line, action, first, last)


def cut(poses: np.ndarray, label: Label, *, bodies: str) -> np.ndarray:
    """Tracks (M, T', V, 3) of one label, from poses (T, 2, V, 3), without bodies that are absent from all frames.

    Frames outside the sequence are left out.

    Raises:
        RecordingError: no frame is left, or no frame has a body.
    """
    clip = poses[max(label.first, 1) - 1 : max(label.last, 0)]
    if len(clip) == 0:
        raise RecordingError(
            label.line, f"frames {label.first} to {label.last} lie outside the sequence's {len(poses)}"
        )
    try:
        return CHOICES[bodies](Recording.of_tracks(clip.swapaxes(0, 1)).part(0, len(clip)))
    except RecordingError:
        raise RecordingError(
            label.line, f"none of the frames {label.first} to {label.last} has a body"
        ) from None


def read_sequence(paths: tuple[Path, Path], *, bodies: str) -> tuple[list[Clip], list[Problem]]:
    """Clips of a sequence and problems, from the paths of its skeleton file and its label file.

    A label that goes past the end of the sequence gives a shorter clip and a problem. Other problems give no clip.
    """
    skeleton_path, label_path = paths
    try:
        poses = parse_poses(skeleton_path.read_bytes())
    except (RecordingError, OSError) as error:
        return [], [problem_of(skeleton_path, error)]
    try:
        rows = label_path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except OSError as error:
        return [], [problem_of(label_path, error)]

    clips: list[Clip] = []
    problems: list[Problem] = []
    for line, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            label = parse_label(row, line)
            clips.append(Clip(line, label.action, cut(poses, label, bodies=bodies)))
        except RecordingError as error:
            problems.append(problem_of(label_path, error))
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
