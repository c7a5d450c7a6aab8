"""Estimate the poses of a person in a video or before a camera with MediaPipe, for tools/infer.py.

    python tools/poses_from_video.py my_video.mp4 --out clip.npy
    python tools/poses_from_video.py --camera 0 --stream | infer.py - --layout mediapipe --to ntu-rgb+d …

This file imports nothing of this project. mediapipe 0.10.21 needs NumPy 1, and thus an environment of its own
(docs/video.md).

An array is (T frames, 33 joints, 4): x, y, z in metres from the middle of the hips, and visibility. x is to the
picture's right, y down, z away from the camera. With --image x and y are shares of the picture. A frame in which nobody
was seen is NaN. With --stream each frame is a line of JSON: [[x, y, z], ...], or [[x, y, visibility], ...] with
--image; [] if nobody was seen. MediaPipe finds one person; if there are several, any of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

NUM_JOINT = 33
NOBODY = [(float("nan"),) * 4] * NUM_JOINT
# Items of a joint in a line: x y z of the world, or x y and visibility in the picture.
OF_LINE = {"world": (0, 1, 2), "image": (0, 1, 3)}
# Decimals of a line's numbers: micrometres.
DECIMALS = 6
# Number of frames of a camera after which the frame rate is printed.
MEASURED = 100
HOW_TO_INSTALL = (
    "make an environment with Python 3.9 to 3.12 for it: python3 -m venv .venv-mediapipe; "
    ".venv-mediapipe/bin/pip install mediapipe==0.10.21; then run this with .venv-mediapipe/bin/python"
)

# x, y, z, visibility of 33 joints; empty where nobody was seen.
Pose = list[tuple[float, float, float, float]]


class Video(NamedTuple):
    """An open video or camera: its properties and pictures."""

    name: str
    width: int
    height: int
    frame_rate: float | None  # None if unknown
    pictures: Iterator[Any]  # (height, width, 3) uint8, RGB


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="poses_from_video.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("video", nargs="?", type=Path, metavar="VIDEO", help="a file")
    add("--camera", type=int, metavar="N", help="a camera in place of a file: 0 is the first; Ctrl-C ends it")
    add("--out", type=Path, metavar="FILE.npy", help="default: the video's name with .npy, or camera.npy")
    add("--overwrite", action="store_true", help="replace the file that is there")
    add("--stream", action="store_true", help="write a line of JSON a frame to standard output, and no file")
    add("--image", action="store_true", help="landmarks of the picture in place of metres")
    add(
        "--mirrored",
        action="store_true",
        help="the pictures are mirrored, as Kinect's colour stream and many selfie cameras have them: turn them back",
    )
    args = parser.parse_args(argv)
    if (args.video is None) == (args.camera is None):
        parser.error("give a video, or --camera N")
    if args.camera is not None and args.camera < 0:
        parser.error(f"--camera is {args.camera}; give 0 or more")
    if args.stream and (args.out is not None or args.overwrite):
        parser.error("--stream writes to standard output: leave out --out and --overwrite")
    if args.out is None:
        args.out = Path("camera.npy" if args.video is None else f"{args.video.stem}.npy")
    if args.out.suffix != ".npy":
        parser.error(f"--out is {args.out}; give a name that ends in .npy")
    return args


def say(text: str) -> None:
    """Print a message for the user on standard error."""
    print(text, file=sys.stderr, flush=True)


def load_estimator() -> tuple[Any, Callable[[], Any]]:
    """OpenCV, and a function that makes an estimator; `process` of the estimator gives MediaPipe's result of a picture.

    Raises:
        ImportError: MediaPipe is missing or not usable; the message says what to do.
    """
    try:
        import numpy as np

        if int(np.__version__.split(".")[0]) > 1:
            raise ImportError(f"MediaPipe 0.10.21 does not run with NumPy {np.__version__}")
        import cv2
        import mediapipe
    except ImportError as error:
        raise ImportError(f"{error}; {HOW_TO_INSTALL}") from None
    if not hasattr(mediapipe, "solutions"):
        raise ImportError(f"mediapipe {mediapipe.__version__} has no mediapipe.solutions; {HOW_TO_INSTALL}")
    return cv2, partial(mediapipe.solutions.pose.Pose, model_complexity=1, smooth_landmarks=True)


def open_video(cv2: Any, source: Path | int, *, mirrored: bool) -> Video:
    """Open a video file, or a camera by its number.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the camera does not open, or the file is no video.
    """
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"no video at {source}")
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        raise ValueError(
            f"camera {source} does not open: it is not there, another program uses it, or access is not allowed"
            if isinstance(source, int)
            else f"{source} is not a video that OpenCV can read"
        )
    width, height, rate = (
        capture.get(of) for of in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
    )
    name = f"camera {source}" if isinstance(source, int) else str(source)
    frame_rate = rate if isinstance(source, Path) and 0 < rate < float("inf") else None
    return Video(name, int(width), int(height), frame_rate, _pictures(capture, mirrored=mirrored))


def _pictures(capture: Any, *, mirrored: bool) -> Iterator[Any]:
    across = -1 if mirrored else 1
    while True:
        there, picture = capture.read()
        if not there:
            return
        yield picture[:, ::across, ::-1].copy()  # OpenCV's colours are BGR


def pose_of(result: Any, *, image: bool) -> Pose:
    """The pose of a result of MediaPipe: in metres from the middle of the hips, or in shares of the picture."""
    found = result.pose_landmarks if image else result.pose_world_landmarks
    return [] if found is None else [(at.x, at.y, at.z, at.visibility) for at in found.landmark]


def line_of(pose: Pose, *, image: bool) -> str:
    """A frame as a line for the standard input of tools/infer.py."""
    items = OF_LINE["image" if image else "world"]
    return json.dumps([[round(joint[item], DECIMALS) for item in items] for joint in pose])


def write_lines(poses: Iterator[Pose], *, image: bool, is_live: bool) -> int:
    """Print each pose as it arrives, and once the frame rate of a camera; returns the number of frames."""
    start = time.monotonic()
    number = 0
    for number, pose in enumerate(poses, 1):
        print(line_of(pose, image=image), flush=True)
        if number == 1:
            start = time.monotonic()
        elif number == MEASURED and is_live:
            rate = (number - 1) / (time.monotonic() - start)
            say(
                f"{rate:.3g} frames a second are estimated; if that is not the weights', give infer.py --frame_rate"
            )
    return number


def collect(poses: Iterator[Pose], *, is_live: bool) -> tuple[np.ndarray, float | None]:
    """Poses (T, 33, 4) float32, NaN where nobody was seen, and the measured frame rate of a camera (else None).

    Ctrl-C ends the poses of a camera; for a file it is raised.
    """
    import numpy as np

    values = array("f")
    times = array("d")
    try:
        for pose in poses:
            values.extend(array("f", chain.from_iterable(pose or NOBODY)))
            times.append(time.monotonic())
    except KeyboardInterrupt:
        if not is_live:
            raise
    landmarks = np.array(values, np.float32).reshape(-1, NUM_JOINT, 4)
    measured = is_live and len(times) > 1
    return landmarks, (len(times) - 1) / (times[-1] - times[0]) if measured else None


def save(landmarks: np.ndarray, path: Path) -> None:
    """Write an array atomically."""
    import numpy as np

    # NumPy does not notice that a disk is full when it writes into a file itself.
    content = BytesIO()
    np.save(content, landmarks)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content.getbuffer())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def next_command(recording: str, video: Video, frame_rate: float | None, *, image: bool) -> str:
    """The command that recognises the written recording."""
    rate = "" if frame_rate is None else f" --frame_rate {frame_rate:g}"
    joints = f"--picture {video.width}x{video.height} --to coco" if image else "--to ntu-rgb+d"
    return f"python tools/infer.py {recording}{rate} {joints} --weights best.pt"


def estimate_poses(args: argparse.Namespace, cv2: Any, make_estimator: Callable[[], Any]) -> None:
    """Write the poses of the video or the camera that the command line names.

    Args:
        args: see `parse`.
        cv2: OpenCV.
        make_estimator: makes an estimator for one video. Its `process` takes RGB pictures in their order, and gives
            results with `pose_landmarks` and `pose_world_landmarks`.

    Raises:
        OSError: there is no such video, or the file cannot be written.
        ValueError: it is no video, has no frame, or nobody is in any frame.
    """
    is_live = args.camera is not None
    video = open_video(cv2, args.camera if is_live else args.video, mirrored=args.mirrored)
    process = make_estimator().process
    poses = (pose_of(process(picture), image=args.image) for picture in video.pictures)
    if args.stream:
        say(
            "pipe it into: " + next_command("- --layout mediapipe", video, video.frame_rate, image=args.image)
        )
        if not write_lines(poses, image=args.image, is_live=is_live):
            raise ValueError(f"{video.name} gave no frame")
        return
    landmarks, measured = collect(poses, is_live=is_live)
    if not len(landmarks):
        raise ValueError(f"{video.name} gave no frame")
    seen = (landmarks == landmarks).all((1, 2))
    if not seen.any():
        raise ValueError(f"nobody was seen in the {len(seen)} frames of {video.name}")
    save(landmarks, args.out)
    frame_rate = measured or video.frame_rate
    told = "frame rate is not known" if frame_rate is None else f"{frame_rate:.3g} frames a second"
    print(f"{args.out}: {len(seen)} frames, somebody in {seen.sum()}; {told}")
    print("next: " + next_command(shlex.quote(str(args.out)), video, frame_rate, image=args.image))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 an error that a user can correct, 2 wrong usage, 130 after Ctrl-C."""
    args = parse(argv)
    try:
        if not args.stream and args.out.exists() and not args.overwrite:
            raise FileExistsError(f"{args.out} exists; give --overwrite, or another --out")
        if not args.out.parent.is_dir():
            raise FileNotFoundError(f"no folder {args.out.parent} for --out")
        estimate_poses(args, *load_estimator())
    except BrokenPipeError:
        # The reader of the lines has ended. Without this, Python would report it again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, ValueError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
