"""The first signal is recorded, the second ends the process; old handlers are restored."""

from __future__ import annotations

import signal

import pytest

from affect_jax.train import preemption
from affect_jax.train.preemption import StopRequest

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


@pytest.mark.parametrize("number", CODES)
def test_first_signal_is_recorded(number, capfd):
    with StopRequest() as stop:
        assert stop.received is None
        assert not stop.is_due()
        signal.raise_signal(number)
        assert stop.received == number and stop.is_due()
    message = f"{number.name}: finishing the step and saving; send it again to exit at once\n"
    assert capfd.readouterr().err == message


def test_signals_of_several_processes_reach_the_preemption_service(monkeypatch):
    """SIGTERM keeps the service's handler; Ctrl-C is recorded and raises SIGTERM once."""
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    monkeypatch.setattr(preemption.processes, "is_multiprocess", lambda: True)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM] and stop.received is None
            signal.raise_signal(signal.SIGINT)
            assert received == [signal.SIGTERM] * 2 and stop.received == signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_processes_stop_at_the_dispatch_that_jax_selects(monkeypatch):
    dispatches = []
    monkeypatch.setattr(preemption.processes, "is_multiprocess", lambda: True)
    monkeypatch.setattr(
        preemption.multihost_utils,
        "reached_preemption_sync_point",
        lambda number: dispatches.append(number) or number == 3,
    )
    monkeypatch.setattr(StopRequest, "_num_dispatches", 0)
    stop = StopRequest()
    assert [stop.is_due() for _ in range(3)] == [False, False, True]
    assert dispatches == [1, 2, 3]


@pytest.mark.parametrize(
    ("received", "finished", "code"),
    [(None, True, 0), (None, False, 143), (signal.SIGINT, False, 130), (signal.SIGTERM, True, 143)],
)
def test_exit_code_follows_the_signal(received, finished, code):
    """JAX's service handles SIGTERM in a run of several processes, so that none is received."""
    stop = StopRequest()
    stop.received = received
    assert stop.exit_code(finished=finished) == code


def test_ignored_hangup_stays_ignored():
    """`nohup` starts a process so."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_previous_handlers_are_restored():
    before = [signal.getsignal(number) for number in CODES]
    with StopRequest():
        assert all(signal.getsignal(number) not in before for number in CODES)
    assert [signal.getsignal(number) for number in CODES] == before
    with pytest.raises(KeyError):
        with StopRequest():
            raise KeyError
    assert [signal.getsignal(number) for number in CODES] == before


@pytest.mark.parametrize("second", CODES)
@pytest.mark.parametrize("first", CODES)
def test_second_signal_ends_the_process_at_once(first, second, monkeypatch):
    """Without cleaning up: the exit of the interpreter could wait for a save."""
    codes = []
    monkeypatch.setattr(preemption.os, "_exit", codes.append)
    with StopRequest():
        signal.raise_signal(first)
        assert not codes
        signal.raise_signal(second)
    assert codes == [CODES[second]]
