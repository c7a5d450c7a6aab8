"""Command-line options for facts that the files of recordings do not state."""

import argparse

from feeder.recordings.axes import check_axes
from feeder.recordings.gaps import MAX_GAP
from feeder.recordings.linking import LinkLimits
from feeder.recordings.reading import METRES, ReadOptions
from net.utils.skeleton import Skeleton


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `read_options_of` and `limits_of` read."""
    add = parser.add_argument
    add("--unit", choices=list(METRES), default="m", help="of files that do not say (default m)")
    add(
        "--axes",
        type=_axes,
        metavar="ORDER",
        help="of arrays: m bodies, t frames, v joints, c channels, such as vct",
    )
    add("--variable", metavar="NAME", help="the array of .npz and .mat files that hold several")
    add("--picture", type=_size, metavar="WxH", help="pixels of the picture, for poses in it")
    add(
        "--max_gap",
        type=_count,
        metavar="N",
        help="frames over which joints that were not seen are interpolated (default: "
        f"{MAX_GAP} for what pose estimators wrote; other arrays in space may then hold no NaN)",
    )
    add(
        "--link_distance",
        type=_share,
        default=LinkLimits().distance,
        metavar="D",
        help="largest distance between a detection and the expected place of a person, as a share of the body's size "
        "(default %(default)s)",
    )
    add(
        "--link_gap",
        type=_count,
        default=LinkLimits().gap,
        metavar="N",
        help="number of frames that a person may be absent (default %(default)s)",
    )


def limits_of(args: argparse.Namespace) -> LinkLimits:
    """The limits for linking detections into one person."""
    return LinkLimits(args.link_distance, args.link_gap)


def read_options_of(
    args: argparse.Namespace, skeleton: Skeleton, *, layout_given: bool, channels: str = "xyz"
) -> ReadOptions:
    """The options of readers; see `ReadOptions` for the arguments."""
    return ReadOptions(
        skeleton,
        METRES[args.unit],
        layout_given=layout_given,
        channels=channels,
        axes=args.axes,
        variable=args.variable,
        picture=args.picture,
        max_gap=args.max_gap,
        limits=limits_of(args),
    )


def _axes(text: str) -> str:
    try:
        return check_axes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> tuple[int, int]:
    """(width, height) of "640x480"."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(
            f"is {text!r}; give width and height in pixels, 1 or more, such as 640x480"
        )
    return int(width), int(height)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"is {text}; give a whole number, 0 or more")
    return int(text)


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"is {text}; give 0 or more")
    return number
