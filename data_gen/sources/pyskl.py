"""PYSKL's and MMAction2's pickles: all clips of a data set, with their splits, in one file.

{"split": {name: [frame_dir, ...]}, "annotations": [annotation, ...]}, or the bare list of annotations. An annotation
is {"frame_dir", "label", "keypoint" (M, T, V, C)}, and in 2-D "keypoint_score" (M, T, V), "img_shape" (height, width).
"""

import re
import reprlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.sources.names import class_names_of, keys_of
from data_gen.sources.source import Clip, Entry, Kept, Problem, Source, Splits, problem_of
from feeder.plain_pickle import load_plain_pickle
from feeder.prepared import MAX_CLASS, NO_LABEL, PARTS
from feeder.recordings.picture import to_picture
from feeder.recordings.recording import RecordingError, refuse_other_units

# The default layout by the channels and the number of joints.
LAYOUTS = {("xyz", 25): "ntu-rgb+d", ("xyz", 20): "kinect-v1", ("xy", 17): "coco", ("xy", 18): "openpose"}
# As in xsub_train, xsub_val, train, train1, test1.
SPLIT_NAME = re.compile(r"(?P<benchmark>.*?)[_-]?(?P<part>train|val|test)(?P<number>\d*)")
WITHOUT_SPLITS = "all"


class PysklSource(Source):
    """The clips of a pickle, which is read whole; it cannot run code.

    Args:
        file: the pickle.
        layout: of the joints; None: the default for the joints and channels of the first clip.
        class_names: in order of labels; None: those of a known data set, or numbers.
        frame_rate: frames per second, which the file does not state.

    Raises:
        ValueError: the pickle has another form, or its layout is not known.
        OSError: the file cannot be read.
    """

    bodies = "as given"

    def __init__(
        self, file: Path, *, layout: str | None, class_names: Sequence[str] | None, frame_rate: float
    ) -> None:
        content = load_plain_pickle(file)
        annotations = content.get("annotations") if isinstance(content, dict) else content
        if not isinstance(annotations, list) or not annotations:
            raise ValueError(
                f"{file} holds no list of annotations; give a dict with 'split' and 'annotations', or the bare list, "
                "as PYSKL and MMAction2 write them"
            )
        self.annotations = annotations
        self.file, self.source, self.frame_rate = file, str(file), frame_rate
        self.default_out = Path("data", f"{file.stem}.h5")
        self.num_item = len(annotations)
        first = next(filter(_has_poses, annotations), None)
        if first is None:
            raise ValueError(
                f"no annotation of {file} has 'keypoint', an array (bodies, frames, joints, x y z or x y)"
            )
        self.channels, self.unit = _kind_of(first)
        self.layout = layout or _default_layout(file, self.channels, first["keypoint"].shape[2])
        if self.skeleton.num_joint != first["keypoint"].shape[2]:
            raise ValueError(
                f"layout {self.layout!r} has {self.skeleton.num_joint} joints, the first clip of {file} has "
                f"{first['keypoint'].shape[2]}; give another --layout"
            )
        self.names = [each.get("frame_dir") if isinstance(each, dict) else None for each in annotations]
        texts = [name for name in self.names if isinstance(name, str)]
        keys = keys_of(texts)
        self.keys = dict(zip(texts, keys, strict=True))
        labels = [_label_of(each) for each in annotations]
        num_class = 1 + max((label for label in labels if label is not None), default=NO_LABEL)
        self.class_names = class_names or class_names_of(texts, num_class)
        self.parts, self.problems = self._read_splits(content, set(texts))

    def entries(self, num_worker: int) -> Generator[Sequence[Entry], None, None]:
        """See `Source.entries`."""
        for number, annotation in enumerate(self.annotations):
            name = self.names[number]
            where = f"{self.file}: {name if isinstance(name, str) else f'annotation {number}'}"
            try:
                if not isinstance(name, str) or not name:
                    raise RecordingError(None, "'frame_dir', the clip's name, is missing or no text")
                yield [Clip(name, self._label(annotation), self._tracks(annotation), self.keys[name])]
            except RecordingError as error:
                yield [problem_of(where, error)]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        place = {clip.name: index for index, clip in enumerate(kept)}
        if not self.parts:
            return {WITHOUT_SPLITS: {"train": range(len(kept)), "val": ()}}
        return {
            benchmark: {
                part: [place[name] for name in names if name in place] for part, names in parts.items()
            }
            for benchmark, parts in self.parts.items()
        }

    def _label(self, annotation: Mapping[str, Any]) -> int:
        label = _label_of(annotation)
        if label is None or label >= len(self.class_names):
            raise RecordingError(
                None,
                f"label {_shown(annotation.get('label'))} is not a whole number from 0, below the number of classes",
            )
        return label

    def _tracks(self, annotation: Mapping[str, Any]) -> np.ndarray:
        """Tracks (M, T, V, C) float32 of an annotation, without empty bodies at the end."""
        if not _has_poses(annotation):
            raise RecordingError(
                None, "'keypoint' is missing, or no array (bodies, frames, joints, x y z or x y)"
            )
        poses = annotation["keypoint"]
        channels, unit = _kind_of(annotation)
        if channels != self.channels or (unit == "px") != (self.unit == "px"):
            raise RecordingError(
                None,
                f"channels {channels} in unit {unit}, but {self.channels} in {self.unit} in the first clip; all clips "
                "of a file have the same",
            )
        if poses.shape[2] != self.skeleton.num_joint:
            raise RecordingError(
                None, f"{poses.shape[2]} joints; layout {self.layout!r} has {self.skeleton.num_joint}"
            )
        if channels == "xyc":
            score = annotation["keypoint_score"]
            if score.shape != poses.shape[:3]:
                raise RecordingError(
                    None, f"'keypoint_score' has shape {score.shape}; 'keypoint' has {poses.shape}"
                )
            # Some estimators give scores slightly above 1.
            poses = np.concatenate([poses, score[..., None].clip(0, 1)], -1)
        with np.errstate(over="ignore"):
            tracks = np.asarray(poses, np.float32)
        if not np.isfinite(tracks).all():
            raise RecordingError(None, "a coordinate is NaN, infinite or too large")
        size = _size_of(annotation)
        if channels == "xyz":
            refuse_other_units(tracks, "scale them, and write the file again")
        elif size is not None:
            tracks = to_picture(tracks, *size)
        else:
            tracks = tracks * (tracks[..., -1:] != 0) if channels == "xyc" else tracks
        present = np.flatnonzero(tracks.any((1, 2, 3)))
        if len(present) == 0:
            raise RecordingError(None, "no frame has a body")
        return tracks[: present[-1] + 1]

    def _read_splits(
        self, content: Any, names: set[str]
    ) -> tuple[dict[str, dict[str, list[str]]], list[Problem]]:
        """Benchmark -> part -> names of clips; and problems with the splits."""
        given = content.get("split") if isinstance(content, dict) else None
        found: dict[str, dict[str, list[str]]] = {}
        problems: list[Problem] = []
        for name, members in given.items() if isinstance(given, dict) else ():
            match = SPLIT_NAME.fullmatch(name) if isinstance(name, str) else None
            if match is None or not isinstance(members, (list, tuple)):
                problems.append(
                    Problem(
                        self.file, None, f"split {_shown(name)} is not a list called like xsub_train or test1"
                    )
                )
                continue
            texts = list(dict.fromkeys(each for each in members if isinstance(each, str)))
            missing = [each for each in texts if each not in names]
            if missing or len(texts) < len(members):
                problems.append(
                    Problem(
                        self.file,
                        None,
                        f"split {name!r} names {len(members) - len(texts) + len(missing)} clips that are not there or "
                        f"named before{f', such as {missing[0]!r:.80}' if missing else ''}",
                    )
                )
            benchmark = f"{match['benchmark'] or 'split'}{match['number']}"
            benchmark = re.sub(r"[^\w-]", "_", benchmark)  # a group of the prepared file is called so
            found.setdefault(benchmark, {})[match["part"]] = [each for each in texts if each in names]
        return self._as_benchmarks(found, problems), problems

    def _as_benchmarks(
        self, found: Mapping[str, Mapping[str, list[str]]], problems: list[Problem]
    ) -> dict[str, dict[str, list[str]]]:
        """Benchmark -> part of `PARTS` -> names of clips.

        The test clips are held out, or the val clips if there are no test clips. If there are both, the val clips are
        held out in a second benchmark, `<name>_val`.
        """
        benchmarks = {}
        for name, parts in found.items():
            held_out = {name: "test" if "test" in parts else "val"}
            if {"val", "test"} <= parts.keys():
                held_out[f"{name}_val"] = "val"
            for benchmark, part in held_out.items():
                train, val = parts.get("train", []), parts.get(part, [])
                both = set(train) & set(val)
                if both:
                    reason = (
                        f"{benchmark!r} has {len(both)} clips in both parts, such as {min(both)!r}; held out"
                    )
                    problems.append(Problem(self.file, None, f"split {reason} they are not trained on"))
                    train = [each for each in train if each not in both]
                benchmarks[benchmark] = dict(zip(PARTS, (train, val), strict=True))
        return benchmarks


