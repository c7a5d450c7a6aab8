"""Data sets that other projects left on disk: arrays (N, C, T, V, M) of clips with pickled names and labels.

Shapes: N clips, C channels, T frames, V joints, M bodies, R rows (poses).
"""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feeder.plain_pickle import load_plain_pickle
from feeder.prepared import MAX_CLASS, PARTS, Prepared, open_prepared
from feeder.recordings.array import map_npy
from feeder.recordings.recording import RecordingError, refuse_other_units
from net.utils.channels import in_plane
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

# What the array's file is called, and whether its last frames may be padding.
KINDS = {"position": False, "data": True, "data_joint": True, "data_joint_pad": False}
# Single files of arrays: the command that prepares them, and whose they are.
COMMANDS = {
    ".npz": ("ctrgcn_gen_preprocess.py", "CTR-GCN's"),
    ".pkl": ("pyskl_gen_preprocess.py", "PYSKL's or MMAction2's"),
}
NUM_LOOKED_AT = 16  # clips whose unit is looked at
SCAN_BYTES = 64 << 20
# Clips of NTU RGB+D, as most such folders have them: S001C002P003R002A013.
NTU_NAME = r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})"


class ArrayFolder:
    """A folder with `<part>_<kind>.npy` (N, C, T, V, M) and `<part>_label.pkl` ((names, labels)), parts train and val.

    Kinds: `position` (AimCLR's 50 frames), `data` (ST-GCN's 300 frames, padded with zeros, whose padding is
    not read as frames), `data_joint` (2s-AGCN's and MS-G3D's, where zeros are padding, too, but most clips are padded
    by repetition, which is read) and `data_joint_pad` (AS-GCN's, padded by repetition).

    Labels are numbers of classes, of any type, or rows of a one-hot array.

    Offers what `Prepared` offers but `joints` and `start`. Its one benchmark is named as the folder. Arrays
    are memory-mapped; opening one reads a third of it (the first channel), to see which bodies and frames
    are there. Its `keys` are those of NTU RGB+D's names, where all clips have such names; else there are none.

    Args:
        path: the folder.
        layout: of the V joints; see `net.utils.layouts.get_skeleton`.
        first_label: the number of the first class; None for 0, and labels from 1 are refused.
        channels: what the numbers of a joint are where there are three: "xyz" or "xyc"; two are "xy".

    Raises:
        FileNotFoundError: a file of the four is missing.
        ValueError: several kinds in one folder, a file that is not what it should be, or a pickle that holds more
            than lists, tuples, strings, numbers and NumPy arrays (nothing of it is run).
    """

    frame_rate = float("nan")

    def __init__(
        self,
        path: str | Path,
        layout: str | Skeleton,
        first_label: int | None = None,
        channels: str = "xyz",
    ) -> None:
        self.path = Path(path).absolute()
        self._said = channels
        self.skeleton = get_skeleton(layout)
        self._files = _find_arrays(self.path)
        self._open()
        self._refuse_other_units()
        padded = KINDS[_kind(self._files["train"])]
        names, labels, num_frame, num_body = [], [], [], []
        for part in PARTS:
            array = self._arrays[part]
            part_names, part_labels = _read_labels(self.path / f"{part}_label.pkl", len(array))
            names += part_names
            labels.append(part_labels)
            frames, bodies = _scan(array, padded)
            num_frame.append(frames)
            num_body.append(bodies)
        self.name = np.array(names)
        numbers = pd.Series(names).str.extract(rf"^{NTU_NAME}(?:\.skeleton)?$")
        self.keys: dict[str, np.ndarray] = {}
        if numbers.notna().all(axis=None):
            self.keys = {str(key): numbers[key].to_numpy(np.int64) for key in numbers}
        self.label = _from_zero(np.concatenate(labels), first_label, self.path)
        self.num_frame, self.num_body = np.concatenate(num_frame), np.concatenate(num_body)
        self.class_names = [str(label) for label in range(self.label.max() + 1)]
        boundary = len(self._arrays["train"])
        split = {"train": np.arange(boundary), "val": np.arange(boundary, len(self.label))}
        self.splits = {self.path.name: split}
        self.attrs = {"source": str(self.path), "bodies": "as in the arrays"}

    @property
    def layout(self) -> str:
        """Name of the skeleton's layout."""
        return self.skeleton.name

    @property
    def num_channel(self) -> int:
        """C."""
        return self._arrays["train"].shape[1]

    @property
    def channels(self) -> str:
        """A letter for each of C; see `net.utils.channels`."""
        if len(self._said) == self.num_channel:
            return self._said
        return "xyz"[: self.num_channel]

    @property
    def unit(self) -> str:
        """Of the coordinates."""
        return "px" if in_plane(self.channels) else "m"

    def __len__(self) -> int:
        return len(self.label)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._arrays = {part: _map_array(file, self.skeleton) for part, file in self._files.items()}

    def _refuse_other_units(self) -> None:
        """Raise ValueError if the first clips cannot be in metres, and are not in the picture."""
        if in_plane(self.channels):
            return
        poses = self._arrays["train"][:NUM_LOOKED_AT].transpose(0, 4, 2, 3, 1)
        try:
            refuse_other_units(
                poses,
                "divide them by 1000 where they are in millimetres",
                in_picture="set data.channels=xyc where they are x, y and confidence in a picture",
            )
        except RecordingError as error:
            raise ValueError(f"{self._files['train']}: {error}") from None

    def read(self, clips: np.ndarray) -> np.ndarray:
        """Rows of some clips end to end: (sum of M_i * T_i over `clips` (n,), V, C) float32, a copy.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        size = self.num_frame[clips] * self.num_body[clips]
        boundary = len(self._arrays["train"])
        channels, joints = self._arrays["train"].shape[1], self.skeleton.num_joint
        rows = np.empty((int(size.sum()), joints, channels), np.float32)
        end = np.cumsum(size)
        for clip, first, last in zip(np.asarray(clips).tolist(), end - size, end, strict=True):
            part, place = ("train", clip) if clip < boundary else ("val", clip - boundary)
            poses = self._arrays[part][place][:, : self.num_frame[clip], :, : self.num_body[clip]]
            rows[first:last] = poses.transpose(3, 1, 2, 0).reshape(-1, joints, channels)
            if not np.isfinite(rows[first:last]).all():
                raise ValueError(
                    f"{self._files[part]}: clip '{self.name[clip]}' holds NaN or infinity; remove it"
                )
        return rows


def open_source(
    path: str | Path,
    layout: str | Skeleton,
    first_label: int | None = None,
    channels: str = "xyz",
) -> Prepared | ArrayFolder:
    """A prepared file, or a folder of arrays, whose joints are of `layout` and have `channels`.

    A prepared file knows its own of either.

    Raises:
        FileNotFoundError, ValueError: see `open_prepared` and `ArrayFolder`; or a file of a single array is there, or
            `first_label` is given for a prepared file.
    """
    suffix = Path(path).suffix if Path(path).is_file() else None
    if suffix in COMMANDS:
        command, whose = COMMANDS[suffix]
        made = Path(path).with_suffix(".h5").name
        raise ValueError(
            f"{path} is one file of arrays; if it is {whose}, prepare it with `python data_gen/{command} --data_path "
            f"{shlex.quote(str(path))}` and set {shlex.quote(f'data.path=data/{made}')}; of other arrays give the "
            "folder, with <part>_label.pkl"
        )
    if suffix == ".npy":
        raise ValueError(
            f"{path} is one file of arrays; give the folder of {_names_of_arrays('<part>')} with <part>_label.pkl, or "
            "prepare the raw clips"
        )
    if Path(path).is_dir():
        return ArrayFolder(path, layout, first_label, channels)
    prepared = open_prepared(path)
    if first_label is not None:
        raise ValueError(
            f"data.first_label is {first_label}, but {path} is a prepared file, whose classes count from 0; "
            "leave data.first_label out"
        )
    return prepared


def _kind(file: Path) -> str:
    return file.stem.split("_", 1)[1]


def _names_of_arrays(part: str) -> str:
    *first, last = (f"{part}_{kind}.npy" for kind in KINDS)
    return f"{', '.join(first)} or {last}"


def _find_arrays(folder: Path) -> dict[str, Path]:
    """The array of each part; both are of one kind."""
    found = [kind for kind in KINDS if (folder / f"train_{kind}.npy").exists()]
    if len(found) > 1:
        files = " and ".join(f"train_{kind}.npy" for kind in found)
        raise ValueError(f"{folder} holds {files}; which is meant is not clear: leave one kind in the folder")
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no {_names_of_arrays('train')}; give the folder of one benchmark (such as …/xsub), or a "
            "prepared file"
        )
    paths = {part: folder / f"{part}_{found[0]}.npy" for part in PARTS}
    for file in (*paths.values(), *(folder / f"{part}_label.pkl" for part in PARTS)):
        if not file.exists():
            raise FileNotFoundError(
                f"{file} is missing beside {paths['train'].name}; copy it there, or prepare the raw clips"
            )
    return paths


def _map_array(file: Path, skeleton: Skeleton) -> np.ndarray:
    try:
        array = map_npy(file)
    except ValueError as error:
        raise ValueError(f"{file} is {error}; copy it again, or save it anew with numpy.save") from None
    if array.ndim != 5 or array.dtype.kind != "f" or 0 in array.shape:
        raise ValueError(f"{file} holds {array.dtype} {array.shape}; needed are floats (N, C, T, V, M)")
    if array.shape[3] != skeleton.num_joint:
        raise ValueError(
            f"{file} has {array.shape[3]} joints, layout {skeleton.name!r} has {skeleton.num_joint}; "
            "change data.layout"
        )
    return array


def _scan(array: np.ndarray, padded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frames and bodies of each clip, int64: up to the last that is not empty, if `padded`; 1 or more of each."""
    num_clip, _, num_frame, num_joint, num_body = array.shape
    frames, bodies = np.empty(num_clip, np.int64), np.empty(num_clip, np.int64)
    block = max(1, SCAN_BYTES // (num_frame * num_joint * num_body * array.itemsize))
    for first in range(0, num_clip, block):
        seen = (array[first : first + block, 0] != 0).any(2)  # (n, T, M)
        frames[first : first + block] = _last(seen.any(2)) if padded else num_frame
        bodies[first : first + block] = _last(seen.any(1))
    return frames, bodies


def _last(seen: np.ndarray) -> np.ndarray:
    """Length of each row of (n, k) up to its last True; 1 where there is none."""
    length = seen.shape[1] - seen[:, ::-1].argmax(1)
    return np.where(seen.any(1), length, 1)


def _read_labels(file: Path, num_clip: int) -> tuple[list[str], np.ndarray]:
    """Names and labels (N,) int64 of a part's clips."""
    content = load_plain_pickle(file)
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise ValueError(
            f"{file} holds {_described(content)}; needed is the pair (names, labels), each with one entry a clip"
        )
    names, labels = (_entries(each, num_clip) for each in content)
    if not len(names) == len(labels) == num_clip:
        raise ValueError(
            f"{file} has {len(names)} names and {len(labels)} labels for the {num_clip} clips of the array beside "
            "it; take both from the same preparation"
        )
    return [_name_of(name, file) for name in names], np.array([_class_of(each, file) for each in labels])


def _described(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple)) else "")


