"""Refuses what was here in earlier versions, and says what replaces it."""

from net.utils.moved import refuse


def __getattr__(name: str) -> None:
    refuse(__name__, name)
