"""A first signal is noted, a second one acts, and afterwards all is as before."""

import os
import signal

import pytest

from torchlight.interrupt import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_until_it_is_asked_about(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        assert (stop.requested, stop.signal) == (False, None)
        os.kill(os.getpid(), number)
        assert (stop.requested, stop.signal) == (True, number)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_signal_acts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)


def test_handlers_are_restored_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="x"), StopSignal():
        raise ValueError("x")
    assert signal.getsignal(signal.SIGTERM) == before
