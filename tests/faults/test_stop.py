"""SIGTERM and Ctrl-C: the run finishes its step and saves; it resumes with the same bits."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

from tests.faults.conftest import SOAK, soak_only
from tests.faults.lab import checkpoint_steps, read_result
from tests.faults.tiny_config import SAVE_EVERY, STEPS


def test_sigterm_saves_and_resume_is_exact(lab, tmp_path, record_outcome):
    workdir = tmp_path / "run"
    shutil.copytree(lab.interrupted, workdir)
    saved = checkpoint_steps(workdir)[-1]
    assert 17 <= saved < STEPS
    assert read_result(workdir).losses.keys() == set(range(1, saved + 1))
    run = lab.finish(workdir)
    assert run.start == saved
    assert read_result(workdir) == lab.reference()[0]
    record_outcome("SIGTERM", "exit 143 after a save; restart, same final bits", 0)


def test_control_c_prints_one_line_and_exits_with_130(lab, tmp_path, record_outcome):
    with lab.start(tmp_path) as run:
        run.wait_for_steps(8)
        begin = time.perf_counter()
        run.send(signal.SIGINT)
        assert run.wait() == 130
    assert not SOAK or time.perf_counter() - begin < 30
    messages = [line for line in run.output if not line.startswith("step ")]
    assert messages[-1] == "SIGINT: finishing the step and saving; send it again to exit at once"
    assert checkpoint_steps(tmp_path)[-1] == run.step
    record_outcome("Ctrl-C", "exit 130 after a save", 0)


@soak_only
def test_closed_terminal_saves_and_exits_with_129(lab, tmp_path, record_outcome):
    with lab.start(tmp_path) as run:
        run.wait_for_steps(8)
        run.send(signal.SIGHUP)
        assert run.wait() == 129
    assert checkpoint_steps(tmp_path)[-1] == run.step
    record_outcome("SIGHUP", "exit 129 after a save", 0)


@soak_only
def test_second_signal_exits_at_once_and_leaves_no_partial_checkpoint(
    lab, tmp_path, record_outcome
):
    with lab.start(tmp_path) as run:
        run.wait_for_steps(8)
        run.send(signal.SIGTERM)
        run.send(signal.SIGINT)
        assert run.wait() in (130, 143)  # whichever signal Python handles last
    assert not [step for step in checkpoint_steps(tmp_path) if step % SAVE_EVERY]  # no further save
    lab.finish(tmp_path)
    assert read_result(tmp_path) == lab.reference()[0]
    record_outcome("a second signal", "exits at once; restart, same final bits", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=soak_only)])
def test_signal_before_the_first_step_prints_no_traceback(lab, tmp_path, number):
    """There is nothing to save while libraries load and data are prepared."""
    with lab.start(tmp_path) as run:
        while not (tmp_path / "config.json").exists():
            time.sleep(0.01)
        run.send(number)
        assert run.wait() in (128 + number, -number)
    assert not [line for line in run.output if "Traceback" in line]
