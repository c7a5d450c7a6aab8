"""Packages that only some commands need."""

import importlib.util
from collections.abc import Sequence


class PackageMissing(OSError):
    """A package that a command needs is not installed."""


def require(packages: Sequence[str], extra: str) -> None:
    """Raise PackageMissing if a package of the extra `extra` is not installed; the message says how to install it."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageMissing(f"not installed: {', '.join(missing)}; run pip install -e .[{extra}]")
