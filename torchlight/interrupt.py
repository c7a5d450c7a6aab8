"""Delays SIGTERM and SIGINT, so that a program can stop at a suitable moment."""

import signal
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# One request arrives several times: schedulers signal every process of a job, and torchrun forwards the signal.
REPEAT_SECONDS = 5.0


class StopSignal:
    """Within `with StopSignal() as stop`, the first SIGTERM or SIGINT only sets `stop.signal`.

    Further signals within `REPEAT_SECONDS` are ignored. A later signal has its usual effect. Only the main thread of a
    program may enter this context.

    Attributes:
        signal: number of the first signal; 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since = 0.0
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        self._earlier = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > REPEAT_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