def _entries(values: Any, num_clip: int) -> list[Any]:
    """One entry a clip, of a list or an array; of an array of one value a clip, these whatever its shape."""
    if isinstance(values, np.ndarray) and (values.ndim == 0 or values.size == num_clip):
        values = values.reshape(-1)
    return list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]


def _name_of(name: Any, file: Path) -> str:
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    # Lists of lists of one list, of a few bytes, are text without end.
    if not isinstance(name, (str, int, float, np.generic)):
        raise ValueError(f"{file} has a {type(name).__name__} among the names of clips; these are strings")
    return str(name)


def _class_of(label: Any, file: Path) -> int:
    """The class that a label means: a whole number of any type, alone or in a row, or a one-hot row."""
    row = list(label) if isinstance(label, (list, tuple, np.ndarray)) else [label]
    numbers = [value.item() if isinstance(value, np.generic) else value for value in row]
    if not all(isinstance(value, (int, float)) for value in numbers):
        kind = next(type(value).__name__ for value in numbers if not isinstance(value, (int, float)))
        raise ValueError(
            f"{file} has a {kind} for a label; labels are numbers of classes from 0, or one-hot rows"
        )
    if len(numbers) > 1:
        if sorted(numbers) != [0] * (len(numbers) - 1) + [1]:
            raise ValueError(
                f"{file} has a row of {len(numbers)} numbers for a label, not one of them 1 and all others 0; "
                "give the number of the class, or a one-hot row"
            )
        return numbers.index(1)
    (value,) = numbers
    if isinstance(value, bool) or not 0 <= value < MAX_CLASS or value % 1:
        raise ValueError(f"{file} has label {value!r}; labels are whole numbers from 0, below {MAX_CLASS:,}")
    return int(value)


def _from_zero(label: np.ndarray, first_label: int | None, path: Path) -> np.ndarray:
    """Labels (N,) counted from 0, of labels counted from `first_label`."""
    lowest = int(label.min())
    if first_label is None and lowest == 1:
        raise ValueError(
            f"the labels of {path} are {lowest} to {label.max()}, and classes count from 0; set data.first_label=1 "
            "if 1 is the first class, or data.first_label=0 if class 0 has no clip"
        )
    if lowest < (first := first_label or 0):
        raise ValueError(f"{path} has label {lowest}, but data.first_label is {first}; set it to {lowest}")
    return label - first
