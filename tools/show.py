"""Look at data: a summary, sheets of poses, animations, and pages to play clips on.

    python tools/show.py data/nw_ucla.h5
    python tools/show.py data/nw_ucla.h5 --random 9
    python tools/show.py clip.skeleton --out clip.gif
    python tools/show.py data/nw_ucla.h5 --random 20 --html clips.html

FILE is a prepared .h5 file, or a recording or a folder of recordings as `tools/infer.py` reads them. The command
prints a summary. With NAME, --random, --out or --html it also draws clips: a sheet (PNG), or one clip as an animation
(GIF, and an MP4 too where ffmpeg is installed), or a page for a browser.

Each body has a hue, darker on its left side and lighter on its right. Bones of low confidence are faint.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from torchlight.threads import wait_passively

    wait_passively()

import numpy as np

from feeder.prepared import open_prepared, refuse_existing
from feeder.recordings.arguments import add_reading_arguments, read_options_of
from feeder.recordings.array import read_values
from feeder.recordings.files import PREPARED, Recorded, find_recordings, read_recordings
from feeder.recordings.recording import RecordingError
from net.utils.layouts import get_skeleton
from processor.animation import animate
from processor.displayed import Shown, of_prepared, of_recorded, up_of
from processor.figures import shorten
from processor.fonts import legible
from processor.page import MOST_CLIPS, PageTable, check_package, write_page
from processor.sheet import MOST_ROWS, draw_sheet
from processor.summary import Summary, summary_of_prepared, summary_of_recordings
from torchlight.build import nearest
from torchlight.files import make_folder_of
from torchlight.status import status_of

SHEET, ANIMATION = ".png", ".gif"
# Largest number of clips of a file, by suffix.
MOST = {SHEET: MOST_ROWS, ANIMATION: 1}
# Largest number of letters above an animation.
LETTERS = 48
# Number of clips that are drawn without NAME and --random.
NUM_SHEET, NUM_PAGE = 9, 20
# Default layout of the reader; files that state their layout do not use it.
ANY_LAYOUT = "ntu-rgb+d"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="show.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a prepared file, a recording, or a folder of recordings")
    add("names", nargs="*", metavar="NAME", help="clips to draw")
    add("--random", type=int, metavar="N", help="draw N clips, drawn at random")
    add("--seed", type=int, default=0, metavar="S", help="of --random (default %(default)s)")
    add("--out", type=Path, metavar="FILE", help="a .png or .gif file (default: FILE's name with .png, here)")
    add("--html", type=Path, metavar="FILE", help="write a page that plays the clips in a browser")
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--layout", metavar="NAME", help="joints of files that do not say")
    add_reading_arguments(parser)
    add("--frame_rate", type=float, metavar="F", help="of files that do not say")
    args = parser.parse_intermixed_args(argv)  # names may stand after options
    if args.names and args.random is not None:
        parser.error("give names, or --random, not both")
    if args.random is not None and args.random < 1:
        parser.error(f"--random is {args.random}; give 1 or more")
    if args.frame_rate is not None and not 0 < args.frame_rate < float("inf"):
        parser.error(f"--frame_rate is {args.frame_rate}; give a number above 0")
    if args.out is not None and args.out.suffix.lower() not in MOST:
        parser.error(
            f"--out is {args.out}; its name ends with {SHEET} (a sheet) or {ANIMATION} (an animation)"
        )
    return args


def read_all(args: argparse.Namespace) -> list[Shown]:
    """All recordings of a file or folder that can be read; the others are named on standard error.

    Raises:
        ValueError: none can be read.
    """
    clips = []
    for name, path in find_recordings(args.file).items():
        found = read_one(name, path, args)
        if isinstance(found, Shown):
            clips.append(found)
        else:
            print(f"{path}: {found}", file=sys.stderr)
    if not clips:
        raise ValueError(f"{args.file} holds no recording that can be read")
    return clips


def read_one(name: str, path: Path, args: argparse.Namespace) -> Shown | RecordingError:
    """The recording of a file, or the error of reading it."""
    if path.suffix.lower() in PREPARED:
        return RecordingError(
            None, "a prepared file cannot be shown with others: name it instead of its folder"
        )
    skeleton, stated = get_skeleton(args.layout or ANY_LAYOUT), args.layout is not None
    (found,) = read_recordings(name, path, read_options_of(args, skeleton, layout_given=stated), bodies="")
    if isinstance(found, Recorded) and (stated or found.skeleton is not None):
        return of_recorded(found, skeleton, args.frame_rate)
    if isinstance(found, RecordingError) and (stated or not _holds_array(path, args.variable)):
        return found
    why = f"{found.reason}; " if isinstance(found, RecordingError) else ""
    return RecordingError(None, f"{why}the file does not say which joints it holds: give --layout")


def _holds_array(path: Path, variable: str | None) -> bool:
    """Whether a file can be read as an array, of any joints."""
    try:
        read_values(path, variable)
    except RecordingError:
        return False
    return True


def chosen(names: Sequence[str], args: argparse.Namespace) -> list[int]:
    """Indices of the clips to draw: those that are named, or some drawn at random, or all.

    Raises:
        ValueError: there is no clip with a name.
    """
    if args.random is not None:
        drawn = np.random.default_rng(args.seed).permutation(len(names))[: args.random]
        return np.sort(drawn).tolist()
    if not args.names:
        return list(range(len(names)))
    number = {name: clip for clip, name in enumerate(names)}
    for name in args.names:
        if name not in number:
            raise ValueError(f"{args.file} has no clip {name!r}; {nearest(name, names)}")
    return [number[name] for name in dict.fromkeys(args.names)]


def draw(clips: Sequence[Shown], out: Path) -> list[Path]:
    """Write a sheet, or the animation of one clip; returns the files. Their folder is made if needed."""
    make_folder_of(out)
    if out.suffix.lower() == SHEET:
        draw_sheet(clips, out)
        return [out]
    (clip,) = clips
    with legible([f"{clip.name}: {clip.title}"]) as (title,):
        return animate(
            clip.tracks,
            clip.skeleton,
            [shorten(title, LETTERS)] * clip.tracks.shape[1],
            out,
            frame_rate=clip.frame_rate,
            confidence=clip.confidence,
            up=clip.up,
        )


def refuse_many(file: Path, count: int, most: int) -> None:
    """Raise ValueError if a file cannot show that many clips."""
    if count > most:
        raise ValueError(
            f"there are {count} clips to show, but {file} shows at most {most}; name some, or give --random {most}"
        )


class Source(NamedTuple):
    """Names of the clips of a file or folder, a function that reads a clip by index, and one for the summary."""

    names: list[str]
    read: Callable[[int], Shown]
    summary: Callable[[], Summary]


def open_source(args: argparse.Namespace) -> Source:
    """The clips of the file or folder that the command line names."""
    if args.file.suffix.lower() in PREPARED and not args.file.is_dir():
        prepared = open_prepared(args.file)
        up = up_of(prepared)
        return Source(
            list(map(str, prepared.name)),
            lambda clip: of_prepared(prepared, clip, up),
            lambda: summary_of_prepared(prepared),
        )
    clips = read_all(args)
    summary = partial(summary_of_recordings, str(args.file), clips)
    return Source([clip.name for clip in clips], clips.__getitem__, summary)


def show(args: argparse.Namespace) -> None:
    """Print the summary, and draw the clips that the command line names."""
    if args.html is not None:
        check_package()
        refuse_existing(args.html, overwrite=args.overwrite)
    asked = bool(args.names or args.random is not None)
    out = Path(args.file.stem + SHEET) if asked and args.html is None and args.out is None else args.out
    if out is not None:
        refuse_existing(out, overwrite=args.overwrite)
    names, read, summary = open_source(args)
    picked = chosen(names, args)
    on_sheet, on_page = (picked if asked else picked[:default] for default in (NUM_SHEET, NUM_PAGE))
    if out is not None:
        refuse_many(out, len(on_sheet), MOST[out.suffix.lower()])
    if args.html is not None:
        refuse_many(args.html, len(on_page), MOST_CLIPS)
    found = summary()
    print(found)
    if out is not None:
        clips = [read(clip) for clip in on_sheet]
        written = draw(clips, out)
        print(f"{', '.join(map(str, written))}: {counted(clips)}")
    if args.html is not None:
        clips = [read(clip) for clip in on_page]
        classes = None if found.classes is None else found.classes.rename_axis("class").reset_index()
        tables = [] if classes is None else [PageTable("Clips of each class and part", classes)]
        write_page(args.html, args.file.name, clips, notes=found.lines, tables=tables)
        print(f"{args.html}: {counted(clips)}, {args.html.stat().st_size / 1e6:.1f} MB")


def counted(clips: Sequence[Shown]) -> str:
    """The number of clips, as text."""
    return f"{len(clips)} clip{'s' if len(clips) != 1 else ''}"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 shown, 1 not, 2 wrong usage."""
    args = parse(argv)
    return status_of(lambda: show(args))


if __name__ == "__main__":
    sys.exit(main())
