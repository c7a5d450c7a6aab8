"""A first signal is noted, a second one acts, and afterwards all is as before."""

import os
import signal
import time

import pytest

from torchlight.interrupt import REPEAT_SECONDS, StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_until_it_is_asked_about(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_same_request_may_come_several_times() -> None:
    with StopSignal() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stop.signal == signal.SIGTERM


def test_a_later_signal_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        later = time.monotonic() + REPEAT_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        signal.raise_signal(signal.SIGINT)
        pytest.fail(f"went on after signal {stop.signal}")


def test_handlers_are_restored_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="x"), StopSignal():
        raise ValueError("x")
    assert signal.getsignal(signal.SIGTERM) == before
