"""What a command line says of recordings that their files do not."""

import argparse

from feeder.recordings.axes import check_axes
from feeder.recordings.gaps import MAX_GAP
from feeder.recordings.linking import LinkLimits
from feeder.recordings.reading import METRES, Unstated
from net.utils.skeleton import Skeleton


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `unstated_of` reads."""
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
        help="detections may be one person where their joints are less apart than that share of the body, "
        "from where the person is expected (default %(default)s)",
    )
    add(
        "--link_gap",
        type=_count,
        default=LinkLimits().gap,
        metavar="N",
        help="frames that a person may be away for (default %(default)s)",
    )


def limits_of(args: argparse.Namespace) -> LinkLimits:
    """Which detections may be one person."""
    return LinkLimits(args.link_distance, args.link_gap)


def unstated_of(
    args: argparse.Namespace, skeleton: Skeleton, *, stated: bool, channels: str = "xyz"
) -> Unstated:
    """What readers are told; see `Unstated` for the arguments."""
    return Unstated(
        skeleton,
        METRES[args.unit],
        stated=stated,
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
