"""Connecting, agreeing and failing together; tests/faults runs several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from affect_jax.core import processes
from affect_jax.core.errors import UserError

COMPLETE = dict(zip(processes.VARIABLES, ("127.0.0.1:1", "2", "0"), strict=True))


@pytest.fixture
def environment(monkeypatch):
    """Returns a function that sets the variables of `initialize` and returns its recorded calls."""
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))

    def set_variables(variables: dict[str, str]) -> list[dict]:
        for name in (*processes.VARIABLES, "AFFECT_JAX_CLUSTER"):
            monkeypatch.setenv(name, "")  # so that monkeypatch restores it
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return calls

    return set_variables


def test_without_variables_the_run_has_one_process(environment):
    calls = environment({})
    processes.initialize()
    assert not calls and not processes.is_multiprocess() and processes.is_main()


def test_initialize_passes_the_variables_to_jax(environment):
    calls = environment(COMPLETE)
    processes.initialize()
    (options,) = calls
    assert options["coordinator_address"] == "127.0.0.1:1"
    assert (options["num_processes"], options["process_id"]) == (2, 0)
    assert options["heartbeat_timeout_seconds"] < 60  # the others exit within a minute


def test_one_variable_enables_cluster_detection(environment):
    calls = environment({"AFFECT_JAX_CLUSTER": "auto"})
    processes.initialize()
    (options,) = calls
    assert options.keys() == {"heartbeat_timeout_seconds", "initialization_timeout"}


@pytest.mark.parametrize("missing", processes.VARIABLES)
def test_incomplete_variables_are_an_error_that_lists_all(environment, missing):
    calls = environment({name: value for name, value in COMPLETE.items() if name != missing})
    with pytest.raises(UserError) as caught:
        processes.initialize()
    assert all(name in str(caught.value) for name in processes.VARIABLES)
    assert not calls


def test_process_id_must_be_a_number(environment):
    environment(COMPLETE | {"JAX_PROCESS_ID": "first"})
    with pytest.raises(UserError, match="index of this process"):
        processes.initialize()


@pytest.mark.parametrize("address", ["", "host", "host:", ":1"])
def test_address_must_have_a_port(environment, address):
    calls = environment(COMPLETE | {"JAX_COORDINATOR_ADDRESS": address})
    with pytest.raises(UserError, match="host:port of process 0"):
        processes.initialize()
    assert not calls


def test_connection_failure_is_a_one_line_error(environment, monkeypatch):
    environment(COMPLETE)

    def fail(**options):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(
        UserError, match="cannot connect to each other: DEADLINE_EXCEEDED"
    ) as caught:
        processes.initialize()
    assert "\n" not in str(caught.value)


def test_collectives_of_one_process_do_nothing():
    tree = {"a": np.arange(3), "b": jax.numpy.ones(2)}
    assert processes.broadcast_from_main(tree) is tree
    assert processes.process_max(15) == 15


@pytest.fixture
def other_process(monkeypatch):
    """Returns a function that sets the text which process 1 contributes to `gather_texts`."""

    def set_text(text: str) -> None:
        monkeypatch.setattr(processes, "gather_texts", lambda own: [own, text])

    return set_text


def test_one_process_agrees_with_itself():
    assert processes.gather_texts("a") == ["a"]
    processes.require_equal({"seed": 0, "learning_rate": float("nan")})
    with processes.raise_in_all_processes():
        pass


def test_texts_of_different_lengths_are_gathered(monkeypatch):
    """The arrays of process 1 have the size that the largest text needs."""
    texts = ["learning_rate", "größer", ""]
    others = [np.frombuffer(text.encode(), np.uint8) for text in texts]

    def allgather(array):
        if array.ndim == 0:
            return np.array([len(other) for other in others])
        return np.stack([np.pad(other, (0, len(array) - len(other))) for other in others])

    monkeypatch.setattr(processes, "is_multiprocess", lambda: True)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", allgather)
    assert processes.gather_texts(texts[0]) == texts


def test_differing_settings_are_named(other_process):
    other_process(json.dumps({"seed": 0, "learning_rate": 0.1, "batch_size": 8}))
    processes.require_equal({"seed": 0, "learning_rate": 0.1, "batch_size": 8})
    with pytest.raises(UserError) as caught:
        processes.require_equal({"seed": 0, "learning_rate": 0.2, "optimizer.momentum": 0.9})
    message = str(caught.value)
    assert "learning_rate (0.2 in process 0, 0.1 in process 1)" in message
    assert "batch_size" in message and "optimizer.momentum" in message
    assert "seed" not in message and "\n" not in message


def test_error_of_one_process_is_raised_in_all(other_process):
    other_process("x: no such folder")
    with pytest.raises(UserError, match="process 1 of the run failed: x: no such folder"):
        with processes.raise_in_all_processes():
            pass
    other_process("")
    with pytest.raises(KeyError), processes.raise_in_all_processes():
        raise KeyError("own error")


@pytest.mark.parametrize("value", ["", "0", "-3", "soon", "1.5"])
def test_timeout_must_be_a_positive_number(monkeypatch, value):
    monkeypatch.setenv("AFFECT_JAX_CLUSTER", "auto")
    monkeypatch.setenv(processes.TIMEOUT_VARIABLE, value)
    with pytest.raises(UserError, match="must be a positive number of seconds"):
        processes.initialize()


def test_process_that_never_comes_ends_the_others_with_one_line():
    """JAX itself would abort the process with a dump of its stack."""
    variables = dict(zip(processes.VARIABLES, ("127.0.0.1:1", "2", "1"), strict=True))
    environment = {**os.environ, **variables, processes.TIMEOUT_VARIABLE: "2"}
    program = (
        "from affect_jax.core import processes; processes.REPORT_SECONDS = 1; "
        "processes.initialize()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("affect_jax: ")]
    assert lines[0] == "affect_jax: waiting for 2 processes to connect: 1 of 2 s"
    assert lines[-1].startswith("affect_jax: not all of 2 processes connected within 2 s; start")
