"""Runs of several processes: same losses, one checkpoint, one log; a dead process ends all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.faults.conftest import SOAK, soak_only
from tests.faults.lab import REPOSITORY, TrainingProcess, checkpoint_steps, read_result
from tests.faults.tiny_config import STEPS

SCRIPT = REPOSITORY / "launch" / "multiprocess.sh"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@contextlib.contextmanager
def start_processes(
    lab, workdir, processes: int | Sequence[Sequence[str]], *flags: str
) -> Iterator[list[TrainingProcess]]:
    """Starts the processes of one run on this machine.

    **Arguments:**

    - `processes`: their number, or the flags of each process.
    - `flags`: flags of all processes.
    """
    own_flags = [()] * processes if isinstance(processes, int) else processes
    address = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                lab.start(
                    workdir,
                    *flags,
                    *own_flags[index],
                    JAX_COORDINATOR_ADDRESS=address,
                    JAX_NUM_PROCESSES=str(len(own_flags)),
                    JAX_PROCESS_ID=str(index),
                )
            )
            for index in range(len(own_flags))
        ]


def finish(lab, workdir, count: int) -> list[TrainingProcess]:
    with start_processes(lab, workdir, count) as runs:
        codes = [run.wait() for run in runs]
    assert codes == [0] * count, "\n".join(runs[0].output)
    return runs


def assert_same_losses(losses: dict[int, float], expected: dict[int, float]) -> None:
    assert losses.keys() == expected.keys()
    np.testing.assert_allclose(
        [losses[step] for step in expected], list(expected.values()), rtol=1e-5
    )


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=soak_only)])
def test_losses_do_not_depend_on_the_number_of_processes(lab, tmp_path, count, record_outcome):
    """Every face is different noise, so a repeated or missing face would change the losses."""
    workdir = tmp_path / "run"
    shutil.copytree(lab.interrupted, workdir)  # one process wrote it
    runs = finish(lab, workdir, count)
    assert runs[0].start == checkpoint_steps(lab.interrupted)[-1]
    assert_same_losses(read_result(workdir).losses, lab.reference()[0].losses)
    assert read_result(workdir).arrays.keys() == lab.reference()[0].arrays.keys()
    for run in runs[1:]:  # only process 0 prints and writes
        assert not [line for line in run.output if "step" in line]
    outcome = "the same losses to 1e-5, one log"
    record_outcome("a checkpoint of 1 process resumed by 2 and 4", outcome, 0)


def test_stages_do_not_depend_on_the_number_of_processes(lab, tmp_path):
    flags = ["--config.stages=({'duration': {'epochs': 0.0, 'steps': 6}},)"]
    flags += ["--config.duration.steps=6"]
    for count in (1, 2):
        with start_processes(lab, tmp_path / str(count), count, *flags) as runs:
            codes = [run.wait() for run in runs]
        assert codes == [0] * count, "\n".join(runs[0].output)
    for folder in ("stage1", "."):
        expected, result = (read_result(tmp_path / count / folder) for count in ("1", "2"))
        assert_same_losses(result.losses, expected.losses)


@pytest.mark.parametrize("target", [pytest.param(0, marks=soak_only), 1])
def test_signal_to_one_process_saves_and_stops_all(lab, tmp_path, target, record_outcome):
    """JAX's preemption service makes all processes stop at the same step."""
    long = "--config.duration={'steps': 3000, 'epochs': 0.0}"
    with start_processes(lab, tmp_path, 2, long) as runs:
        runs[0].wait_for_steps(3)
        runs[target].send(signal.SIGTERM)
        assert [run.wait() for run in runs] == [143, 143]
    assert checkpoint_steps(tmp_path)[-1] == runs[0].step
    record_outcome("SIGTERM to one of two processes", "both save and exit 143", 0)


@soak_only
def test_control_c_to_every_process_stops_all_with_its_code(lab, tmp_path, record_outcome):
    with start_processes(
        lab, tmp_path, 2, "--config.duration={'steps': 3000, 'epochs': 0.0}"
    ) as runs:
        runs[0].wait_for_steps(3)
        for run in runs:
            run.send(signal.SIGINT)
        assert [run.wait() for run in runs] == [130, 130]
    assert checkpoint_steps(tmp_path)[-1] == runs[0].step
    record_outcome("Ctrl-C to each of two processes", "both exit 130 after a save", 0)


