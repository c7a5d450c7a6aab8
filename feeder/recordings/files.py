"""Finds and reads recordings of all known formats; see `FORMATS`.

Coordinates in space are in metres and right-handed, as Kinect's: x to the picture's left, y up, z away from the camera.
In the picture, x is to the right and y down.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from feeder.prepared import open_prepared, tracks_of
from feeder.recordings import bodies, pku, ucla
from feeder.recordings.array import as_tracks, read_array
from feeder.recordings.bodies import Choice
from feeder.recordings.detections import is_detections, read_detections
from feeder.recordings.gaps import Gaps
from feeder.recordings.json_files import read_json
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.openpose import is_openpose_folder, read_folder, read_frame, read_kinetics
from feeder.recordings.reading import AS_GIVEN, Content, ReadOptions
from feeder.recordings.recording import Recording, RecordingError
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

PREPARED = (".h5", ".hdf5")
MOVING: Mapping[str, Choice] = {"moving": bodies.moving}


class Format(NamedTuple):
    """How files of a format are read.

    read: gives the content of a file; may raise RecordingError or OSError. It takes the path, or the parsed content of
        a JSON file.
    choices: choices of bodies by name, as in `Prepared.attrs`; the first is used for other names.
    layout, frame_rate: of all files of the format; None if not fixed.
    """

    read: Callable[[Any, ReadOptions], Content]
    choices: Mapping[str, Choice]
    layout: str | None = None
    frame_rate: float | None = None


class Recorded(NamedTuple):
    """The result of reading a recording.

    tracks: (M, T, V, C) float32, the chosen bodies of the whole recording.
    recording: all bodies.
    choose: the choice of bodies, for parts of the recording.
    skeleton, frame_rate: as the file states them, or None.
    channels: see `Recording`.
    unit: "m"; in the picture "picture" (from its middle, in its heights) or "px" (from its corner, in pixels).
    gaps: joints that were not seen.
    assumptions: what the reader assumed, one sentence each.
    """

    name: str
    tracks: np.ndarray
    recording: Recording
    choose: Choice
    skeleton: Skeleton | None
    frame_rate: float | None
    channels: str = "xyz"
    unit: str = "m"
    gaps: Gaps = Gaps()
    assumptions: tuple[str, ...] = ()


def _read_ntu(path: Path, options: ReadOptions) -> Content:
    return Content(parse_skeleton(path.read_bytes()))


def _read_pku(path: Path, options: ReadOptions) -> Content:
    return Content(pku.as_recording(pku.parse_poses(path.read_bytes())))


def _read_ucla(content: Any, options: ReadOptions) -> Content:
    return Content(Recording.of_tracks(ucla.poses_of(content)[None]))


ARRAY = Format(read_array, AS_GIVEN)
UCLA = Format(_read_ucla, AS_GIVEN, ucla.LAYOUT, 30.0)
OPENPOSE = Format(read_folder, MOVING)
FORMATS: dict[str, Format] = {
    ".skeleton": Format(_read_ntu, bodies.CHOICES, "ntu-rgb+d", 30.0),
    ".txt": Format(_read_pku, pku.CHOICES, "ntu-rgb+d", 30.0),
    ".npy": ARRAY,
    ".npz": ARRAY,
    ".mat": ARRAY,
    ".csv": ARRAY,
    ".json": ARRAY,
}
# Formats of JSON objects by a key; checked before detections and nested lists.
JSON_KEYS: dict[str, Format] = {
    "skeletons": UCLA,
    "people": Format(read_frame, MOVING),
    "data": Format(read_kinetics, MOVING),
}
DETECTIONS = Format(read_detections, MOVING)


def format_of(path: Path) -> tuple[Format, Any]:
    """The format of a file, and the argument of its reader: the path, or the parsed content of a JSON file.

    Raises:
        RecordingError: the format is not known, the path is not a regular file, or a `.json` file is not JSON.
        OSError: the file cannot be opened.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode) and is_openpose_folder(path, os.listdir(path)):
        return OPENPOSE, path
    if not stat.S_ISREG(mode):
        raise RecordingError(None, "not a regular file")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise RecordingError(None, f"{path.suffix!r} is not one of {', '.join((*FORMATS, *PREPARED))}")
    return _format_of_json(path) if suffix == ".json" else (FORMATS[suffix], path)


