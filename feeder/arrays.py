"""Data sets in the form of other projects: arrays (N, C, T, V, M) of clips, with pickled names and labels.

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

# Kind of array, as in the file's name: whether zeros at its end are padding, to be cut.
KINDS = {"position": False, "data": True, "data_joint": True, "data_joint_pad": False}
# Suffix of a single file of arrays: the command that prepares it, and the project that writes it.
COMMANDS = {
    ".npz": ("ctrgcn_gen_preprocess.py", "CTR-GCN's"),
    ".pkl": ("pyskl_gen_preprocess.py", "PYSKL's or MMAction2's"),
}
NUM_CHECKED = 16  # clips whose unit is checked
SCAN_BYTES = 64 << 20
# Names of NTU RGB+D's clips, such as S001C002P003R002A013; most such folders have them.
NTU_NAME = r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})"


class ArrayFolder:
    """A folder with `<part>_<kind>.npy` (N, C, T, V, M) and `<part>_label.pkl` ((names, labels)), parts train and val.

    Kinds:
        position: AimCLR's 50 frames.
        data: ST-GCN's 300 frames. Zeros at the end are padding, and are cut.
        data_joint: 2s-AGCN's and MS-G3D's. Zeros at the end are cut; clips padded by repetition keep their padding.
        data_joint_pad: AS-GCN's, padded by repetition; all frames are kept.

    Labels are class numbers of any type, or one-hot rows.

    It has the interface of `Prepared` except `joints` and `start`. The name of the folder is the name of its only
    benchmark. Arrays are memory-mapped. Opening one reads its first channel, to find the bodies and frames that are
    present. If all clips have names like NTU RGB+D's, `keys` holds the numbers in them; else `keys` is empty.

    Args:
        path: the folder.
        layout: of the V joints; see `net.utils.layouts.get_skeleton`.
        first_label: the number of the first class. None means 0, and refuses labels that begin at 1.
        channels: of arrays with three channels: "xyz" or "xyc"; two channels are "xy".

    Raises:
        FileNotFoundError: one of the four files is missing.
        ValueError: several kinds in one folder, a file of another form, or a pickle that holds more than lists,
            tuples, strings, numbers and NumPy arrays (no code of it is run).
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
        self._given_channels = channels
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
        """C, the number of channels."""
        return self._arrays["train"].shape[1]

    @property
    def channels(self) -> str:
        """A letter for each of C; see `net.utils.channels`."""
        if len(self._given_channels) == self.num_channel:
            return self._given_channels
        return "xyz"[: self.num_channel]

    @property
    def unit(self) -> str:
        """Unit of the coordinates: "m" or "px"."""
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
        """Raise ValueError if the first clips are in space but cannot be in metres."""
        if in_plane(self.channels):
            return
        poses = self._arrays["train"][:NUM_CHECKED].transpose(0, 4, 2, 3, 1)
        try:
            refuse_other_units(
                poses,
                "divide them by 1000 if they are in millimetres",
                in_picture="set data.channels=xyc if they are x, y and confidence in a picture",
            )
        except RecordingError as error:
            raise ValueError(f"{self._files['train']}: {error}") from None

    def read(self, clips: np.ndarray) -> np.ndarray:
        """Rows of `clips` (n,) end to end: (sum of M_i * T_i, V, C) float32, a copy.

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
                    f"{self._files[part]}: clip '{self.name[clip]}' holds NaN or infinity; remove the clip"
                )
        return rows


def open_source(
    path: str | Path,
    layout: str | Skeleton,
    first_label: int | None = None,
    channels: str = "xyz",
) -> Prepared | ArrayFolder:
    """Open a prepared file, or a folder of arrays with joints of `layout` and with `channels`.

    A prepared file states its own layout and channels.

    Raises:
        FileNotFoundError, ValueError: see `open_prepared` and `ArrayFolder`.
        ValueError: `path` is a single file of arrays, or `first_label` is given for a prepared file.
    """
    suffix = Path(path).suffix if Path(path).is_file() else None
    if suffix in COMMANDS:
        command, project = COMMANDS[suffix]
        prepared_name = Path(path).with_suffix(".h5").name
        raise ValueError(
            f"{path} is a single file of arrays; if it is {project}, prepare it with `python data_gen/{command} "
            f"--data_path {shlex.quote(str(path))}` and set {shlex.quote(f'data.path=data/{prepared_name}')}; for "
            "other arrays, give the folder, with <part>_label.pkl"
        )
    if suffix == ".npy":
        raise ValueError(
            f"{path} is a single file of arrays; give the folder of {_names_of_arrays('<part>')} with "
            "<part>_label.pkl, or prepare the raw clips"
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
    """The file of each part's array; both are of one kind."""
    found = [kind for kind in KINDS if (folder / f"train_{kind}.npy").exists()]
    if len(found) > 1:
        files = " and ".join(f"train_{kind}.npy" for kind in found)
        raise ValueError(f"{folder} holds {files}; leave one kind of array in the folder")
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no {_names_of_arrays('train')}; give the folder of one benchmark (such as …/xsub), or a "
            "prepared file"
        )
    paths = {part: folder / f"{part}_{found[0]}.npy" for part in PARTS}
    for file in (*paths.values(), *(folder / f"{part}_label.pkl" for part in PARTS)):
        if not file.exists():
            raise FileNotFoundError(
                f"{file} is missing, but {paths['train'].name} is there; copy it there, or prepare the raw clips"
            )
    return paths


