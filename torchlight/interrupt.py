"""A request to stop, by SIGTERM or SIGINT, that waits for a good moment."""

import signal
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Schedulers signal every process of a job and torchrun passes the same signal on: one request comes several times.
REPEAT_SECONDS = 5.0


class StopSignal:
    """Within `with StopSignal() as stop`, a first SIGTERM or SIGINT only sets `stop.signal`.

    So do those within `REPEAT_SECONDS` of it; a later one acts as it would have without. Only a program's main
    thread may enter.

    Attributes:
        signal: number of the first signal, 0 while there was none.
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
