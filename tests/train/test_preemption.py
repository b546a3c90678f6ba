"""The first signal is recorded, the second ends the process; old handlers are restored."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from affect_jax.train.preemption import StopRequest

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize("number", CODES)
def test_first_signal_is_recorded(number, capfd):
    with StopRequest() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number
    message = f"{number.name}: finishing the step and saving; send it again to exit at once\n"
    assert capfd.readouterr().err == message


def test_first_signal_is_announced_once():
    announcements = []
    with StopRequest(announce=lambda: announcements.append("stop")):
        signal.raise_signal(signal.SIGTERM)
    assert announcements == ["stop"]


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
def test_second_signal_ends_the_process_at_once(first, second):
    code = (
        "import signal, sys; from affect_jax.train.preemption import StopRequest\n"
        "with StopRequest():\n"
        "    try:\n"
        "        signal.raise_signal(int(sys.argv[1])); print('continues', flush=True)\n"
        "        signal.raise_signal(int(sys.argv[2]))\n"
        "    finally:\n"
        "        print('never printed', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(int(first)), str(int(second))]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == CODES[second]
    assert process.stdout == "continues\n"
    assert len(process.stderr.splitlines()) == 1
