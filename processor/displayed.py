"""Clips for display, in sheets of poses, animations and pages.

M bodies, T frames, V joints, C coordinates, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from feeder.arrays import ArrayFolder
from feeder.prepared import Prepared, tracks_of
from feeder.recordings.bodies import as_given
from feeder.recordings.files import Recorded
from net.utils.channels import has_confidence
from net.utils.skeleton import Skeleton
from processor.figures import picture_plane

# Number of clips that `up_of` reads.
SAMPLE = 100
UNLABELLED = "(no label)"


class Shown(NamedTuple):
    """A clip to display.

    name: unique among the clips of a display.
    title: such as its label and its length.
    tracks: (M, T, V, C), C 3 (x y z) or 2 (x to the right, y down); a joint at 0 is absent.
    skeleton: layout of the V joints.
    frame_rate: frames a second, or None.
    confidence: (M, T, V), 0 to 1, or None.
    probability: (T, K) of classes, or None.
    class_names: K.
    bodies: names and colours of all bodies; empty for numbers and the default colours.
    up: the coordinate that points up; the default is y, as in recordings.
    """

    name: str
    title: str
    tracks: np.ndarray
    skeleton: Skeleton
    frame_rate: float | None
    confidence: np.ndarray | None = None
    probability: np.ndarray | None = None
    class_names: Sequence[str] = ()
    bodies: Sequence["Body"] = ()
    up: int = 1


class Body(NamedTuple):
    """Name and colour of a body."""

    name: str
    colour: str


SEEN, TRUE, PREDICTED = Body("seen", "#1f77b4"), Body("true", "#7f7f7f"), Body("predicted", "#d62728")


def with_future(tracks: np.ndarray, future: np.ndarray) -> tuple[np.ndarray, list[Body]]:
    """Observed tracks (M, T, V, C) and predicted ones (B, P, V, C) as (M + B, T + P, V, C), and their bodies."""
    seen, frames = len(tracks), tracks.shape[1]
    both = np.zeros((seen + len(future), frames + future.shape[1], *tracks.shape[2:]), np.float32)
    both[:seen, :frames] = tracks
    both[seen:, frames:] = future
    return both, [SEEN] * seen + [PREDICTED] * len(future)


def split_confidence(tracks: np.ndarray, channels: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions (M, T, V, C) and confidence (M, T, V), or None, of tracks whose last axis holds `channels`."""
    if has_confidence(channels):
        return tracks[..., :-1], tracks[..., -1]
    return tracks, None


def describe(label: str | None, num_frame: int, frame_rate: float | None) -> str:
    """The title of a clip: its label, if it has one, and its length."""
    length = f"{num_frame} frame{'s' if num_frame != 1 else ''}"
    if frame_rate is not None:
        length += f", {num_frame / frame_rate:.1f} s"
    return length if label is None else f"{label}, {length}"


def of_recorded(recorded: Recorded, skeleton: Skeleton, frame_rate: float | None) -> Shown:
    """A recording, with all frames of its file.

    Args:
        recorded: the recording.
        skeleton: for a file that does not state it.
        frame_rate: for a file that does not state it.
    """
    rate = recorded.frame_rate or frame_rate
    tracks = whole_tracks(recorded)
    poses, confidence = split_confidence(tracks, recorded.channels)
    title = describe(None, poses.shape[1], rate)
    return Shown(recorded.name, title, poses, recorded.skeleton or skeleton, rate, confidence)


def whole_tracks(recorded: Recorded) -> np.ndarray:
    """Tracks (M, T, V, C) of all frames, even if the choice of bodies left out frames without a body."""
    if recorded.tracks.shape[1] == recorded.recording.num_frame:
        return recorded.tracks
    return as_given(recorded.recording)


def of_prepared(prepared: Prepared | ArrayFolder, clip: int, up: int) -> Shown:
    """A clip of a data set; `up` is the coordinate that points up, see `up_of`."""
    poses, confidence = split_confidence(tracks_of(prepared, clip), prepared.channels)
    rate = known_rate(prepared)
    label = label_name(prepared, int(prepared.label[clip]))
    return Shown(
        name=str(prepared.name[clip]),
        title=describe(label, poses.shape[1], rate),
        tracks=poses,
        skeleton=prepared.skeleton,
        frame_rate=rate,
        confidence=confidence,
        up=up,
    )


def up_of(prepared: Prepared | ArrayFolder) -> int:
    """The coordinate that points up in a data set: along which torsos stand on average over `SAMPLE` clips."""
    some = np.unique(np.linspace(0, len(prepared) - 1, SAMPLE).round().astype(int))
    poses, _ = split_confidence(prepared.read(some), prepared.channels)
    return picture_plane(poses, prepared.skeleton)[1]


def known_rate(prepared: Prepared | ArrayFolder) -> float | None:
    """Frames a second of a data set; None where unknown."""
    known = isinstance(prepared, Prepared) and not np.isnan(prepared.frame_rate)
    return prepared.frame_rate if known else None


def label_name(prepared: Prepared | ArrayFolder, label: int) -> str:
    """The name of a class; -1 is no label."""
    return UNLABELLED if label < 0 else prepared.class_names[label]
