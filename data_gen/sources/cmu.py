"""CMU motion capture as papers on pose prediction use it: folders `train` and `test`, with a folder for each action.

A file has a row per frame, 60 a second: the place of the body (3 numbers), then a rotation vector (exponential map) in
radians of each of 38 joints. A clip has every second frame. A test file gives one clip, of its even frames, as in the
papers. A training file gives a second one, of its odd frames.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen.cmu_kinematics import SKELETON, joint_positions
from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Problem, Splits, problem_of
from feeder.prepared import PARTS
from feeder.recordings.recording import RecordingError
from feeder.recordings.rows import parse_rows

FOLDERS = dict(zip(PARTS, ("train", "test"), strict=True))
BENCHMARK = "split"
# Of the published folders, but in no experiment of the papers.
UNUSED = "walking_extra"
RECORDED_RATE, STEP = 60, 2
PLACE_VALUES = 3
NUM_VALUE = PLACE_VALUES + 3 * SKELETON.num_joint
# Endings of the names of a file's clips: the first clip has the even frames, the second one the odd frames.
ENDINGS = dict(zip(PARTS, (("", "_odd"), ("",)), strict=True))
MIN_KEPT = 2  # frames of a clip
MIN_FRAME = STEP * (MIN_KEPT - 1) + 1
MAX_ANGLE = 2 * np.pi
NUM_ACTION = 8  # of the papers, which the recipe expects
EXAMPLE = "walking/walking_1.txt"


class Item(NamedTuple):
    """A file: its part of `PARTS`, its action, and its number among the files of the action."""

    path: Path
    part: str
    action: str
    number: int


def parse_poses(data: bytes) -> np.ndarray:
    """Poses (T, 38, 3) float32 in metres, 60 frames a second, of the content of a file.

    Raises:
        RecordingError: a row is not 117 finite numbers, there are fewer than three rows, or angles are not in radians.
    """
    rows = parse_rows(data, NUM_VALUE, delimiter=",")
    if len(rows) < MIN_FRAME:
        raise RecordingError(
            None, f"{len(rows)} frame(s); needed are {MIN_FRAME} at least, as every second one is kept"
        )
    vectors = rows[:, PLACE_VALUES:].reshape(-1, SKELETON.num_joint, 3).astype(np.float64)
    angle = np.linalg.norm(vectors[:, 1:], axis=-1).max()  # that of the root is not used
    if angle > MAX_ANGLE:
        raise RecordingError(
            None, f"a joint turns by {angle:.4g} rad, more than once around; give the angles in radians"
        )
    return joint_positions(vectors).astype(np.float32)


def find_files(data_path: Path, part: str) -> Iterator[Item | Problem]:
    """The files of a part, in order of paths; a problem for each one whose name is not `<action>_<number>.txt`.

    Those of the folder `UNUSED` are left out.

    Raises:
        NotADirectoryError: no such folder.
    """
    folder = data_path / FOLDERS[part]
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is not a folder; --data_path is the folder that holds train/{EXAMPLE} and test/{EXAMPLE}"
        )
    for path in sorted(folder.glob("*/*.txt")):
        action = path.parent.name
        if action == UNUSED:
            continue
        number = re.fullmatch(rf"{re.escape(action)}_(\d{{1,9}})", path.stem)
        if number is None:
            yield Problem(path, None, f"the file's name is not {action}_<number>.txt, as its folder says")
        else:
            yield Item(path, part, action, int(number[1]))


class CmuSource(ItemSource):
    """The files of both parts; the names of the folders are the actions.

    Raises:
        NotADirectoryError, FileNotFoundError: there is no folder of a part, or no file in it.
    """

    layout = SKELETON.name
    frame_rate = RECORDED_RATE / STEP
    bodies = "one"
    source = "cmu_mocap"
    default_out = Path("data", "cmu.h5")
    recipe = "config/cmu/predict_mixer.yaml"
    recipe_task = "prediction"
    recipe_classes = 1
    items: list[Item]
    problems: list[Problem]

    def __init__(self, data_path: Path) -> None:
        self.items, self.problems = [], []
        for part in PARTS:
            found = list(find_files(data_path, part))
            items = [each for each in found if isinstance(each, Item)]
            if not items:
                raise FileNotFoundError(
                    f"no file such as {EXAMPLE} in {data_path / FOLDERS[part]}; both parts need files"
                )
            self.items += items
            self.problems += [each for each in found if isinstance(each, Problem)]
        unused = sum(1 for _ in data_path.glob(f"*/{UNUSED}/*.txt"))
        self.left_out = {f"of {UNUSED}": unused} if unused else {}
        self.class_names = sorted({item.action for item in self.items})
        num_class = len(self.class_names)
        self.recipe_settings = {} if num_class == NUM_ACTION else {"data.num_class": num_class}

    def read(self, item: Item) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        try:
            poses = parse_poses(item.path.read_bytes())
        except (RecordingError, OSError) as error:
            return [problem_of(item.path, error)]
        label, keys = self.class_names.index(item.action), {"sequence": item.number}
        name = f"{FOLDERS[item.part]}_{item.path.stem}"
        return [
            Clip(name + ending, label, poses[None, first::STEP], keys)
            for first, ending in enumerate(ENDINGS[item.part])
            if len(poses[first::STEP]) >= MIN_KEPT
        ]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        parts = {
            part: [index for index, clip in enumerate(kept) if clip.name.startswith(f"{folder}_")]
            for part, folder in FOLDERS.items()
        }
        return {BENCHMARK: parts}

    def notes(self, kept: Sequence[Kept]) -> Sequence[str]:
        """See `Source.notes`: actions that only one part has."""
        labels = [{kept[clip].label for clip in clips} for clips in self.splits(kept)[BENCHMARK].values()]
        notes = []
        for what, only in (("trained", labels[0] - labels[1]), ("tested", labels[1] - labels[0])):
            if only:
                notes.append(f"only {what}: {', '.join(self.class_names[label] for label in sorted(only))}")
        return notes
