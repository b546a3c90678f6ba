"""SIGTERM and Ctrl-C: the step is finished, the run saved; it goes on as if nothing had been."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

from tests.faults.conftest import SOAK, soak_only
from tests.faults.experiment import SAVE_EVERY, STEPS
from tests.faults.lab import end_of, steps_of

FAULTS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


def test_sigterm_saves_the_step_and_the_run_goes_on_with_the_same_bits(lab, tmp_path, outcome):
    workdir = tmp_path / "run"
    shutil.copytree(lab.interrupted, workdir)
    saved = steps_of(workdir)[-1]
    assert 17 <= saved < STEPS
    assert end_of(workdir).losses.keys() == set(range(1, saved + 1))
    run = lab.finish(workdir)
    assert run.start == saved
    assert end_of(workdir) == lab.undisturbed()[0]
    outcome("SIGTERM", "exit 143 after a save; restart ends with the same bits", 0)


def test_control_c_says_one_line_and_exits_with_130(lab, tmp_path, outcome):
    with lab.start(tmp_path) as run:
        run.until(8)
        begin = time.perf_counter()
        run.send(signal.SIGINT)
        assert run.wait() == 130
    assert not SOAK or time.perf_counter() - begin < 30
    said = [line for line in run.said if not line.startswith("step ")]
    assert said[-1] == "SIGINT: finishing the step and saving; again to leave at once"
    assert steps_of(tmp_path)[-1] == run.step
    outcome("Ctrl-C", "exit 130 after a save", 0)


@soak_only
def test_a_second_signal_leaves_at_once_and_nothing_half_written(lab, tmp_path, outcome):
    with lab.start(tmp_path) as run:
        run.until(8)
        run.send(signal.SIGTERM)
        run.send(signal.SIGINT)
        assert run.wait() in (130, 143)  # whichever Python looks at last
    assert not [step for step in steps_of(tmp_path) if step % SAVE_EVERY]  # it saved nothing more
    lab.finish(tmp_path)
    assert end_of(tmp_path) == lab.undisturbed()[0]
    outcome("a second signal", "leaves at once; restart ends with the same bits", 0)


@pytest.mark.parametrize("number", FAULTS)
def test_a_signal_before_the_first_step_leaves_no_traceback(lab, tmp_path, number):
    """While libraries load and data are prepared there is nothing to save."""
    with lab.start(tmp_path) as run:
        while not (tmp_path / "config.json").exists():
            time.sleep(0.01)
        run.send(number)
        assert run.wait() in (128 + number, -number)
    assert not [line for line in run.said if "Traceback" in line]
