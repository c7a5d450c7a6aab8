"""Reads people that a pose estimator detected in pictures, one by one and without identity.

A JSON file holds COCO results, AlphaPose's results, MMPose's `instances` of each frame, or what Ultralytics' `to_json`
gives.

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
from feeder.recordings.reading import Content, Unstated
from feeder.recordings.recording import Recording, RecordingError
from net.utils.channels import bodies_there, joints_there
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

CHANNELS = "xyc"
LAYOUTS = {17: ("coco",), 18: ("openpose",), 25: ("body_25", "body_25b"), 33: ("mediapipe",)}
# Whose detection it is, in files of tracked people.
IDENTITIES = ("track_id", "idx")
# Numbers of frames that are not used, for each that is: more, and they number something else.
SPARSE = 100
# No joint is that far outside of a picture.
FAR = 1e6


def is_detections(content: Any) -> bool:
    """Whether the content of a JSON file is one of the forms that are read here."""
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


def read_detections(content: Any, unstated: Unstated) -> Content:
    """The content of a JSON file of detections.

    Raises:
        RecordingError: another form, joints of no known layout, or nobody in any frame.
    """
    frames, said = _frames_of(content)
    flat = [each for frame in frames for each in frame]
    for number, each in enumerate(flat):
        if not isinstance(each, dict) or not isinstance(each.get("keypoints"), (list, dict)):
            raise RecordingError(None, f'detection {number} has no "keypoints"')
    return content_of(
        poses_of([_numbers_of(each, number) for number, each in enumerate(flat)]),
        np.array([len(frame) for frame in frames]),
        unstated,
        identity=_identities(flat),
        said=said,
    )


def _frames_of(content: Any) -> tuple[list[list[Any]], tuple[str, ...]]:
    """The detections of each frame."""
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
    """Items by the numbers of their frames, an empty list for a frame that there is none of."""
    number, said = number_frames(names)
    frames: list[list[Any]] = [[] for _ in range(max(number) + 1)]
    for place, item in zip(number, items, strict=True):
        frames[place] = item
    return frames, said


def number_frames(names: Sequence[Any]) -> tuple[list[int], tuple[str, ...]]:
    """The frame of each picture, counted from 0, by the last number in its name; in the order of names without numbers.

    Steps that all numbers have in common are one frame.

    Raises:
        RecordingError: there is no picture, two have one number, or the numbers are no frames.
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
            f"{len(numbers)} pictures are numbered from {first} to {max(numbers)}; those are no frames of a video",
        )
    said = (
        (f"pictures are numbered in steps of {step}: taken to be one frame after the other",)
        if step > 1
        else ()
    )
    return [(number - first) // step for number in numbers], said


def _numbers_of(detection: dict[str, Any], number: int) -> list[Any]:
    """x, y, confidence of all joints of a detection, one after the other."""
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
        raise RecordingError(None, f"detection {number} has not as many x, y and confidences")
    return [value for joint in zip(*parts, strict=True) for value in joint]


def poses_of(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """Poses (B, V, 3) float32 of rows of x, y, confidence of all joints; zeros for a joint that was not seen.

    Confidence above 1, as some estimators give it, is 1.

    Raises:
        RecordingError: rows of different lengths, or of anything but numbers.
    """
    if not rows:
        raise RecordingError(None, "nobody in any frame")
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
    """(B,) whose each detection is, by first appearance, where all say so."""
    for key in IDENTITIES:
        if all(type(each.get(key)) is int for each in detections):
            number: dict[int, int] = {}
            return np.array([number.setdefault(each[key], len(number)) for each in detections])
    return None


def content_of(
    poses: np.ndarray,
    num_body: np.ndarray,
    unstated: Unstated,
    *,
    identity: np.ndarray | None = None,
    said: tuple[str, ...] = (),
) -> Content:
    """The content of detections, linked into tracks, with short gaps filled.

    Args:
        poses: (B, V, 3), frame by frame, see `poses_of`.
        num_body: (T,), detections in each frame.
        unstated: what the file does not say.
        identity: (B,) whose each is; None where nobody said, or a number is twice in a frame.
        said: what was taken for granted so far.

    Raises:
        RecordingError: joints of no known layout, or nobody in any frame.
    """
    there = bodies_there(poses)
    if not there.any():
        raise RecordingError(None, "nobody in any frame")
    layout, told = _layout_of(poses[there], unstated)
    frame = np.repeat(np.arange(len(num_body)), num_body)[there]
    poses, unit = place_in_picture(poses[there], unstated.picture)
    num_body = np.bincount(frame, minlength=len(num_body))
    if identity is not None:
        identity = identity[there]
        if len(np.unique(np.stack((frame, identity)), axis=1).T) < len(frame):
            identity = None
    if identity is None:
        body = link(poses, num_body, unstated.limits, num_coordinate=2)
    else:
        _, first, inverse = np.unique(identity, return_index=True, return_inverse=True)
        body = np.argsort(np.argsort(first))[inverse]
    recording, gaps = fill_gaps(Recording(num_body, body, poses, CHANNELS), joints_there(poses), unstated.gap)
    return Content(recording, layout, unit, gaps, (*said, *told))


def _layout_of(poses: np.ndarray, unstated: Unstated) -> tuple[str | None, tuple[str, ...]]:
    """The layout of detections (B, V, 3), None where the user names it; and a sentence where it was recognised."""
    num_joint = poses.shape[1]
    if unstated.stated:
        if unstated.skeleton.num_joint != num_joint:
            raise RecordingError(
                None,
                f"{num_joint} joints; layout {unstated.skeleton.name!r} has {unstated.skeleton.num_joint}",
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
    """Mean length of the bones that are seen, over all poses (B, V, 3); 0 where none is."""
    joint, parent = np.array(skeleton.bones).T
    both = joints_there(poses[:, joint]) & joints_there(poses[:, parent])
    length = np.linalg.norm(poses[:, joint, :2] - poses[:, parent, :2], axis=-1)
    return float((length * both).sum() / max(both.sum(), 1))
