"""Reads OpenPose's output (a JSON file for each frame) and files of Kinetics-skeleton, which OpenPose made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feeder.recordings.detections import content_of, number_frames, poses_of
from feeder.recordings.json_files import read_json
from feeder.recordings.reading import Content, ReadOptions
from feeder.recordings.recording import RecordingError

KEYPOINTS = "pose_keypoints_2d"
# To recognise a folder: bytes that are read of a file, and number of files.
NUM_BYTE, NUM_FILE = 1024, 3


def is_openpose_folder(folder: Path, names: Sequence[str]) -> bool:
    """Whether one of the first files of a folder is a frame of OpenPose; `names` are those of all its files."""
    frames = sorted(name for name in names if name.lower().endswith(".json"))[:NUM_FILE]
    return any(_is_frame(folder / name) for name in frames)


def _is_frame(path: Path) -> bool:
    if not path.is_file():
        return False  # reading a pipe would wait for a writer
    try:
        with path.open("rb") as file:
            return b'"people"' in file.read(NUM_BYTE)
    except OSError:
        return False


def read_folder(folder: Path, options: ReadOptions) -> Content:
    """The content of a folder of frames, in the order of the numbers in their names; missing frames are empty.

    Raises:
        RecordingError: a file is damaged, frames have different numbers of joints, or no frame has a body.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json")
    number, assumptions = number_frames([path.stem for path in paths])
    rows: list[list[Any]] = []
    num_body = np.zeros(max(number) + 1, np.int64)
    for place in np.argsort(number):
        try:
            people = _people(read_json(paths[place]))
        except RecordingError as error:
            raise RecordingError(error.line, f"{paths[place].name}: {error.reason}") from None
        rows += people
        num_body[number[place]] = len(people)
    return content_of(poses_of(rows), num_body, options, assumptions=assumptions)


def read_frame(content: Any, options: ReadOptions) -> Content:
    """The content of a single frame. Raises RecordingError as `read_folder` does."""
    people = _people(content)
    return content_of(poses_of(people), np.array([len(people)]), options)


def _people(content: Any) -> list[list[Any]]:
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise RecordingError(None, 'not an object with a list "people"')
    found = [each.get(KEYPOINTS) if isinstance(each, dict) else None for each in people]
    if any(not isinstance(row, list) for row in found):
        raise RecordingError(None, f'a person has no list "{KEYPOINTS}"')
    return [row for row in found if row]  # an empty list: only the face or hands of this person were detected


def read_kinetics(content: Any, options: ReadOptions) -> Content:
    """The content of a file of Kinetics-skeleton: `data[].skeleton[]` with `pose`, x y of each joint, and `score`.

    Raises:
        RecordingError: another form, or no frame has a body.
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
    return content_of(poses_of(rows), num_body, options)


def _row(person: Any, frame: int) -> list[Any]:
    pose, score = (person.get(key) if isinstance(person, dict) else None for key in ("pose", "score"))
    if not isinstance(pose, list) or not isinstance(score, list) or len(pose) != 2 * len(score):
        raise RecordingError(None, f"a person in frame {frame} does not have two numbers of pose per score")
    return [value for joint in zip(pose[::2], pose[1::2], score, strict=True) for value in joint]