@soak_only
@pytest.mark.parametrize("target", [0, 1, 1])
def test_signal_in_the_last_steps_gives_one_exit_code(lab, tmp_path, target, record_outcome):
    """The exit code depends on when the signal arrives; the last step is saved either way."""
    with start_processes(lab, tmp_path, 2) as runs:
        runs[0].wait_for_steps(STEPS - 2)
        runs[target].send(signal.SIGTERM)
        codes = [run.wait() for run in runs]
    assert codes in ([0, 0], [143, 143])
    finish(lab, tmp_path, 2)
    assert_same_losses(read_result(tmp_path).losses, lab.reference()[0].losses)
    record_outcome(
        "SIGTERM to one of two processes in the last steps", "one exit code, 0 or 143", 0
    )


@soak_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_control_c_in_the_terminal_saves_and_stops_all(lab, tmp_path, number, record_outcome):
    """The script forwards the signal once, so no process receives a second signal."""
    for name, text in (("environment.sh", ""), ("multiprocess.sh", SCRIPT.read_text())):
        (tmp_path / name).write_text(text)
    port = str(free_port())
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    workdir, long = tmp_path / "run", "--config.duration={'steps': 3000, 'epochs': 0.0}"
    prefix = ("bash", str(tmp_path / "multiprocess.sh"), "2")
    with lab.start(workdir, long, prefix=prefix, drop=3, PORT=port, PATH=path) as run:
        run.wait_for_steps(5)
        run.send_to_all(number)
        assert run.wait() == 143
    assert checkpoint_steps(workdir)[-1] == run.step
    record_outcome(
        "Ctrl-C, or SIGTERM, to a whole launch/multiprocess.sh", "exit 143 after a save", 0
    )


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--config.learning_rate=0.1", "learning_rate (0.05 in process 0, 0.1 in process 1)"),
        pytest.param("--config.duration.steps=9", "duration.steps", marks=soak_only),
        pytest.param("--config.trunk.name=resnet18", "trunk.name", marks=soak_only),
        pytest.param("--config.data.cache=host", "data.cache", marks=soak_only),
    ],
)
def test_processes_with_other_settings_are_refused(lab, tmp_path, flag, name, record_outcome):
    with start_processes(lab, tmp_path / "run", [(), (flag,)]) as runs:
        assert [run.wait() for run in runs] == [2, 2]
    for run in runs:
        (message,) = [line for line in run.output if line.startswith("affect_jax: ")]
        assert message.startswith(f"affect_jax: the processes of the run differ in {name}")
    assert not (tmp_path / "run").exists()
    record_outcome("processes with different settings", "one line in each, exit 2", 0)


@soak_only
def test_error_of_one_process_ends_all(lab, tmp_path, record_outcome):
    (tmp_path / "run").write_text("not a folder")
    with start_processes(lab, tmp_path / "run", 2) as runs:
        assert [run.wait() for run in runs] == [2, 2]
    messages = [line for line in runs[1].output if line.startswith("affect_jax: ")]
    assert messages[0].startswith("affect_jax: process 0 of the run failed: ")
    record_outcome("workdir that one process cannot use", "one line in each, exit 2", 0)


@pytest.mark.parametrize("victim", [pytest.param(0, marks=soak_only), 1])
def test_killed_process_ends_the_other_within_a_minute(lab, tmp_path, victim, record_outcome):
    with start_processes(lab, tmp_path, 2) as runs:
        runs[0].wait_for_steps(12)
        runs[victim].send(signal.SIGKILL)
        begin = time.perf_counter()
        survivor = runs[1 - victim]
        assert survivor.wait() not in (0, -signal.SIGKILL)
    assert not SOAK or time.perf_counter() - begin < 60
    messages = [line for line in survivor.output if line.startswith("affect_jax: ")]
    assert victim == 0 or "Restart all processes with the same command" in messages[-1]
    resumed = lab.finish(tmp_path)  # one process resumes what two have written
    assert_same_losses(read_result(tmp_path).losses, lab.reference()[0].losses)
    outcome = "the other ends within a minute; resumes after a restart"
    record_outcome("kill -9 of one of two processes", outcome, max(0, runs[0].step - resumed.start))
