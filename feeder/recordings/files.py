"""Finds and reads recordings of every kind that the project knows; a kind is a row of `FORMATS`.

Coordinates come in metres, right-handed as Kinect's: x to the picture's left, y up, z away from the camera.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from feeder.prepared import open_prepared
from feeder.recordings import bodies, pku, ucla
from feeder.recordings.array import METRES, as_tracks, read_tracks
from feeder.recordings.bodies import Choice
from feeder.recordings.ntu import parse_skeleton
from feeder.recordings.recording import Recording, RecordingError
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

PREPARED = (".h5", ".hdf5")
AS_GIVEN: Mapping[str, Choice] = {"as given": bodies.as_given}


class Unstated(NamedTuple):
    """What files of some kinds leave unsaid.

    skeleton: whose joints they hold.
    scale: their unit in metres.
    """

    skeleton: Skeleton
    scale: float = METRES["m"]


class Format(NamedTuple):
    """How files of a kind are read.

    read: gives the recording of a file, which may raise RecordingError or OSError.
    choices: which bodies are taken, by the name that a prepared file has for it; the first where it names another.
    layout, frame_rate: what all files of the kind have; None where they do not say.
    """

    read: Callable[[Path, Unstated], Recording]
    choices: Mapping[str, Choice]
    layout: str | None = None
    frame_rate: float | None = None


class Recorded(NamedTuple):
    """A recording that was read.

    tracks: of all of it, (M, T, V, C) float32, by the choice of bodies that preparation makes.
    recording: what the tracks are chosen from.
    choose: chooses the tracks of a part of it.
    skeleton, frame_rate: as the file states them, or None.
    channels, unit: see `feeder.prepared.Prepared`.
    """

    name: str
    tracks: np.ndarray
    recording: Recording
    choose: Choice
    skeleton: Skeleton | None
    frame_rate: float | None
    channels: str = "xyz"
    unit: str = "m"


def _read_ntu(path: Path, unstated: Unstated) -> Recording:
    return parse_skeleton(path.read_bytes())


def _read_pku(path: Path, unstated: Unstated) -> Recording:
    return pku.as_recording(pku.parse_poses(path.read_bytes()))


def _read_array(path: Path, unstated: Unstated) -> Recording:
    tracks = read_tracks(path, num_joint=unstated.skeleton.num_joint, scale=unstated.scale)
    return Recording.of_tracks(tracks)


def _read_ucla(path: Path, unstated: Unstated) -> Recording:
    return Recording.of_tracks(ucla.poses_of(ucla.parse_json(path.read_bytes()))[None])


ARRAY = Format(_read_array, AS_GIVEN)
UCLA = Format(_read_ucla, AS_GIVEN, ucla.LAYOUT, 30.0)
FORMATS: dict[str, Format] = {
    ".skeleton": Format(_read_ntu, bodies.CHOICES, "ntu-rgb+d", 30.0),
    ".txt": Format(_read_pku, pku.CHOICES, "ntu-rgb+d", 30.0),
    ".npy": ARRAY,
    ".csv": ARRAY,
    ".json": ARRAY,
}


def format_of(path: Path) -> Format:
    """The format of a file, by its suffix; `.json` is NW-UCLA's where it holds an object, else nested lists.

    Raises:
        RecordingError: it is of no known kind, or not a regular file.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise RecordingError(None, "not a regular file")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise RecordingError(None, f"{path.suffix!r} is not one of {', '.join((*FORMATS, *PREPARED))}")
    if suffix == ".json":
        with path.open("rb") as file:
            return UCLA if file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else ARRAY
    return FORMATS[suffix]


def find_recordings(path: Path) -> dict[str, Path]:
    """The files of a recording's path by name: the file itself, or all of known kinds below a folder, in order.

    A name is the path below the folder, or the file's own, without the suffix where no other file has that name.

    Raises:
        FileNotFoundError: there is none.
        OSError: a folder cannot be read.
    """
    known = (*FORMATS, *PREPARED)
    if not path.exists():
        raise FileNotFoundError(f"recording {path} not found; give a file ({', '.join(known)}) or a folder")
    if not path.is_dir():
        return {path.stem: path}
    found = sorted(
        Path(folder, name) for folder, _, names in os.walk(path, onerror=_refuse) for name in names
    )
    found = [file for file in found if file.suffix.lower() in known]
    if not found:
        raise FileNotFoundError(f"folder {path} holds no recording; known are {', '.join(known)}")
    names = [file.relative_to(path).with_suffix("").as_posix() for file in found]
    count = Counter(names)
    return {
        name if count[name] == 1 else name + file.suffix: file
        for name, file in zip(names, found, strict=True)
    }


def _refuse(error: OSError) -> None:
    raise error


def read_recordings(
    name: str, path: Path, unstated: Unstated, *, bodies: str
) -> Iterator[Recorded | RecordingError]:
    """The recording of a file, or each clip of a prepared file; or why there is none.

    Args:
        name: of the recording; clips of a prepared file have their own.
        path: the file.
        unstated: what the file does not say.
        bodies: how a prepared file chose bodies, see `Prepared.attrs`; the format's own choice where it has no such.
    """
    try:
        if path.suffix.lower() in PREPARED:
            yield from _clips_of(path)
        else:
            yield _read(name, path, format_of(path), unstated, bodies)
    except RecordingError as error:
        yield error
    except OSError as error:
        yield RecordingError(None, error.strerror or str(error))
    except ValueError as error:  # of a prepared file
        yield RecordingError(None, str(error))


def _read(name: str, path: Path, kind: Format, unstated: Unstated, bodies: str) -> Recorded:
    recording = kind.read(path, unstated)
    choose = kind.choices.get(bodies, next(iter(kind.choices.values())))
    skeleton = None if kind.layout is None else get_skeleton(kind.layout)
    return Recorded(name, choose(recording), recording, choose, skeleton, kind.frame_rate)


def _clips_of(path: Path) -> Iterator[Recorded]:
    prepared = open_prepared(path)
    for clip in range(len(prepared)):
        size = int(prepared.num_body[clip]), int(prepared.num_frame[clip])
        tracks = prepared.read(np.array([clip])).reshape(*size, *prepared.joints.shape[1:])
        recording = Recording.of_tracks(tracks)
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


def recorded_poses(name: str, poses: np.ndarray, skeleton: Skeleton, num_channel: int) -> Recorded:
    """A recording of poses (T, V, C) or (M, T, V, C) in memory, in metres.

    Raises:
        RecordingError: they are not that.
    """
    tracks = as_tracks(poses, num_joint=skeleton.num_joint, num_channel=num_channel)
    return Recorded(name, tracks, Recording.of_tracks(tracks), bodies.as_given, None, None)
