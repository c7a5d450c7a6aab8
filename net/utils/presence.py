"""No more: plug-ins of earlier versions are told what stands in its place."""

from net.utils.moved import refuse


def __getattr__(name: str) -> None:
    refuse(__name__, name)
