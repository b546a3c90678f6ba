"""Fixtures of the fault tests, and the table of injected faults and outcomes."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from benchmarks import harness
from tests.faults.lab import REPOSITORY, Lab

SOAK = int(os.environ["AFFECT_JAX_SOAK"]) if "AFFECT_JAX_SOAK" in os.environ else 0
"""Number of kills; 0: the quick subset of the faults."""

TABLE = os.environ["AFFECT_JAX_RELIABILITY"] if "AFFECT_JAX_RELIABILITY" in os.environ else ""
"""The file that gets the table, between its markers, if all tests pass."""

soak_only = pytest.mark.skipif(not SOAK, reason="slow; run launch/soak.sh")

BAD_INPUT = "bad input: tables, annotations, images, configs, checkpoints, predictions"


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in commands that a shell starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)  # runs must receive it


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    shared = tmp_path_factory.getbasetemp().parent / "compiled"  # by pytest-xdist workers
    return Lab(tmp_path_factory.mktemp("lab"), shared)


@pytest.fixture
def record_outcome(record_property) -> Callable[..., None]:
    """Function `record(fault, outcome, lost_steps)` that adds to the table if the test passes.

    Tests of other folders with the mark `fault` or `bad_input` do the same with pytest's
    `record_property("fault", (fault, outcome, lost_steps))`.
    """

    def record(fault: str, outcome: str, lost_steps: int = 0) -> None:
        record_property("fault", (fault, outcome, lost_steps))

    return record


def pytest_terminal_summary(terminalreporter, exitstatus) -> None:
    """Prints the reliability table and writes it to the file `TABLE` if all tests pass."""
    if not SOAK:
        return
    rows: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    for report in terminalreporter.stats.get("passed", []):
        recorded = [value for name, value in report.user_properties if name == "fault"]
        if not recorded and "bad_input" in report.keywords:
            recorded = [(BAD_INPUT, "one error line, or a row skipped with a reason", 0)]
        for fault, outcome, lost_steps in recorded:
            rows[fault].append((outcome, lost_steps))
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    lines = ["| fault | tries | outcome | lost steps, at most |", "|---|---|---|---|"]
    for fault, outcomes in rows.items():
        counts = collections.Counter(outcome for outcome, _ in outcomes)
        summary = "; ".join(
            f"{outcome} ({n})" if len(counts) > 1 else outcome for outcome, n in counts.items()
        )
        lost_steps = max(lost for _, lost in outcomes)
        lines.append(f"| {fault} | {len(outcomes)} | {summary} | {lost_steps} |")
    text = "\n".join([*lines, "", f"{time.strftime('%Y-%m-%d')}, commit {commit}."])
    terminalreporter.write_line(f"\n{text}")
    if TABLE and exitstatus == 0:
        harness.replace_table(REPOSITORY / TABLE, "reliability", text)
