"""Data sets that other projects left on disk: arrays (N, C, T, V, M) of clips with pickled names and labels.

Shapes: N clips, C channels, T frames, V joints, M bodies, R rows (poses).
"""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feeder.prepared import PARTS, Prepared, open_prepared
from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton

# What the array's file is called, and whether its last frames may be padding.
KINDS = {"position": False, "data": True, "data_joint_pad": False}
SCAN_BYTES = 64 << 20
# Clips of NTU RGB+D, as most such folders have them: S001C002P003R002A013.
NTU_NAME = r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<subject>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})"


class ArrayFolder:
    """A folder with `<part>_<kind>.npy` (N, C, T, V, M) and `<part>_label.pkl` ((names, labels)), parts train and val.

    Kinds: `position` (AimCLR's 50 frames), `data` (ST-GCN's 300 frames, padded with zeros, whose padding is
    not read as frames) and `data_joint_pad` (AS-GCN's, padded by repetition).

    Offers what `Prepared` offers but `joints` and `start`. Its one benchmark is named as the folder. Arrays
    are memory-mapped; opening one reads a third of it (the first channel), to see which bodies and frames
    are there. Its `keys` are those of NTU RGB+D's names, where all clips have such names; else there are none.

    Args:
        path: the folder.
        layout: of the V joints; see `net.utils.layouts.get_skeleton`.

    Raises:
        FileNotFoundError: a file of the four is missing.
        ValueError: several kinds in one folder, a file that is not what it should be, or a pickle that holds more
            than lists, tuples, strings, numbers and NumPy arrays (nothing of it is run).
    """

    frame_rate = float("nan")

    def __init__(self, path: str | Path, layout: str | Skeleton) -> None:
        self.path = Path(path).absolute()
        self.skeleton = get_skeleton(layout)
        self._files = _find_arrays(self.path)
        self._open()
        padded = KINDS[_kind(self._files["train"])]
        names, labels, num_frame, num_body = [], [], [], []
        for part in PARTS:
            array = self._arrays[part]
            part_names, part_labels = _read_labels(self.path / f"{part}_label.pkl", len(array))
            names += part_names
            labels += part_labels
            frames, bodies = _scan(array, padded)
            num_frame.append(frames)
            num_body.append(bodies)
        self.name = np.array(names)
        numbers = pd.Series(names).str.extract(rf"^{NTU_NAME}(?:\.skeleton)?$")
        self.keys: dict[str, np.ndarray] = {}
        if numbers.notna().all(axis=None):
            self.keys = {str(key): numbers[key].to_numpy(np.int64) for key in numbers}
        self.label = np.array(labels, np.int64)
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

    def __len__(self) -> int:
        return len(self.label)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._arrays = {part: _map_array(file, self.skeleton) for part, file in self._files.items()}

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


def open_source(path: str | Path, layout: str | Skeleton) -> Prepared | ArrayFolder:
    """A prepared file, or a folder of arrays, whose joints are of `layout` (a prepared file knows its own).

    Raises:
        FileNotFoundError, ValueError: see `open_prepared` and `ArrayFolder`; or the path is of a single array.
    """
    if Path(path).suffix in (".npz", ".npy", ".pkl"):
        raise ValueError(
            f"{path} is one file of arrays; give the folder of <part>_position.npy, <part>_data.npy or "
            "<part>_data_joint_pad.npy with <part>_label.pkl (other arrays, such as CTR-GCN's .npz, are not "
            "read), or prepare the raw clips"
        )
    return ArrayFolder(path, layout) if Path(path).is_dir() else open_prepared(path)


def _kind(file: Path) -> str:
    return file.stem.split("_", 1)[1]


def _find_arrays(folder: Path) -> dict[str, Path]:
    """The array of each part; both are of one kind."""
    found = [kind for kind in KINDS if (folder / f"train_{kind}.npy").exists()]
    if len(found) > 1:
        files = " and ".join(f"train_{kind}.npy" for kind in found)
        raise ValueError(f"{folder} holds {files}; which is meant is not clear: leave one kind in the folder")
    if not found:
        files = ", ".join(f"train_{kind}.npy" for kind in KINDS)
        raise FileNotFoundError(
            f"{folder} holds none of {files}; give the folder of one benchmark (such as …/xsub), or a "
            "prepared file"
        )
    paths = {part: folder / f"{part}_{found[0]}.npy" for part in PARTS}
    for file in (*paths.values(), *(folder / f"{part}_label.pkl" for part in PARTS)):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing beside {paths['train'].name}")
    return paths


