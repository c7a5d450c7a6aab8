"""Files that are whole or not there, and errors that say which file could not be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only once all of it is on the disk.

    It is written beside `path`, synced and renamed. On any error, an interrupt included, what was written is
    removed and an older file at `path` stays as it was. Two processes must not write the same path at once.

    Raises:
        OSError: the disk is full, …; it names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with naming(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An OSError within says that `path` was not written, and why.

    The system's own error for a full disk names no file, and others name a temporary one.
    """
    try:
        yield
    except OSError as error:
        # HDF5's own message is of several lines.
        reason = os.strerror(error.errno) if error.errno else str(error)
        text = f"{path} was not written: {reason}"
        raise (OSError(error.errno, text) if error.errno else OSError(text)) from error


def make_folder_of(path: str | Path) -> None:
    """Make the folder that a file is to be in, unless it is there.

    Raises:
        OSError: it cannot be made; names `path`.
    """
    with naming(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: str | Path) -> None:
    """Make a rename in `folder` survive a power cut, on systems that can open a folder (Windows cannot)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
