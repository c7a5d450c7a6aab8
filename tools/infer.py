"""Recognise recordings: the action and its probability, a timeline of long recordings, or the next poses.

    python tools/infer.py clip.skeleton --weights work_dir/ntu60/xsub/st_gcn/joint/best.pt --out answers --animate
    pose_estimator | python tools/infer.py - --weights best.pt

A recording is a file or a folder of .skeleton (NTU RGB+D), .txt (PKU-MMD), .json (NW-UCLA, Kinetics-skeleton,
detections of COCO, AlphaPose, MMPose or Ultralytics, nested lists), .npy, .npz, .mat or .csv (frames, joints, channels;
MediaPipe's landmarks, too), a folder of OpenPose's frames, or a prepared .h5 file. No label is needed.

A whole recording is scored as in the test of the weights' run. A long recording, or any with --window or --stride, is
also scored window by window. A frame has the class with the highest mean probability over the windows that cover it.

With weights of `prediction` the answer is the next poses, in the recording's own coordinates.

With - frames are read from standard input, a line of JSON each: [[x, y, z], ...] with an item for each joint, or a list
of such bodies in any order. [] is an empty frame, and null is a joint that was not seen. Each answer is a line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np

from feeder.class_names import read_class_names
from feeder.prepared import refuse_existing
from feeder.recordings.arguments import add_reading_arguments, limits_of, read_options_of
from feeder.recordings.array import METRES
from feeder.recordings.files import Recorded, find_recordings, read_recordings
from feeder.recordings.lines import parse_frame
from feeder.recordings.mediapipe import LAYOUT as MEDIAPIPE
from feeder.recordings.mediapipe import to_camera
from feeder.recordings.other_layout import with_layout
from feeder.recordings.picture import place_in_picture
from feeder.recordings.recording import RecordingError
from net.utils.channels import in_plane
from net.utils.joint_maps import joint_map, map_joints
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton
from processor.answers import NONE, Answers, prepare_answers
from processor.inference import Recogniser
from processor.online import Answer
from processor.page import check_package
from processor.pose_inference import PosePredictor
from processor.trained import Trained, load_trained
from torchlight.status import status_of

# A recording that is longer than this number of windows is scored window by window.
LONG = 4
# Options that have an effect with one kind of weights only.
OF_PREDICTION = ("predict",)
OF_RECOGNITION = ("window", "stride", "repeat")
# Characters of the longest line of a stream: enough for more than 100 bodies of 25 joints.
LONGEST_LINE = 1 << 20


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="infer.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recordings", nargs="+", metavar="RECORDING", help="files or folders; - for standard input")
    add(
        "--weights",
        nargs="+",
        required=True,
        metavar="FILE",
        help="best.pt of a run; scores or poses of several are averaged",
    )
    add("--top", type=int, default=5, metavar="N", help="classes that are shown (default %(default)s)")
    add("--window", type=int, metavar="T", help="frames of a window (default: those of the weights' view)")
    add(
        "--stride",
        type=int,
        metavar="S",
        help="frames from window to window (default: a quarter of a window)",
    )
    add(
        "--repeat",
        type=int,
        metavar="N",
        help="views that are averaged (default: for a recording as many as in the "
        "run's test, for a window one fixed view)",
    )
    add("--threshold", type=float, default=0.0, metavar="P", help="below this probability the answer is none")
    add("--out", type=Path, metavar="DIR", help="write answers.csv, answers.json and timelines here")
    add("--overwrite", action="store_true", help="replace answers that --out holds, and --html")
    add("--animate", action="store_true", help="write a GIF of each recording (and an MP4 where ffmpeg is)")
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page that plays the recordings with their answers",
    )
    add("--layout", metavar="NAME", help="joints of files that do not say (default: the weights')")
    add("--to", metavar="NAME", help="map recordings to this layout where their joints allow")
    add_reading_arguments(parser)
    add("--frame_rate", type=float, metavar="F", help="of files that do not say (default: the weights')")
    add(
        "--predict",
        type=int,
        metavar="P",
        help="frames to predict, with weights of prediction (default: its run's)",
    )
    add("--config", type=Path, metavar="FILE", help="config of the run, for weights that hold none")
    add("--class_names", type=Path, metavar="FILE", help="a name a line, for weights that hold none")
    add("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, ...")
    add("--plugin", action="append", default=[], metavar="PACKAGE", help="admit models of this package")
    args = parser.parse_args(argv)
    for name in ("top", "window", "stride", "repeat", "predict"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}; give 1 or more")
    if not 0 <= args.threshold <= 1:
        parser.error(f"--threshold is {args.threshold}; give a probability, 0 to 1")
    if args.frame_rate is not None and not 0 < args.frame_rate < float("inf"):
        parser.error(f"--frame_rate is {args.frame_rate}; give a number above 0")
    if args.animate and args.out is None:
        parser.error("--animate needs --out DIR, where the GIF goes")
    if "-" in args.recordings and (len(args.recordings) > 1 or args.out or args.html):
        parser.error(
            "- reads standard input and answers on standard output: leave out other recordings, --out and --html"
        )
    files_alone = [f"--{name}" for name in ("axes", "variable", "max_gap") if getattr(args, name) is not None]
    if "-" in args.recordings and files_alone:
        parser.error(f"{' and '.join(files_alone)}: for files only; leave it out for standard input")
    return args


def load(args: argparse.Namespace) -> Recogniser | PosePredictor:
    """The recogniser or the predictor, by the weights that the command line names."""
    class_names = args.class_names and read_class_names(args.class_names)
    members = [
        load_trained(
            path, config=args.config, class_names=class_names, device=args.device, plugins=args.plugin
        )
        for path in args.weights
    ]
    for member in members:
        for what in member.unknown:
            say(f"{member.path} does not say {what}")
    predicts = members[0].name == "prediction"
    for option in OF_RECOGNITION if predicts else OF_PREDICTION:
        if getattr(args, option) is not None:
            kind = "prediction" if predicts else "recognition"
            say(f"--{option} has no effect with weights of {kind}")
    return PosePredictor(members) if predicts else Recogniser(members)


def say(text: str) -> None:
    """Print a message for the user on standard error."""
    print(text, file=sys.stderr, flush=True)


def target_of(args: argparse.Namespace, wanted: Skeleton) -> Skeleton | None:
    """The layout to which recordings are mapped; None without --to.

    Raises:
        ValueError: the layout is not that of the weights.
    """
    if args.to is None:
        return None
    target = get_skeleton(args.to)
    if target != wanted:
        raise ValueError(f"--to is {args.to}, but the weights have {wanted.name!r}; give --to {wanted.name}")
    return target


def read(args: argparse.Namespace, trained: Trained) -> Iterator[tuple[str, Recorded | RecordingError]]:
    """Name of each recording, and the recording or the error of reading it."""
    stated = None if args.layout is None else get_skeleton(args.layout)
    target = target_of(args, trained.skeleton)
    options = read_options_of(
        args, stated or trained.skeleton, layout_given=stated is not None, channels=trained.channels
    )
    assumed: dict[str, None] = {}
    named: set[str] = set()
    filled = absent = 0
    for argument in args.recordings:
        try:
            files = find_recordings(Path(argument))
        except OSError as error:
            yield argument, RecordingError(None, str(error))
            continue
        for name, path in files.items():
            if name in named:  # another folder has a file of this name
                name = path.with_suffix("").as_posix()
            named.add(name)
            for found in read_recordings(name, path, options, bodies=trained.bodies):
                if isinstance(found, RecordingError):
                    yield str(path), found
                    continue
                filled, absent = filled + found.gaps.num_filled, absent + found.gaps.num_absent
                found = _with_stated(found, args, trained, stated, assumed)
                try:
                    yield found.name, found if target is None else with_layout(found, target)
                except RecordingError as error:
                    yield str(path), error
    for text in assumed:
        say(text)
    if filled or absent:
        say(f"joints that were not seen: {filled} interpolated, {absent} absent")


def _with_stated(
    found: Recorded,
    args: argparse.Namespace,
    trained: Trained,
    stated: Skeleton | None,
    assumed: dict[str, None],
) -> Recorded:
    """A recording with the facts from the command line; facts that are assumed are added to `assumed` as text."""
    assumed.update(dict.fromkeys(found.assumptions))
    if found.skeleton is None:
        found = found._replace(skeleton=stated or (trained.skeleton if args.to else None))
        if stated is None:
            assumed[f"layout is not stated: assumed to be the weights', {trained.skeleton.name}"] = None
    if found.frame_rate is None:
        found = found._replace(frame_rate=args.frame_rate or trained.frame_rate)
        if args.frame_rate is None and trained.frame_rate is not None:
            assumed[
                f"frame rate is not stated: assumed to be the weights', {trained.frame_rate:g} a second"
            ] = None
    rates = found.frame_rate, trained.frame_rate
    if None not in rates and rates[0] != rates[1]:
        assumed[f"recordings of {rates[0]:g} frames a second are resampled to the weights' {rates[1]:g}"] = (
            None
        )
    return found


def recognise(args: argparse.Namespace, recogniser: Recogniser, answers: Answers) -> None:
    """Add the answers for all recordings."""
    trained = recogniser.members[0]
    entries: list[tuple[str, Recorded | RecordingError]] = []
    for name, found in read(args, trained):
        try:
            if isinstance(found, Recorded):
                trained.refuse_other_joints(found)
            entries.append((name, found))
        except RecordingError as error:
            entries.append((name, error))
    good = [found for _, found in entries if isinstance(found, Recorded)]
    whole = iter(recogniser.probabilities(good, repeat=args.repeat))
    for name, recorded in entries:
        if isinstance(recorded, RecordingError):
            answers.add_error(name, recorded)
            continue
        probability = next(whole)
        window = args.window or recogniser.window_of(recorded.frame_rate)
        of_frames = None
        if args.window or args.stride or recorded.recording.num_frame > LONG * window:
            of_frames = recogniser.timeline(
                recorded, window=window, stride=args.stride, repeat=args.repeat or 1
            ).of_frames
        answers.add(recorded, probability, of_frames)


def predict(args: argparse.Namespace, predictor: PosePredictor, answers: Answers) -> None:
    """Predict the next poses of all recordings."""
    for name, found in read(args, predictor.members[0]):
        try:
            if isinstance(found, RecordingError):
                raise found
            answers.add_poses(found, predictor.next_poses(found, count=args.predict), predictor.frame_rate)
        except RecordingError as error:
            answers.add_error(name, error)


def line_reader(args: argparse.Namespace, recogniser: Recogniser) -> Callable[[bytes], np.ndarray]:
    """A function from a line to bodies (M, V, C) in the layout of the weights; see `parse_frame`."""
    channels, target = recogniser.members[0].channels, recogniser.skeleton
    skeleton = target if args.layout is None else get_skeleton(args.layout)
    if target_of(args, target) is None and skeleton != target:
        raise ValueError(
            f"--layout is {args.layout}, but the weights have {target.name!r}; try to map it with --to {target.name}"
        )
    mapping = joint_map(skeleton, target)

    def read_line(line: bytes) -> np.ndarray:
        poses = parse_frame(line, num_joint=skeleton.num_joint, channels=channels, scale=METRES[args.unit])
        if in_plane(channels):
            poses, _ = place_in_picture(poses, args.picture)
        elif skeleton.name == MEDIAPIPE:
            poses = to_camera(poses)
        return map_joints(poses, mapping, channels)

    return read_line


def answer_lines(args: argparse.Namespace, recogniser: Recogniser, lines: BinaryIO, out: TextIO) -> int:
    """Print the answers for frames that arrive line by line; returns the number of frames."""
    read_line = line_reader(args, recogniser)
    stream = recogniser.stream(
        window=args.window,
        stride=args.stride,
        frame_rate=args.frame_rate,
        repeat=args.repeat or 1,
        limits=limits_of(args),
    )

    def tell(content: dict[str, Any]) -> None:
        print(json.dumps(content, ensure_ascii=False), file=out, flush=True)

    number = 0
    while line := lines.readline(LONGEST_LINE):
        number += 1
        if not line.strip():
            continue
        try:
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = lines.readline(LONGEST_LINE)
                raise RecordingError(None, f"longer than {LONGEST_LINE} bytes")
            answers = stream.push(read_line(line))
        except ValueError as error:
            tell({"error": error.reason if isinstance(error, RecordingError) else str(error), "line": number})
            continue
        for answer in answers:
            tell(as_object(answer, args))
    for answer in stream.finish():
        tell(as_object(answer, args))
    return stream.num_frame


def as_object(answer: Answer, args: argparse.Namespace) -> dict[str, Any]:
    """A stream's answer, ready for JSON."""
    best, probability = answer.top[0] if answer.top else (NONE, 0.0)
    seconds = None if np.isnan(answer.seconds) else round(answer.seconds, 3)
    return {
        "frame": answer.frame,
        "seconds": seconds,
        "answer": best if probability >= args.threshold else NONE,
        "top": [[name, round(p, 6)] for name, p in answer.top[: args.top]],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all recordings answered, 1 not all or none, 2 wrong usage or config."""
    args = parse(argv)
    return status_of(lambda: infer(args))


def infer(args: argparse.Namespace) -> int:
    """Answer the recordings that the command line names; returns the exit status."""
    if args.out is not None:
        prepare_answers(args.out, overwrite=args.overwrite)
    if args.html is not None:
        check_package()
        refuse_existing(args.html, overwrite=args.overwrite)
    model = load(args)
    if args.recordings == ["-"]:
        if isinstance(model, PosePredictor):
            raise ValueError("a stream needs weights of recognition, and these are of prediction")
        if not answer_lines(args, model, sys.stdin.buffer, sys.stdout):
            raise ValueError("standard input had no frame")
        return 0
    trained = model.members[0]
    answers = Answers(
        trained.class_names,
        trained.skeleton,
        out=args.out,
        top=args.top,
        threshold=args.threshold,
        animated=args.animate,
        html=args.html,
    )
    if isinstance(model, PosePredictor):
        predict(args, model, answers)
    else:
        recognise(args, model, answers)
    return answers.finish()


if __name__ == "__main__":
    sys.exit(main())
