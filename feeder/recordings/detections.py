"""Reads JSON files of people that a pose estimator detected in each frame.

A file holds results of COCO or AlphaPose, MMPose's `instances` of each frame, or the output of Ultralytics' `to_json`.

T frames, V joints, B detections in all frames; each joint is x, y in the picture and a confidence.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from feeder.recordings.gaps import fill_gaps
from feeder.recordings.linking import link
from feeder.recordings.picture import place_in_picture
from feeder.recordings.reading import Content, ReadOptions
from feeder.recordings.recording import Recording, RecordingError
from net.utils.channels import bodies_there, joints_there
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

CHANNELS = "xyc"
LAYOUTS = {17: ("coco",), 18: ("openpose",), 25: ("body_25", "body_25b"), 33: ("mediapipe",)}
# Keys of a person's number, in files of tracked people.
IDENTITIES = ("track_id", "idx")
# If fewer than one in this many frame numbers are used, the numbers are not those of frames.
SPARSE = 100
# Largest distance of a joint from the corner of the picture, in pixels.
FAR = 1e6


def is_detections(content: Any) -> bool:
    """Whether the content of a JSON file has one of the forms that `read_detections` reads."""
    if isinstance(content, dict):
        return "instance_info" in content or (
            bool(content)
            and all(isinstance(value, list) for value in content.values())
            and _has_dict(content.values())
        )
    if not isinstance(content, list) or not content:
        return False
    return isinstance(content[0], dict) or _has_dict(content) or all(each == [] for each in content)


def _has_dict(lists: Iterable[Any]) -> bool:
    return any(isinstance(each, dict) for some in lists if isinstance(some, list) for each in some)


def read_detections(content: Any, options: ReadOptions) -> Content:
    """The content of a JSON file of detections.

    Raises:
        RecordingError: another form, joints of no known layout, or no body in any frame.
    """
    frames, assumptions = _frames_of(content)
    flat = [each for frame in frames for each in frame]
    for number, each in enumerate(flat):
        if not isinstance(each, dict) or not isinstance(each.get("keypoints"), (list, dict)):
            raise RecordingError(None, f'detection {number} has no "keypoints"')
    return content_of(
        poses_of([_numbers_of(each, number) for number, each in enumerate(flat)]),
        np.array([len(frame) for frame in frames]),
        options,
        identity=_identities(flat),
        assumptions=assumptions,
    )


def _frames_of(content: Any) -> tuple[list[list[Any]], tuple[str, ...]]:
    """The detections of each frame, and what was assumed."""
    if isinstance(content, dict) and "instance_info" in content:
        content = content["instance_info"]
    if isinstance(content, dict):  # picture: its detections
        if not all(isinstance(each, list) for each in content.values()):
            raise RecordingError(None, "a picture has no list of detections")
        return _in_order(list(content), list(content.values()))
    if not isinstance(content, list):
        raise RecordingError(None, "no list of detections")
    if any(isinstance(each, dict) and "instances" in each for each in content):
        content = [each.get("instances") if isinstance(each, dict) else each for each in content]
    if all(isinstance(each, list) for each in content):
        return content, ()
    if any(not isinstance(each, dict) for each in content):
        raise RecordingError(None, "a list of detections and of something else")
    if not all("image_id" in each for each in content):
        return [content], ("detections without image_id are taken to be of one frame",)
    pictures: dict[Any, list[Any]] = {}
    for each in content:
        if not isinstance(each["image_id"], (str, int)):
            raise RecordingError(
                None, f"image_id {each['image_id']!r:.80} is neither a whole number nor text"
            )
        pictures.setdefault(each["image_id"], []).append(each)
    return _in_order(list(pictures), list(pictures.values()))


def _in_order(names: Sequence[Any], items: Sequence[list[Any]]) -> tuple[list[list[Any]], tuple[str, ...]]:
    """The item of each frame, an empty list for a missing frame; and what was assumed."""
    number, assumptions = number_frames(names)
    frames: list[list[Any]] = [[] for _ in range(max(number) + 1)]
    for place, item in zip(number, items, strict=True):
        frames[place] = item
    return frames, assumptions


def number_frames(names: Sequence[Any]) -> tuple[list[int], tuple[str, ...]]:
    """The frame of each picture, counted from 0, and what was assumed.

    The last number in a picture's name gives its frame. If all numbers are multiples of a step (from the first one),
    this step is one frame. If a name has no number, pictures are in the order of their names.

    Raises:
        RecordingError: there is no picture, two pictures have one number, or the numbers are not those of frames.
    """
    if not names:
        raise RecordingError(None, "no frames")
    found = [re.findall(r"\d+", str(name)) for name in names]
    if not all(found):
        order = sorted(range(len(names)), key=lambda place: str(names[place]))
        return np.argsort(order).tolist(), ()
    numbers = [int(digits[-1]) for digits in found]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise RecordingError(None, f"two pictures have number {twice}")
    first = min(numbers)
    step = math.gcd(*(number - first for number in numbers)) or 1
    count = (max(numbers) - first) // step + 1
    if count > SPARSE * len(numbers):
        raise RecordingError(
            None,
            f"{len(numbers)} pictures are numbered from {first} to {max(numbers)}; these are not frames of a video",
        )
    assumptions = (
        (f"pictures are numbered in steps of {step}: taken to be one frame after the other",)
        if step > 1
        else ()
    )
    return [(number - first) // step for number in numbers], assumptions


def _numbers_of(detection: dict[str, Any], number: int) -> list[Any]:
    """x, y, confidence of all joints of a detection, as one list."""
    points = detection["keypoints"]
    if isinstance(points, dict):  # Ultralytics
        x, y = (points.get(key) for key in ("x", "y"))
        parts = [x, y, points.get("visible", [1.0] * len(x) if isinstance(x, list) else None)]
    elif points and isinstance(points[0], list):  # MMPose
        scores = detection.get("keypoint_scores")
        width = {len(point) if isinstance(point, list) else 0 for point in points}
        if width == {3} and scores is None:
            return [value for point in points for value in point]
        if width != {2}:
            raise RecordingError(
                None,
                f"a joint of detection {number} is not x and y; give poses in space as an array (.npy, .json)",
            )
        parts = [[point[0] for point in points], [point[1] for point in points]]
        parts.append([1.0] * len(points) if scores is None else scores)
    else:
        return points
    if len({len(part) if isinstance(part, list) else number for number, part in enumerate(parts, -3)}) != 1:
        raise RecordingError(None, f"detection {number} has different numbers of x, y and confidences")
    return [value for joint in zip(*parts, strict=True) for value in joint]


def poses_of(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """Poses (B, V, 3) float32 from B rows of x, y, confidence of all joints; joints that were not seen are zeros.

    Some estimators give a confidence above 1; it becomes 1.

    Raises:
        RecordingError: there are no rows, they differ in length, or they hold anything but numbers.
    """
    if not rows:
        raise RecordingError(None, "no frame has a body")
    width = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != width or not width or width % 3:
            other = "" if width == len(row) else f", those before {width}"
            raise RecordingError(None, f"detection {number} has {len(row)} numbers{other}; a joint has 3")
    try:
        with np.errstate(over="ignore"):
            values = np.array(rows, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise RecordingError(None, "a joint is not three numbers") from None
    if values.ndim != 2:
        raise RecordingError(None, "a joint is not three numbers")
    poses: np.ndarray = values.reshape(len(rows), -1, 3)
    seen = ~np.isnan(poses).any(-1) & joints_there(poses[..., :2]) & (poses[..., 2] > 0)
    poses = np.where(seen[..., None], poses, np.float32(0))
    farthest = np.abs(poses[..., :2]).max()
    if farthest > FAR:
        raise RecordingError(None, f"a coordinate is {farthest:g}, outside of any picture")
    poses[..., 2] = poses[..., 2].clip(max=1)
    return poses


def _identities(detections: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """(B,) number of each detection's person, in order of first appearance; None if a detection has no number."""
    for key in IDENTITIES:
        if all(type(each.get(key)) is int for each in detections):
            number: dict[int, int] = {}
            return np.array([number.setdefault(each[key], len(number)) for each in detections])
    return None


