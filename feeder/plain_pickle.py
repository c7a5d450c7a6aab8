"""Pickles from outside, read without running code and without more memory than the file has bytes for.

Arrays of a pickle are views of the bytes that the unpickler read: what is loaded takes about as much memory as the
file has bytes.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Bytes of arrays and texts that a pickle may make for each byte of it. The most that a real one needs is 8, for an
# array of objects of one byte each.
EXPANSION = 16
# Letters of an error that are shown: it may hold as much as the file.
SHOWN = 200


def load_plain_pickle(file: str | Path) -> Any:
    """What a pickle holds, if that is lists, tuples, dicts, strings, bytes, numbers and NumPy arrays alone.

    Any protocol, and Python 2's pickles (their text read as Latin-1). Memory is bounded by the file's size; arrays of
    this machine's byte order take no more than they do in the file.

    Raises:
        ValueError: it refers to anything else, which is then not imported, or is damaged.
        OSError: it cannot be read.
    """
    try:
        with _Bounded(Path(file)) as content:
            _check_sizes(content)
            content.seek(0)
            return _PlainUnpickler(content).load()
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} was refused: {error}") from None
    except Exception as error:  # a damaged pickle can fail anywhere in pickle or NumPy
        raise ValueError(
            f"{file} is no pickle, or damaged ({type(error).__name__}: {str(error)[:SHOWN]})"
        ) from None


class _Bounded(io.BufferedReader):
    """An open file that makes no room for more than it has, whatever it is asked for."""

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(file))
        self.size = file.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = self.size - self.tell()
        return super().read(left if size is None or size < 0 else min(size, left))


def _check_sizes(content: _Bounded) -> None:
    """Refuse sizes that the bytes behind them do not bear out, for which the unpickler would take memory first.

    Those of texts and numbers are refused by `pickletools`, with a ValueError.
    """
    for code, value, place in pickletools.genops(content):
        if code.name not in ("FRAME", "PUT", "BINPUT", "LONG_BINPUT"):
            continue
        assert value is not None
        assert place is not None
        if code.name == "FRAME" and value > content.size - place:
            raise pickle.UnpicklingError(f"it has a frame of {value} bytes, more than there are")
        # The unpickler makes room for all entries before the one that is put.
        if code.name != "FRAME" and value > content.size:
            raise pickle.UnpicklingError(f"it puts entry {value} into its memo, more than there can be")


class _Budget:
    """Bytes that a pickle may still make: one that refers to a large text many times could fill any memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError(f"it makes more than {EXPANSION} times as many bytes as it has")


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, content: _Bounded) -> None:
        super().__init__(content, encoding="latin1")
        self.budget = _Budget(EXPANSION * content.size)

    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 says numpy._core where NumPy 1 said numpy.core; both are in files of today.
        found = _PLAIN.get((module.replace("numpy._core.", "numpy.core."), name))
        if found is None:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, and only lists, tuples, strings, numbers and NumPy arrays are read"
            )
        return found(self.budget)


class _Type:
    """What stands for a pickled dtype: a pickle can set the state of NumPy's own to one that reads addresses."""

    def __init__(self, budget: _Budget, code: str, *_: Any) -> None:
        # Nothing that a pickle holds is made text for a message: lists of lists of one list have no end.
        if not isinstance(code, str):
            raise pickle.UnpicklingError("it holds an array of a type without a name")
        self.budget = budget
        self.dtype = np.dtype(code)
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
            self.budget.spend(len(values) * self.dtype.itemsize)
            array = np.empty(len(values), object)
            for index, value in enumerate(values):  # at once, NumPy would look into lists among them
                array[index] = value
            return array
        if not isinstance(values, (str, bytes, bytearray)):
            raise pickle.UnpicklingError("it holds an array without the bytes of its values")
        self.budget.spend(len(values))
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
            raise pickle.UnpicklingError(f"it holds {values.size} values as an array of another size")
        flat = data if isinstance(data, bytes) else values.tobytes()  # NumPy makes no copy of many bytes
        if values.dtype.kind == "O":
            flat = values.tolist()
        super().__setstate__((1, shape, values.dtype, bool(fortran), flat))  # type: ignore[arg-type]


def _typed(kind: Any) -> _Type:
    if type(kind) is not _Type:
        raise pickle.UnpicklingError("it holds an array without a type")
    return kind


def _encode(budget: _Budget, text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError("it encodes text otherwise than as Latin-1")
    budget.spend(len(text))
    return text.encode("latin1")


# Each entry is made anew for every mention, for a pickle can set the attributes of a function or class.
_PLAIN: dict[tuple[str, str], Callable[[_Budget], Any]] = {
    ("numpy", "ndarray"): lambda _: "ndarray",
    ("numpy", "dtype"): lambda budget: lambda *args: _Type(budget, *args),
    ("numpy.core.multiarray", "_reconstruct"): lambda _: lambda *_: _Array(),
    ("numpy.core.multiarray", "scalar"): lambda _: lambda kind, value: _typed(kind).array(value)[0],
    ("numpy.core.numeric", "_frombuffer"): lambda _: (
        lambda buffer, kind, shape, order: _typed(kind).array(buffer).reshape(shape, order=order)
    ),
    ("_codecs", "encode"): lambda budget: lambda *args: _encode(budget, *args),
}