def _map_array(file: Path, skeleton: Skeleton) -> np.ndarray:
    try:
        array = map_npy(file)
    except ValueError as error:
        raise ValueError(f"{file} is {error}; copy it again, or save it anew with numpy.save") from None
    if array.ndim != 5 or array.dtype.kind != "f" or 0 in array.shape:
        raise ValueError(f"{file} holds {array.dtype} {array.shape}; it must hold floats (N, C, T, V, M)")
    if array.shape[3] != skeleton.num_joint:
        raise ValueError(
            f"{file} has {array.shape[3]} joints, layout {skeleton.name!r} has {skeleton.num_joint}; "
            "change data.layout"
        )
    return array


def _scan(array: np.ndarray, padded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Number of frames and of bodies of each clip of (N, C, T, V, M): two (N,) int64, 1 or more.

    Empty bodies at the end are not counted; neither are empty frames at the end, if `padded`.
    """
    num_clip, _, num_frame, num_joint, num_body = array.shape
    frames, bodies = np.empty(num_clip, np.int64), np.empty(num_clip, np.int64)
    block = max(1, SCAN_BYTES // (num_frame * num_joint * num_body * array.itemsize))
    for first in range(0, num_clip, block):
        seen = (array[first : first + block, 0] != 0).any(2)  # (n, T, M)
        frames[first : first + block] = _last(seen.any(2)) if padded else num_frame
        bodies[first : first + block] = _last(seen.any(1))
    return frames, bodies


def _last(seen: np.ndarray) -> np.ndarray:
    """Length of each row of `seen` (n, k) up to its last True; 1 if it has none: (n,)."""
    length = seen.shape[1] - seen[:, ::-1].argmax(1)
    return np.where(seen.any(1), length, 1)


def _read_labels(file: Path, num_clip: int) -> tuple[list[str], np.ndarray]:
    """Names and labels (N,) int64 of a part's clips."""
    content = load_plain_pickle(file)
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise ValueError(
            f"{file} holds {_described(content)}; it must hold the pair (names, labels), each with one entry per clip"
        )
    names, labels = (_entries(each, num_clip) for each in content)
    if not len(names) == len(labels) == num_clip:
        raise ValueError(
            f"{file} has {len(names)} names and {len(labels)} labels, but its array has {num_clip} clips; "
            "take both files from the same preparation"
        )
    return [_name_of(name, file) for name in names], np.array([_class_of(each, file) for each in labels])


def _described(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple)) else "")


def _entries(values: Any, num_clip: int) -> list[Any]:
    """The entries of a list or an array. An array of `num_clip` values of any shape is flattened."""
    if isinstance(values, np.ndarray) and (values.ndim == 0 or values.size == num_clip):
        values = values.reshape(-1)
    return list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]


def _name_of(name: Any, file: Path) -> str:
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    # Text of nested lists that share their items grows without bound, from a pickle of a few bytes.
    if not isinstance(name, (str, int, float, np.generic)):
        raise ValueError(
            f"{file} has a {type(name).__name__} among the names of clips; names must be strings"
        )
    return str(name)


def _class_of(label: Any, file: Path) -> int:
    """The class number of a label: a whole number of any type, alone or in a list, or a one-hot row."""
    row = list(label) if isinstance(label, (list, tuple, np.ndarray)) else [label]
    numbers = [value.item() if isinstance(value, np.generic) else value for value in row]
    if not all(isinstance(value, (int, float)) for value in numbers):
        kind = next(type(value).__name__ for value in numbers if not isinstance(value, (int, float)))
        raise ValueError(
            f"{file} has a {kind} as a label; labels must be class numbers from 0, or one-hot rows"
        )
    if len(numbers) > 1:
        if sorted(numbers) != [0] * (len(numbers) - 1) + [1]:
            raise ValueError(
                f"{file} has a row of {len(numbers)} numbers as a label that is not one-hot; "
                "give the number of the class, or a one-hot row"
            )
        return numbers.index(1)
    (value,) = numbers
    if isinstance(value, bool) or not 0 <= value < MAX_CLASS or value % 1:
        raise ValueError(
            f"{file} has label {value!r}; labels must be whole numbers from 0, below {MAX_CLASS:,}"
        )
    return int(value)


def _from_zero(label: np.ndarray, first_label: int | None, path: Path) -> np.ndarray:
    """Labels (N,) counted from 0, from labels that are counted from `first_label`."""
    lowest = int(label.min())
    if first_label is None and lowest == 1:
        raise ValueError(
            f"the labels of {path} are {lowest} to {label.max()}, but classes count from 0; set data.first_label=1 "
            "if 1 is the first class, or data.first_label=0 if class 0 has no clip"
        )
    if lowest < (first := first_label or 0):
        raise ValueError(f"{path} has label {lowest}, but data.first_label is {first}; set it to {lowest}")
    return label - first