def _format_of_json(path: Path) -> tuple[Format, Any]:
    content = read_json(path)
    if isinstance(content, dict):
        for key, kind in JSON_KEYS.items():
            if key in content:
                return kind, content
    if is_detections(content):
        return DETECTIONS, content
    if isinstance(content, dict):
        raise RecordingError(
            None,
            f"an object with {_listed(content)}; known are those with {', '.join(JSON_KEYS)} or instance_info, "
            "and lists of detections by the names of pictures",
        )
    return ARRAY, content


def _listed(content: dict[str, Any]) -> str:
    return shorten(", ".join(content), 80, placeholder=" ...") or "nothing in it"


def find_recordings(path: Path) -> dict[str, Path]:
    """Files of recordings by name: `path` itself, or all files of known formats below a folder, sorted.

    A name is the path below the folder, without the suffix if no other file has that name. A folder of OpenPose's
    frames is one recording.

    Raises:
        FileNotFoundError: there is no recording.
        OSError: a folder cannot be read.
    """
    known = (*FORMATS, *PREPARED)
    if not path.exists():
        raise FileNotFoundError(f"recording {path} not found; give a file ({', '.join(known)}) or a folder")
    if not path.is_dir():
        return {path.stem: path}
    found: list[Path] = []
    for folder, _, names in os.walk(path, onerror=_refuse):
        frames = is_openpose_folder(Path(folder), names)
        kinds = tuple(kind for kind in known if not (frames and kind == ".json"))
        found += [Path(folder)] if frames else []
        found += [Path(folder, name) for name in names if name.lower().endswith(kinds)]
    if not found:
        raise FileNotFoundError(f"folder {path} holds no recording; known are {', '.join(known)}")
    found.sort()
    names = [_name(file, path) for file in found]
    count = Counter(names)
    return {
        name if count[name] == 1 else file.relative_to(path).as_posix(): file
        for name, file in zip(names, found, strict=True)
    }


def _refuse(error: OSError) -> None:
    raise error


def _name(file: Path, folder: Path) -> str:
    if file == folder:
        return folder.resolve().name
    below = file.relative_to(folder)
    return (below if file.is_dir() else below.with_suffix("")).as_posix()


def read_recordings(
    name: str, path: Path, options: ReadOptions, *, bodies: str
) -> Iterator[Recorded | RecordingError]:
    """The recording of a file, or each clip of a prepared file; an error in place of a recording that cannot be read.

    Args:
        name: of the recording; clips of a prepared file have their own names.
        path: the file, or the folder of OpenPose's frames.
        options: facts that the file does not state.
        bodies: name of a choice of bodies, as in `Prepared.attrs`; the format's first choice if it has none of that
            name.
    """
    try:
        if path.suffix.lower() in PREPARED:
            yield from _clips_of(path)
        else:
            yield _read(name, path, options, bodies)
    except RecordingError as error:
        yield error
    except OSError as error:
        yield RecordingError(None, error.strerror or str(error))
    except ValueError as error:  # of a prepared file
        yield RecordingError(None, str(error))


def _read(name: str, path: Path, options: ReadOptions, bodies: str) -> Recorded:
    kind, source = format_of(path)
    content = kind.read(source, options)
    recording = content.recording
    choose = kind.choices.get(bodies, next(iter(kind.choices.values())))
    layout = kind.layout or content.layout
    return Recorded(
        name,
        choose(recording),
        recording,
        choose,
        skeleton=None if layout is None else get_skeleton(layout),
        frame_rate=kind.frame_rate,
        channels=recording.channels,
        unit=content.unit,
        gaps=content.gaps,
        assumptions=content.assumptions,
    )


def _clips_of(path: Path) -> Iterator[Recorded]:
    prepared = open_prepared(path)
    for clip in range(len(prepared)):
        tracks = tracks_of(prepared, clip)
        recording = Recording.of_tracks(tracks, prepared.channels)
        name = str(prepared.name[clip])
        yield Recorded(
            name,
            tracks,
            recording,
            bodies.as_given,
            prepared.skeleton,
            prepared.frame_rate,
            prepared.channels,
            prepared.unit,
        )


def recorded_poses(name: str, poses: np.ndarray, skeleton: Skeleton, channels: str) -> Recorded:
    """A recording of poses (T, V, C) or (M, T, V, C) in memory, in the unit that the network takes.

    Raises:
        RecordingError: the poses have another shape or unit, or hold NaN or infinity.
    """
    tracks = as_tracks(poses, num_joint=skeleton.num_joint, channels=channels)
    recording = Recording.of_tracks(tracks, channels)
    return Recorded(name, tracks, recording, bodies.as_given, None, None, channels)
