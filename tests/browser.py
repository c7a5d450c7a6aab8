"""A headless Chromium that tests drive over its DevTools pipe; no package is needed for that."""

import base64
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--hide-scrollbars", "--mute-audio"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1280,1100"),
)
TIMEOUT = 90


class Browser:
    """A page of a browser: what it says, what it asks for, and what is done in it.

    errors: what stands on its console as an error, and exceptions that nothing caught.
    requested: addresses that it asked for.
    """

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out = into, out
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []
        self.requested: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, path: Path) -> float:
        """Open a file and wait until its clips can be played; returns the seconds that took."""
        begin = time.monotonic()
        self._call("Page.navigate", url=path.absolute().as_uri())
        self.wait("document.body && document.body.dataset.ready === 'yes'")
        return time.monotonic() - begin

    def wait(self, expression: str) -> None:
        """Until an expression holds."""
        end = time.monotonic() + TIMEOUT
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} does not hold; {self.errors}"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression, as JSON can say it; a promise is awaited."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the mouse with its button held, in steps, as a hand does."""
        way = [tuple(a + (b - a) * part / 8 for a, b in zip(start, end, strict=True)) for part in range(9)]
        moves = [("mouseMoved", place, 1) for place in way]
        ends = ("mouseMoved", start, 0), ("mousePressed", start, 1), ("mouseReleased", end, 0)
        for kind, (x, y), buttons in [*ends[:2], *moves, ends[2]]:
            more = {} if kind == "mouseMoved" else {"clickCount": 1}
            button = "none" if (kind, buttons) == ("mouseMoved", 0) else "left"
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, **more
            )

    def picture(self, path: Path) -> None:
        """Write a PNG of what the window shows."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._out], [], [], TIMEOUT)[0], "the browser does not answer"
            block = os.read(self._out, 1 << 16)
            assert block, "the browser has ended"
            self._rest += block
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def _note(self, event: Mapping[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(str(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, ended at the end; the test is skipped where none is installed."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None or not hasattr(os, "posix_spawn"):
        pytest.skip("no Chromium here: apt-get install chromium")
    reads, writes = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        # The browser reads what it is told from 3, and answers on 4. Copies above these keep the two from clashing.
        told, answers = (os.dup(end) for end in (reads[0], writes[1]))
        process = os.posix_spawn(
            program,
            [program, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, told, 3),
                (os.POSIX_SPAWN_DUP2, answers, 4),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
        for end in (told, answers, reads[0], writes[1]):
            os.close(end)
        try:
            yield Browser(reads[1], writes[0])
        finally:
            os.close(reads[1])  # it ends when nothing can tell it any more
            os.close(writes[0])
            end = time.monotonic() + 10
            while os.waitpid(process, os.WNOHANG) == (0, 0):
                if time.monotonic() > end:
                    os.kill(process, signal.SIGKILL)
                time.sleep(0.05)
