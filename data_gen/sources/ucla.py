"""Northwestern-UCLA Multiview Action 3D: a folder of JSON files.

Each file holds {"file_name", "skeletons": [T][20][3], "label": 1 to 10}. The joints are those of Kinect v1, in metres.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_gen.sources.source import Clip, Entry, ItemSource, Kept, Splits, problem_of
from feeder.prepared import PARTS
from feeder.recordings.json_files import parse_json
from feeder.recordings.recording import RecordingError
from feeder.recordings.ucla import LAYOUT, poses_of

NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
KEYS = ("action", "subject", "sequence", "view")
# Name of an action by its number in the file's name. Labels number the actions without gaps.
ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}
LABEL = {action: label for label, action in enumerate(ACTIONS)}
# Numbers that a clip's name can have.
ALLOWED = {"action": tuple(ACTIONS), "subject": tuple(range(1, 11)), "view": (1, 2, 3)}
# Benchmark -> the key that splits clips, its values in the training part, and those in the test part.
# view12 and view21 are for choices: they have no clip of view 3, which xview tests.
SPLITS = {
    "xview": ("view", (1, 2), (3,)),
    "xsub": ("subject", tuple(range(1, 8)), (8, 9, 10)),
    "view12": ("view", (1,), (2,)),
    "view21": ("view", (2,), (1,)),
}


def parse_name(name: str) -> dict[str, int]:
    """The numbers in a clip's name, such as a01_s02_e03_v01, by `KEYS`.

    Raises:
        RecordingError: the name is not of that form, or there is no such action, subject or view.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise RecordingError(None, f"{name!r} is not a clip's name like a01_s02_e03_v01")
    numbers = dict(zip(KEYS, map(int, match.groups()), strict=True))
    for key, allowed in ALLOWED.items():
        if numbers[key] not in allowed:
            shown = ", ".join(map(str, allowed))
            raise RecordingError(None, f"{name!r} is of {key} {numbers[key]}; {key}s are {shown}")
    return numbers


def parse_clip(name: str, data: bytes) -> np.ndarray:
    """Poses (1, T, 20, 3) float32 of the content of a file, zero in frames without a skeleton.

    Raises:
        RecordingError: the content is not of the format, is of another clip, or holds no skeleton.
    """
    content = parse_json(data)
    poses = poses_of(content)
    expected = {"file_name": name, "label": 1 + LABEL[parse_name(name)["action"]]}
    for key, value in expected.items():
        if content.get(key) != value:
            raise RecordingError(None, f"{key} is {content.get(key)!r}, but the file's name means {value!r}")
    return poses[None]


def find_clips(data_path: Path) -> list[Path]:
    """JSON files of a folder, in order of names.

    Raises:
        NotADirectoryError, FileNotFoundError: no such folder, or no JSON file in it.
    """
    if not data_path.is_dir():
        raise NotADirectoryError(f"--data_path {data_path} is not a folder")
    paths = sorted(data_path.glob("*.json"))
    if not paths:
        raise FileNotFoundError(
            f"no .json file in --data_path {data_path}; give the folder that holds a01_s01_e00_v01.json, ..."
        )
    return paths


class UclaSource(ItemSource):
    """The JSON files of a folder."""

    layout = LAYOUT
    class_names = tuple(ACTIONS.values())
    frame_rate = 30.0
    bodies = "one"
    source = "nw_ucla"
    default_out = Path("data", "nw_ucla.h5")
    official = {"xview": (1020, 464)}
    recipe = "config/nw_ucla/long_term_st_gcn.yaml"
    items: Sequence[Path]

    def __init__(self, data_path: Path) -> None:
        self.items = find_clips(data_path)

    def read(self, path: Path) -> Sequence[Entry]:
        """See `ItemSource.read`."""
        name = path.stem
        try:
            poses = parse_clip(name, path.read_bytes())
        except (RecordingError, OSError) as error:
            return [problem_of(path, error)]
        numbers = parse_name(name)
        return [Clip(name, LABEL[numbers["action"]], poses, numbers)]

    def splits(self, kept: Sequence[Kept]) -> Splits:
        """See `Source.splits`."""
        return {
            benchmark: {
                part: [index for index, clip in enumerate(kept) if clip.keys[key] in values]
                for part, values in zip(PARTS, parts, strict=True)
            }
            for benchmark, (key, *parts) in SPLITS.items()
        }
