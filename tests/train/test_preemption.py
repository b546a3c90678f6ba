"""A first signal is remembered, a second one ends the process; handlers come back afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from affect_jax.train.preemption import StopRequest

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize("number", CODES)
def test_a_signal_is_remembered(number, capfd):
    with StopRequest() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number
    said = capfd.readouterr().err
    assert said == f"{number.name}: finishing the step and saving; again to leave at once\n"


def test_the_first_signal_is_announced_once():
    told = []
    with StopRequest(announce=lambda: told.append("told")):
        signal.raise_signal(signal.SIGTERM)
    assert told == ["told"]


def test_the_handlers_that_were_there_come_back():
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
def test_a_second_signal_ends_the_process_at_once(first, second):
    code = (
        "import signal, sys; from affect_jax.train.preemption import StopRequest\n"
        "with StopRequest():\n"
        "    try:\n"
        "        signal.raise_signal(int(sys.argv[1])); print('goes on', flush=True)\n"
        "        signal.raise_signal(int(sys.argv[2]))\n"
        "    finally:\n"
        "        print('never said', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(int(first)), str(int(second))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == CODES[second]
    assert ended.stdout == "goes on\n"
    assert len(ended.stderr.splitlines()) == 1
