"""Reads what OpenPose writes, a JSON file for each frame, and recordings of Kinetics-skeleton, which it made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feeder.recordings.detections import content_of, number_frames, poses_of
from feeder.recordings.reading import Content, Unstated
from feeder.recordings.recording import RecordingError
from feeder.recordings.ucla import read_json

KEYPOINTS = "pose_keypoints_2d"
# Bytes at the begin of a file that show what it is, and files of a folder that are looked at.
PEEK, LOOKED_AT = 1024, 3


def is_openpose_folder(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder's files, by their names, are frames of OpenPose."""
    frames = sorted(name for name in names if name.lower().endswith(".json"))[:LOOKED_AT]
    return any(_is_frame(folder / name) for name in frames)


def _is_frame(path: Path) -> bool:
    if not path.is_file():
        return False  # a pipe would wait for somebody who writes
    try:
        with path.open("rb") as file:
            return b'"people"' in file.read(PEEK)
    except OSError:
        return False


def read_folder(folder: Path, unstated: Unstated) -> Content:
    """The content of a folder of frames, in the order of the numbers in their names; frames that are missing are empty.

    Raises:
        RecordingError: a file is damaged, frames have different numbers of joints, or nobody is in any.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json")
    number, said = number_frames([path.stem for path in paths])
    rows: list[list[Any]] = []
    num_body = np.zeros(max(number) + 1, np.int64)
    for place in np.argsort(number):
        try:
            people = _people(read_json(paths[place]))
        except RecordingError as error:
            raise RecordingError(error.line, f"{paths[place].name}: {error.reason}") from None
        rows += people
        num_body[number[place]] = len(people)
    return content_of(poses_of(rows), num_body, unstated, said=said)


def read_frame(content: Any, unstated: Unstated) -> Content:
    """The content of one frame alone."""
    people = _people(content)
    return content_of(poses_of(people), np.array([len(people)]), unstated)


def _people(content: Any) -> list[list[Any]]:
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise RecordingError(None, 'not an object with a list "people"')
    found = [each.get(KEYPOINTS) if isinstance(each, dict) else None for each in people]
    if any(not isinstance(row, list) for row in found):
        raise RecordingError(None, f'somebody has no list "{KEYPOINTS}"')
    return [row for row in found if row]  # an empty list is a person of whom face or hands alone are known


def read_kinetics(content: Any, unstated: Unstated) -> Content:
    """The content of a file of Kinetics-skeleton: `data[].skeleton[]` with `pose`, x y of each joint, and `score`.

    Raises:
        RecordingError: another form, or nobody in any frame.
    """
    data = content["data"]
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise RecordingError(None, '"data" is not a list of frames')
    index = [each.get("frame_index", place + 1) for place, each in enumerate(data)]
    if not all(type(each) is int for each in index):
        raise RecordingError(None, "a frame_index is not a whole number")
    number, _ = number_frames(index)
    rows: list[list[Any]] = []
    num_body = np.zeros(max(number) + 1, np.int64)
    for place in np.argsort(number):
        people = data[place].get("skeleton", [])
        if not isinstance(people, list):
            raise RecordingError(None, f"frame {index[place]} has no list of skeletons")
        rows += [_row(each, index[place]) for each in people]
        num_body[number[place]] = len(people)
    return content_of(poses_of(rows), num_body, unstated)


def _row(person: Any, frame: int) -> list[Any]:
    pose, score = (person.get(key) if isinstance(person, dict) else None for key in ("pose", "score"))
    if not isinstance(pose, list) or not isinstance(score, list) or len(pose) != 2 * len(score):
        raise RecordingError(None, f"somebody in frame {frame} has not two numbers of pose to each of score")
    return [value for joint in zip(pose[::2], pose[1::2], score, strict=True) for value in joint]
