"""Several processes are one run: same losses, one checkpoint, one log; one that dies ends all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.faults.conftest import SOAK, soak_only
from tests.faults.experiment import STEPS
from tests.faults.lab import REPOSITORY, Run, end_of, steps_of

SCRIPT = REPOSITORY / "launch" / "multiprocess.sh"


@contextlib.contextmanager
def processes(lab, workdir, count: int, *flags: str) -> Iterator[list[Run]]:
    """The processes of one run, on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                lab.start(
                    workdir,
                    *flags,
                    JAX_COORDINATOR_ADDRESS=address,
                    JAX_NUM_PROCESSES=str(count),
                    JAX_PROCESS_ID=str(index),
                )
            )
            for index in range(count)
        ]


def finish(lab, workdir, count: int) -> list[Run]:
    with processes(lab, workdir, count) as runs:
        codes = [run.wait() for run in runs]
    assert codes == [0] * count, "\n".join(runs[0].said)
    return runs


def assert_same_losses(found: dict[int, float], expected: dict[int, float]) -> None:
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(
        [found[step] for step in expected], list(expected.values()), rtol=1e-5
    )


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=soak_only)])
def test_any_number_of_processes_trains_to_the_same_losses(lab, tmp_path, count, outcome):
    """Every face is noise of its own: a face seen twice or not at all would show in the loss."""
    runs = finish(lab, tmp_path, count)
    assert_same_losses(end_of(tmp_path).losses, lab.undisturbed()[0].losses)
    assert end_of(tmp_path).arrays.keys() == lab.undisturbed()[0].arrays.keys()
    for run in runs[1:]:  # only process 0 says and writes something
        assert not [line for line in run.said if "step" in line]
    outcome("2 and 4 processes instead of 1", "the same losses to 1e-5, one log", 0)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=soak_only)])
def test_a_checkpoint_is_restored_by_another_number_of_processes(lab, tmp_path, count, outcome):
    workdir = tmp_path / "run"
    shutil.copytree(lab.interrupted, workdir)  # one process wrote it
    runs = finish(lab, workdir, count)
    assert runs[0].start == steps_of(lab.interrupted)[-1]
    assert_same_losses(end_of(workdir).losses, lab.undisturbed()[0].losses)
    outcome("a checkpoint of 1 process in 2 and 4", "they end with the same losses", 0)


@pytest.mark.parametrize("told", [pytest.param(0, marks=soak_only), 1])
def test_a_signal_to_one_of_them_saves_and_ends_all(lab, tmp_path, told, outcome):
    """JAX's preemption service carries it; were one a step ahead, it would wait for the other."""
    long = "--config.duration={'steps': 3000, 'epochs': 0.0}"
    with processes(lab, tmp_path, 2, long) as runs:
        runs[0].until(3)
        runs[told].send(signal.SIGTERM)
        assert [run.wait() for run in runs] == [143, 143]
    saved = steps_of(tmp_path)[-1]
    assert saved == runs[0].step
    with lab.start(tmp_path, long) as alone:  # one process goes on from there
        alone.until(1)
    assert alone.start == saved
    outcome("SIGTERM to one of two processes", "both save and exit 143", 0)


@soak_only
def test_control_c_to_each_of_them_ends_all_with_its_code(lab, tmp_path, outcome):
    with processes(lab, tmp_path, 2, "--config.duration={'steps': 3000, 'epochs': 0.0}") as runs:
        runs[0].until(3)
        for run in runs:
            run.send(signal.SIGINT)
        assert [run.wait() for run in runs] == [130, 130]
    assert steps_of(tmp_path)[-1] == runs[0].step
    outcome("Ctrl-C to each of two processes", "both exit 130 after a save", 0)


@soak_only
@pytest.mark.parametrize("told", [0, 1, 1])
def test_a_signal_in_the_last_steps_is_the_same_to_all(lab, tmp_path, told, outcome):
    """Whether it came in time to be agreed on or not; the run's last step is saved either way."""
    with processes(lab, tmp_path, 2) as runs:
        runs[0].until(STEPS - 2)
        runs[told].send(signal.SIGTERM)
        codes = [run.wait() for run in runs]
    assert codes in ([0, 0], [143, 143])
    finish(lab, tmp_path, 2)
    assert_same_losses(end_of(tmp_path).losses, lab.undisturbed()[0].losses)
    outcome("SIGTERM to one of two in the last steps", "one exit code, 0 or 143", 0)


@soak_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_control_c_in_the_terminal_of_several_saves_and_ends_all(lab, tmp_path, number, outcome):
    """It comes to all of them, and once more from the script: no second signal."""
    for name, text in (("environment.sh", ""), ("multiprocess.sh", SCRIPT.read_text())):
        (tmp_path / name).write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    workdir, long = tmp_path / "run", "--config.duration={'steps': 3000, 'epochs': 0.0}"
    prefix = ("bash", str(tmp_path / "multiprocess.sh"), "2")
    with lab.start(workdir, long, prefix=prefix, drop=3, PORT=port, PATH=path) as run:
        run.until(5)
        run.send_to_all(number)
        assert run.wait() == 143
    assert steps_of(workdir)[-1] == run.step
    outcome("Ctrl-C, or SIGTERM, to a whole launch/multiprocess.sh", "exit 143 after a save", 0)


@pytest.mark.parametrize("victim", [pytest.param(0, marks=soak_only), 1])
def test_a_killed_process_ends_the_other_within_a_minute(lab, tmp_path, victim, outcome):
    with processes(lab, tmp_path, 2) as runs:
        runs[0].until(12)
        runs[victim].send(signal.SIGKILL)
        begin = time.perf_counter()
        other = runs[1 - victim]
        assert other.wait() not in (0, -signal.SIGKILL)
    assert not SOAK or time.perf_counter() - begin < 60
    said = [line for line in other.said if line.startswith("affect_jax: ")]
    assert victim == 0 or "start all again with the same command" in said[-1]
    reached = runs[0].step
    runs = finish(lab, tmp_path, 2)
    assert_same_losses(end_of(tmp_path).losses, lab.undisturbed()[0].losses)
    what = "the other ends within a minute; restart of both goes on"
    outcome("kill -9 of one of two processes", what, max(0, reached - runs[0].start))


def test_an_incomplete_environment_is_an_error(lab, tmp_path):
    with lab.start(tmp_path, JAX_COORDINATOR_ADDRESS="127.0.0.1:1", JAX_PROCESS_ID="0") as run:
        assert run.wait() == 2
    assert run.said[-1].startswith("affect_jax: JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is set")
