"""A request to stop, by SIGTERM or SIGINT, that waits for a good moment."""

import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Within `with StopSignal() as stop`, a first SIGTERM or SIGINT only sets `stop.requested`.

    A second one acts as it would have without. Only a program's main thread may enter.

    Attributes:
        signal: number of the signal, None while there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether to stop at the next good moment."""
        return self.signal is not None

    def __enter__(self) -> "StopSignal":
        self._earlier = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
