"""The processes of a run: connecting them, agreeing on settings, and failing together.

With one process every function returns at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from affect_jax.core.errors import UserError, first_line

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""`host:port` of process 0, the number of processes, and the index of this process."""

TIMEOUT_VARIABLE = "AFFECT_JAX_CONNECT_TIMEOUT"
"""Seconds to wait until all processes are connected; 300 by default."""

HEARTBEAT_TIMEOUT_SECONDS = 30  # a process that is silent for longer counts as lost
REPORT_SECONDS = 30  # interval of the lines that report what a process waits for


def initialize() -> None:
    """Connects the processes of a run, if environment variables configure several.

    Either the three `VARIABLES` are set, or `AFFECT_JAX_CLUSTER=auto` on a cluster that JAX detects
    (TPU pods, SLURM, Open MPI). Call it before any other function of JAX. If a process does not
    start within the time of `TIMEOUT_VARIABLE`, the others exit with code 2.

    **Raises:** `UserError` if the variables are wrong or the processes cannot connect.
    """
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    options: dict[str, Any] = {}
    if variables:
        try:
            address, count, index = (variables[name] for name in VARIABLES)
            if not re.fullmatch(r".+:\d+", address):  # JAX raises an IndexError
                raise ValueError(address)
            numbers = {"num_processes": int(count), "process_id": int(index)}
            options = {"coordinator_address": address, **numbers}
        except (KeyError, ValueError):
            settings = ", ".join(f"{name}={value}" for name, value in variables.items())
            raise UserError(
                f"{settings}: set all of {', '.join(VARIABLES)} "
                "(host:port of process 0, number of processes, index of this process), or none"
            ) from None
    elif "AFFECT_JAX_CLUSTER" not in os.environ:
        return
    timeout = os.environ.get(TIMEOUT_VARIABLE, "300")
    if not timeout.isdecimal() or int(timeout) < 1:
        raise UserError(f"{TIMEOUT_VARIABLE}={timeout}: must be a positive number of seconds")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # used by CPUs only
    jax.config.update("jax_enable_preemption_service", True)  # handles SIGTERM from here on
    try:
        with _limit_waiting(int(timeout), f"{options.get('num_processes', 'all')} processes"):
            jax.distributed.initialize(
                # Longer than ours: JAX would abort the process.
                initialization_timeout=int(timeout) + 60,
                heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS,
                **options,
            )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes of the run cannot connect to each other: {first_line(error)}; set all "
            f"of {', '.join(VARIABLES)}; AFFECT_JAX_CLUSTER=auto is for clusters that JAX detects"
        ) from error


@contextlib.contextmanager
def _limit_waiting(timeout: int, awaited: str) -> Iterator[None]:
    """Reports the wait of the block, which holds the main thread, and ends it after `timeout` s."""
    connected = threading.Event()

    def watch() -> None:
        waited = 0
        while not connected.wait(min(REPORT_SECONDS, timeout - waited)):
            waited = min(waited + REPORT_SECONDS, timeout)
            text = f"waiting for {awaited} to connect: {waited} of {timeout} s"
            if waited == timeout:
                text = (
                    f"not all of {awaited} connected within {timeout} s; start them together, "
                    f"check the address, or set {TIMEOUT_VARIABLE} to more seconds"
                )
            print(f"affect_jax: {text}", file=sys.stderr, flush=True)
            if waited == timeout:
                os._exit(2)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        connected.set()


def is_multiprocess() -> bool:
    """Whether the run has more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Whether this is the process that writes logs and files: process 0."""
    return jax.process_index() == 0


def broadcast_from_main(tree: Any) -> Any:
    """Returns the main process's pytree, as NumPy arrays, in every process."""
    if not is_multiprocess():
        return tree
    return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree))


def process_max(value: int) -> int:
    """Returns the maximum over all processes. All must call it; it waits for the devices."""
    if not is_multiprocess():
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def gather_texts(text: str) -> list[str]:
    """Returns the texts of all processes, in their order. All must call it."""
    if not is_multiprocess():
        return [text]
    encoded = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(encoded)))
    padded = np.zeros(max(1, sizes.max()), np.uint8)
    padded[: len(encoded)] = encoded
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def require_equal(values: Mapping[str, Any]) -> None:
    """Compares values that must be the same in all processes. All must call it.

    **Raises:** `UserError` in every process, if a value differs; it names them.
    """
    texts = gather_texts(json.dumps(values, default=str))
    by_process = [json.loads(text, parse_constant=str) for text in texts]  # NaN is not NaN
    problems = []
    for name in sorted({name for values in by_process for name in values}):
        first, *others = (values.get(name) for values in by_process)
        for i, other in enumerate(others, 1):
            if other != first:
                problems.append(f"{name} ({first!r} in process 0, {other!r} in process {i})")
                break
    if problems:
        raise UserError(
            f"the processes of the run differ in {', '.join(problems)}; start all of them with the "
            "same command, versions and data"
        )


@contextlib.contextmanager
def raise_in_all_processes() -> Iterator[None]:
    """Raises an error of the block in all processes, none of which can continue without another.

    **Raises:** the error in the processes where it occurred, else `UserError` with its message.
    """
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    messages = gather_texts("" if error is None else first_line(error, 1000))
    if error is not None:
        raise error
    for i, message in enumerate(messages):
        if message:
            raise UserError(f"process {i} of the run failed: {message}")
