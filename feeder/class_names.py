"""Reads the names of classes from a text file."""

from pathlib import Path

from torchlight.files import read_text


def read_class_names(path: Path) -> list[str]:
    """The class names in a file with one name per line, in order of labels.

    Raises:
        ValueError: the file is no text, has no name, or one name twice.
        OSError: the file cannot be read.
    """
    names = [line.strip() for line in read_text(path, f"--class_names {path}").splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"--class_names {path} has {len(names)} names, {len(set(names))} of them different; write each name once, "
            "on a line of its own"
        )
    return names