def content_of(
    poses: np.ndarray,
    num_body: np.ndarray,
    options: ReadOptions,
    *,
    identity: np.ndarray | None = None,
    assumptions: tuple[str, ...] = (),
) -> Content:
    """The content of detections, linked into tracks, with short gaps filled.

    Args:
        poses: (B, V, 3), frame by frame, see `poses_of`.
        num_body: (T,), detections in each frame.
        options: facts that the file does not state.
        identity: (B,) number of each detection's person; None to link the detections by their poses. It is not used
            if a number is twice in a frame.
        assumptions: what was assumed so far.

    Raises:
        RecordingError: joints of no known layout, or no body in any frame.
    """
    there = bodies_there(poses)
    if not there.any():
        raise RecordingError(None, "no frame has a body")
    layout, assumed_layout = _layout_of(poses[there], options)
    frame = np.repeat(np.arange(len(num_body)), num_body)[there]
    poses, unit = place_in_picture(poses[there], options.picture)
    num_body = np.bincount(frame, minlength=len(num_body))
    if identity is not None:
        identity = identity[there]
        if len(np.unique(np.stack((frame, identity)), axis=1).T) < len(frame):
            identity = None
    if identity is None:
        body = link(poses, num_body, options.limits, num_coordinate=2)
    else:
        _, first, inverse = np.unique(identity, return_index=True, return_inverse=True)
        body = np.argsort(np.argsort(first))[inverse]
    recording, gaps = fill_gaps(Recording(num_body, body, poses, CHANNELS), joints_there(poses), options.gap)
    return Content(recording, layout, unit, gaps, (*assumptions, *assumed_layout))


def _layout_of(poses: np.ndarray, options: ReadOptions) -> tuple[str | None, tuple[str, ...]]:
    """The layout of detections (B, V, 3), None if the user gave it; and a sentence about it if it was guessed."""
    num_joint = poses.shape[1]
    if options.layout_given:
        if options.skeleton.num_joint != num_joint:
            raise RecordingError(
                None,
                f"{num_joint} joints; layout {options.skeleton.name!r} has {options.skeleton.num_joint}",
            )
        return None, ()
    if num_joint not in LAYOUTS:
        known = ", ".join(f"{count} ({' or '.join(names)})" for count, names in LAYOUTS.items())
        raise RecordingError(None, f"{num_joint} joints; known are {known}; name others with --layout")
    names = LAYOUTS[num_joint]
    if len(names) == 1:
        return names[0], ()
    shortest = min(names, key=lambda name: _bone_length(poses, get_skeleton(name)))
    return shortest, (f"{num_joint} joints are taken to be those of {shortest}, by the lengths of bones",)


def _bone_length(poses: np.ndarray, skeleton: Skeleton) -> float:
    """Mean length of the bones that are seen in poses (B, V, 3); 0 if no bone is seen."""
    joint, parent = np.array(skeleton.bones).T
    both = joints_there(poses[:, joint]) & joints_there(poses[:, parent])
    length = np.linalg.norm(poses[:, joint, :2] - poses[:, parent, :2], axis=-1)
    return float((length * both).sum() / max(both.sum(), 1))
