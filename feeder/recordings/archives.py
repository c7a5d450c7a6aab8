"""Reads one array out of files that may hold several: `.npz`, and MATLAB's `.mat`."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy  # `scipy.io` is imported at its first use: it takes half a second

from feeder.recordings.recording import RecordingError

# Largest size of an unpacked array: 12,000 frames of 40 people.
MAX_BYTES = 1 << 29
# Largest ratio of an array's unpacked size to its size in the file; poses with many zeros have about 10. Arrays of
# FEW_BYTES or less may have any ratio.
MAX_RATIO = 200
FEW_BYTES = 1 << 24
# MATLAB 5: bytes before the first element, bytes of an element's head, and the type of a compressed element.
MAT_HEADER, MAT_HEAD, MAT_COMPRESSED = 128, 8, 15
MAT_NUMBERS = ("double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def read_npz(path: Path, variable: str | None) -> np.ndarray:
    """The array `variable` of a NumPy archive; None for the only array with two axes or more.

    Raises:
        RecordingError: there is no such array, or it is too large.
        ValueError, OSError: the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        shapes, members = {}, {}
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as file:
                shape, dtype = _header(file)
            name = member.filename.removesuffix(".npy")
            members[name] = member
            if dtype.kind in "fiu":
                shapes[name] = shape
                num_byte = int(np.prod(shape, dtype=object)) * dtype.itemsize
                _refuse_large(name, max(member.file_size, num_byte), member.compress_size)
        name = _choose(shapes, variable)
        with archive.open(members[name]) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in a `.npy` stream."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def read_mat(path: Path, variable: str | None) -> np.ndarray:
    """The numeric array `variable` of a MATLAB file; None for the only array with two axes or more.

    Files of MATLAB 7.3 are HDF5. Objects and functions are not read.

    Raises:
        RecordingError: there is no such array, or it is too large.
        ValueError, OSError: the file is damaged.
    """
    if h5py.is_hdf5(path):
        return _read_hdf5(path, variable)
    data = path.read_bytes()
    _refuse_bomb(data)
    try:
        found = {name: shape for name, shape, kind in scipy.io.whosmat(path) if kind in MAT_NUMBERS}
        name = _choose(found, variable)
        return scipy.io.loadmat(path, variable_names=[name])[name]
    except RecordingError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in SciPy
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"no MATLAB file, or damaged ({reason})") from None


def _read_hdf5(path: Path, variable: str | None) -> np.ndarray:
    with h5py.File(path) as file:
        found = {}
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                continue  # a link, perhaps to another file
            each = file[name]
            if not isinstance(each, h5py.Dataset) or each.is_virtual or each.external:
                continue
            if each.dtype.kind in "fiu" and "MATLAB_empty" not in each.attrs:
                found[name] = each.shape[::-1]
        name = _choose(found, variable)
        array = file[name]
        num_byte = int(np.prod(found[name], dtype=object)) * array.dtype.itemsize
        _refuse_large(name, num_byte, array.id.get_storage_size())
        return array[()].T


def _choose(shapes: Mapping[str, tuple[int, ...]], variable: str | None) -> str:
    """`variable`, or the name of the only array with two axes or more.

    Raises:
        RecordingError: there is no such array, or there are several.
    """
    if variable is not None:
        if variable not in shapes:
            raise RecordingError(None, f"no numeric array {variable!r}; it holds {_listed(shapes)}")
        return variable
    large = {name: shape for name, shape in shapes.items() if len(shape) > 1 and max(shape) > 1}
    if len(large) != 1:
        raise RecordingError(None, f"it holds {_listed(large)}; needed is one array, or --variable NAME")
    return next(iter(large))


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    listed = [f"{name} {'x'.join(map(str, shape))}" for name, shape in list(shapes.items())[:8]]
    return ", ".join(listed) or "no numeric array"


def _refuse_large(name: str, num_byte: int, packed: int) -> None:
    """Raise RecordingError if an array of `packed` bytes unpacks to more bytes than poses do."""
    if num_byte > MAX_BYTES:
        raise RecordingError(
            None,
            f"array {name!r} unpacks to {num_byte >> 20} MiB, more than the {MAX_BYTES >> 20} of one recording",
        )
    if num_byte > FEW_BYTES and num_byte > MAX_RATIO * packed:
        raise RecordingError(
            None,
            f"array {name!r} unpacks from {packed >> 10} KiB to {num_byte >> 20} MiB, over {MAX_RATIO} times as much, "
            "which poses do not",
        )


def _refuse_bomb(data: bytes) -> None:
    """Raise RecordingError if the elements of a MATLAB 5 file unpack to more than poses do."""
    order = "big" if data[126:128] == b"MI" else "little"
    at, total = MAT_HEADER, 0
    while at + MAT_HEAD <= len(data):
        kind, size = (int.from_bytes(data[k : k + 4], order) for k in (at, at + 4))  # type: ignore[arg-type]
        at += MAT_HEAD
        if kind == MAT_COMPRESSED:
            packed, unpacker = data[at : at + size], zlib.decompressobj()
            while packed and not unpacker.eof:
                try:
                    total += len(unpacker.decompress(packed, 1 << 20))
                except zlib.error:
                    return  # SciPy will report it
                _refuse_large("of all", total, len(data))
                packed = unpacker.unconsumed_tail
        at += size
