"""Finds and reads recordings of every kind that the project knows; a kind is a row of `FORMATS`.

Places in space come in metres, right-handed as Kinect's: x to the picture's left, y up, z away from the camera. Places
in the picture have x to its right and y down.
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
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.openpose import is_openpose_folder, read_folder, read_frame, read_kinetics
from feeder.recordings.reading import AS_GIVEN, Content, Unstated
from feeder.recordings.recording import Recording, RecordingError
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

PREPARED = (".h5", ".hdf5")
MOVING: Mapping[str, Choice] = {"moving": bodies.moving}


class Format(NamedTuple):
    """How files of a kind are read.

    read: gives the content of a file, which may raise RecordingError or OSError. It takes the path, or, of JSON,
        what the file holds.
    choices: which bodies are taken, by the name that a prepared file has for it; the first where it names another.
    layout, frame_rate: what all files of the kind have; None where they do not say.
    """

    read: Callable[[Any, Unstated], Content]
    choices: Mapping[str, Choice]
    layout: str | None = None
    frame_rate: float | None = None


class Recorded(NamedTuple):
    """A recording that was read.

    tracks: of all of it, (M, T, V, C) float32, by the choice of bodies that preparation makes.
    recording: what the tracks are chosen from.
    choose: chooses the tracks of a part of it.
    skeleton, frame_rate: as the file states them, or None.
    channels: see `Recording`.
    unit: "m"; in the picture "picture", heights of it from its middle, or "px", pixels from its corner.
    gaps: joints that were not seen.
    said: what was taken for granted, a sentence each.
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
    said: tuple[str, ...] = ()


def _read_ntu(path: Path, unstated: Unstated) -> Content:
    return Content(parse_skeleton(path.read_bytes()))


def _read_pku(path: Path, unstated: Unstated) -> Content:
    return Content(pku.as_recording(pku.parse_poses(path.read_bytes())))


def _read_ucla(content: Any, unstated: Unstated) -> Content:
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
# What a JSON object of another form is known by, before detections and nested lists.
JSON_KEYS: dict[str, Format] = {
    "skeletons": UCLA,
    "people": Format(read_frame, MOVING),
    "data": Format(read_kinetics, MOVING),
}
DETECTIONS = Format(read_detections, MOVING)


def format_of(path: Path) -> tuple[Format, Any]:
    """The format of a file, by its suffix, and what its reader takes: the path, or what a JSON file holds.

    Raises:
        RecordingError: it is of no known kind, or not a regular file, or not JSON though named so.
        OSError: it cannot be opened.
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
    content = ucla.read_json(path)
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
    """The files of a recording's path by name: the file itself, or all of known kinds below a folder, in order.

    A name is the path below the folder, or the file's own, without the suffix where no other file has that name. A
    folder of OpenPose's frames is one recording.

    Raises:
        FileNotFoundError: there is none.
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
    name: str, path: Path, unstated: Unstated, *, bodies: str
) -> Iterator[Recorded | RecordingError]:
    """The recording of a file, or each clip of a prepared file; or why there is none.

    Args:
        name: of the recording; clips of a prepared file have their own.
        path: the file, or the folder of OpenPose's frames.
        unstated: what the file does not say.
        bodies: how a prepared file chose bodies, see `Prepared.attrs`; the format's own choice where it has no such.
    """
    try:
        if path.suffix.lower() in PREPARED:
            yield from _clips_of(path)
        else:
            yield _read(name, path, unstated, bodies)
    except RecordingError as error:
        yield error
    except OSError as error:
        yield RecordingError(None, error.strerror or str(error))
    except ValueError as error:  # of a prepared file
        yield RecordingError(None, str(error))


def _read(name: str, path: Path, unstated: Unstated, bodies: str) -> Recorded:
    kind, source = format_of(path)
    content = kind.read(source, unstated)
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
        said=content.said,
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
    """A recording of poses (T, V, C) or (M, T, V, C) in memory, in the unit that their network takes.

    Raises:
        RecordingError: they are not that.
    """
    tracks = as_tracks(poses, num_joint=skeleton.num_joint, channels=channels)
    recording = Recording.of_tracks(tracks, channels)
    return Recorded(name, tracks, recording, bodies.as_given, None, None, channels)