def _map_array(file: Path, skeleton: Skeleton) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is no plain NumPy array: {error}") from None
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


def _read_labels(file: Path, num_clip: int) -> tuple[list[str], list[int]]:
    content = load_plain_pickle(file)
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise ValueError(f"{file} holds {type(content).__name__}; needed is the pair (names, labels)")
    names, labels = (list(np.asarray(each).reshape(-1).tolist()) for each in content)
    if not len(names) == len(labels) == num_clip:
        raise ValueError(f"{file} has {len(names)} names and {len(labels)} labels for {num_clip} clips")
    for label in labels:
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise ValueError(f"{file} has label {label!r}; labels are whole numbers from 0")
    return [str(name) for name in names], labels


def load_plain_pickle(file: str | Path) -> Any:
    """What a pickle holds, if that is lists, tuples, dicts, strings, bytes, numbers and NumPy arrays alone.

    Any protocol, and Python 2's pickles (their text read as Latin-1).

    Raises:
        ValueError: it refers to anything else, which is then not imported, or is damaged.
    """
    try:
        with Path(file).open("rb") as stream:
            return _PlainUnpickler(stream, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} was refused: {error}") from None
    except (EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no pickle, or damaged: {error}") from None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 says numpy._core where NumPy 1 said numpy.core; both are in files of today.
        found = _PLAIN.get((module.replace("numpy._core.", "numpy.core."), name))
        if found is None:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, and only lists, tuples, strings, numbers and NumPy arrays are read"
            )
        return found()


class _Type:
    """What stands for a pickled dtype: a pickle can set the state of NumPy's own to one that reads addresses."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biufSUO":
            raise pickle.UnpicklingError(f"it holds an array of {self.dtype}; numbers and strings are read")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])

    def array(self, values: Any) -> np.ndarray:
        """Objects of a list, or what bytes hold, which Python 2 wrote as text; (n,)."""
        if self.dtype.kind == "O":
            if not isinstance(values, list):
                raise pickle.UnpicklingError("it holds an array of addresses of objects")
            array = np.empty(len(values), object)
            array[:] = values
            return array
        return np.frombuffer(values.encode("latin1") if isinstance(values, str) else values, self.dtype)


class _Array(np.ndarray):
    """A pickled array, whose values are set from a `_Type` alone."""

    def __new__(cls, *_: Any) -> "_Array":
        return np.empty(0, "b").view(cls)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        values = _typed(kind).array(data)
        # NumPy believes the shape, and would take what lies behind a list for objects.
        if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) != values.size:
            raise pickle.UnpicklingError(f"it holds {values.size} values as an array of shape {shape}")
        flat = values.tolist() if values.dtype.kind == "O" else values.tobytes()
        super().__setstate__((1, shape, values.dtype, bool(fortran), flat))  # type: ignore[arg-type]


def _typed(kind: Any) -> _Type:
    if type(kind) is not _Type:
        raise pickle.UnpicklingError("it holds an array without a type")
    return kind


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


# Each entry is made anew for every mention, for a pickle can set the attributes of a function or class.
_PLAIN: dict[tuple[str, str], Callable[[], Any]] = {
    ("numpy", "ndarray"): lambda: "ndarray",
    ("numpy", "dtype"): lambda: lambda *args: _Type(*args),
    ("numpy.core.multiarray", "_reconstruct"): lambda: lambda *_: _Array(),
    ("numpy.core.multiarray", "scalar"): lambda: lambda kind, value: _typed(kind).array(value)[0],
    ("numpy.core.numeric", "_frombuffer"): lambda: (
        lambda buffer, kind, shape, order: _typed(kind).array(buffer).reshape(shape, order=order)
    ),
    ("_codecs", "encode"): lambda: lambda *args: _encode(*args),
}