def _has_poses(annotation: Any) -> bool:
    """Whether it has an array of poses with 2 or 3 channels, and `keypoint_score` is an array or missing."""
    if not isinstance(annotation, dict):
        return False
    poses: Any = annotation.get("keypoint")
    score = annotation.get("keypoint_score")
    if not _is_numbers(poses) or not (score is None or _is_numbers(score)):
        return False
    return poses.ndim == 4 and poses.shape[3] in (2, 3) and 0 not in poses.shape


def _is_numbers(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiu"


def _kind_of(annotation: Mapping[str, Any]) -> tuple[str, str]:
    """Channels and unit of an annotation."""
    if annotation["keypoint"].shape[3] == 3:
        return "xyz", "m"
    channels = "xy" if annotation.get("keypoint_score") is None else "xyc"
    return channels, "px" if _size_of(annotation) is None else "picture"


def _size_of(annotation: Mapping[str, Any]) -> tuple[float, float] | None:
    """Width and height of the picture; None if `img_shape` is not two numbers."""
    size = annotation.get("img_shape")
    if not isinstance(size, (tuple, list, np.ndarray)):
        return None
    try:
        height, width = map(float, size[:2])
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return width, height


def _label_of(annotation: Any) -> int | None:
    """The label of an annotation, `NO_LABEL` if it has none, None if it is not a class number."""
    label = annotation.get("label") if isinstance(annotation, dict) else None
    if label is None:
        return NO_LABEL
    value = label.item() if isinstance(label, (np.generic, np.ndarray)) and label.size == 1 else label
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_CLASS:
        return None
    return value


def _shown(value: Any) -> str:
    """A value as text, shortened: the text of nested lists that share items grows without bound."""
    return " ".join(reprlib.repr(value).split())[:50]


def _default_layout(file: Path, channels: str, num_joint: int) -> str:
    found = LAYOUTS.get((channels.removesuffix("c"), num_joint))
    if found is None:
        raise ValueError(
            f"{file} has {num_joint} joints of channels {channels}; give their layout with --layout"
        )
    return found
