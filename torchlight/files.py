"""Atomic writing of files, reading of YAML, and errors that name the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml

# The last four are raised for a value that does not fit its tag (`!!timestamp x`), and for very deep nesting.
YAML_ERRORS = (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` only after all of it is on the disk.

    It is written to a temporary file in the same folder, synced and renamed. On any error or interrupt, the temporary
    file is removed, and an older file at `path` stays as it was. Two processes must not write the same path at once.

    Raises:
        OSError: the disk is full, …. The message names `path`.
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
    """A context that raises each OSError again, with a message that names `path` and the reason.

    The system's error for a full disk names no file, and other errors name the temporary file.
    """
    try:
        yield
    except OSError as error:
        # Not str(error) if there is a number: HDF5's messages have several lines.
        reason = os.strerror(error.errno) if error.errno else str(error)
        text = f"{path} was not written: {reason}"
        raise (OSError(error.errno, text) if error.errno else OSError(text)) from error


def make_folder_of(path: str | Path) -> None:
    """Make the folder of a file, unless it exists.

    Raises:
        OSError: the folder cannot be made. The message names `path`.
    """
    with naming(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: str | Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut. Does nothing on Windows: it cannot open folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path, what: str) -> str:
    """The content of a text file in UTF-8. Raises ValueError, with `what` the file is, if it is something else."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not text in UTF-8: {error.reason} at byte {error.start}") from None


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file. Raises ValueError, with `what` the file is, if it is not valid."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except YAML_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{what} is not valid YAML: {reason}") from None
