"""Reads untrusted pickles without running code; the size of the file bounds the memory.

Arrays of a pickle are views of the bytes that the unpickler read. So the result takes about as much memory as the
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

# Bytes of arrays and texts that a pickle may create per byte of the file. A real pickle needs 8 at most: an array of
# objects of one byte each.
EXPANSION = 16
# Letters of an error's text that are shown: the text may be as long as the file.
SHOWN = 200


def load_plain_pickle(file: str | Path) -> Any:
    """The content of a pickle of lists, tuples, dicts, strings, bytes, numbers and NumPy arrays.

    It reads every protocol, and pickles of Python 2 (text as Latin-1). Arrays in this machine's byte order take as
    much memory as they take in the file.

    Raises:
        ValueError: the pickle refers to anything else (which is not imported), or is damaged.
        OSError: the file cannot be read.
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
    """An open file that never allocates more bytes than it has left, whatever size is read."""

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(file))
        self.size = file.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = self.size - self.tell()
        return super().read(left if size is None or size < 0 else min(size, left))


def _check_sizes(content: _Bounded) -> None:
    """Raise UnpicklingError for sizes larger than the file: the unpickler would allocate them before it reads.

    `pickletools` itself refuses such sizes of texts and numbers, with a ValueError.
    """
    for code, value, place in pickletools.genops(content):
        if code.name not in ("FRAME", "PUT", "BINPUT", "LONG_BINPUT"):
            continue
        assert value is not None
        assert place is not None
        if code.name == "FRAME" and value > content.size - place:
            raise pickle.UnpicklingError(f"it has a frame of {value} bytes, more than there are")
        # The unpickler allocates all memo entries up to this one.
        if code.name != "FRAME" and value > content.size:
            raise pickle.UnpicklingError(f"it puts entry {value} into its memo, more than there can be")


class _Budget:
    """Bytes that a pickle may still create: a pickle that refers to a large text many times could fill any memory."""

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
        # NumPy 2 writes numpy._core, NumPy 1 numpy.core; files have either.
        found = _PLAIN.get((module.replace("numpy._core.", "numpy.core."), name))
        if found is None:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, but only lists, tuples, strings, numbers and NumPy arrays are read"
            )
        return found(self.budget)


class _Type:
    """Replaces a pickled dtype: a pickle can give NumPy's own dtype a state that reads addresses."""

    def __init__(self, budget: _Budget, code: str, *_: Any) -> None:
        # No message shows an object of the pickle: the text of nested lists that share items grows without bound.
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
        """An array (n,) of the objects in a list, or of the values in bytes, which Python 2 wrote as text."""
        if self.dtype.kind == "O":
            if not isinstance(values, list):
                raise pickle.UnpicklingError("it holds an array of addresses of objects")
            self.budget.spend(len(values) * self.dtype.itemsize)
            array = np.empty(len(values), object)
            for index, value in enumerate(values):  # one by one: NumPy would make axes of lists among them
                array[index] = value
            return array
        if not isinstance(values, (str, bytes, bytearray)):
            raise pickle.UnpicklingError("it holds an array without the bytes of its values")
        self.budget.spend(len(values))
        return np.frombuffer(values.encode("latin1") if isinstance(values, str) else values, self.dtype)


class _Array(np.ndarray):
    """A pickled array; its values come only from a `_Type`."""

    def __new__(cls, *_: Any) -> "_Array":
        return np.empty(0, "b").view(cls)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        values = _typed(kind).array(data)
        # NumPy does not check the shape, and would read memory behind a list as objects.
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


# Each reference gets a new object, because a pickle can set the attributes of a function or class.
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
