"""Raises ImportError for names that were here in earlier versions, and says what replaces them."""

from net.utils.moved import refuse


def __getattr__(name: str) -> None:
    refuse(__name__, name)
