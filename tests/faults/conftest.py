"""The laboratory, and the table of what was done in it."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from benchmarks import recording
from tests.faults.lab import HERE, REPOSITORY, Lab

SOAK = int(os.environ["AFFECT_JAX_SOAK"]) if "AFFECT_JAX_SOAK" in os.environ else 0
"""Kills to do; 0: the quick subset of the faults."""

TABLE = os.environ["AFFECT_JAX_RELIABILITY"] if "AFFECT_JAX_RELIABILITY" in os.environ else ""
"""The file between whose markers the table goes, if all was well."""

soak_only = pytest.mark.skipif(not SOAK, reason="launch/soak.sh runs it")

BAD_INPUT = "bad input: tables, annotations, images, configs, checkpoints, predictions"

_OUTCOMES: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)  # runs are to hear it


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    shared = tmp_path_factory.getbasetemp().parent / "compiled"  # by the workers of pytest-xdist
    return Lab(tmp_path_factory.mktemp("lab"), shared)


@pytest.fixture
def outcome() -> Callable[[str, str, int], None]:
    """`outcome(fault, what_happened, lost_steps)`: a line of the table."""

    def note(fault: str, what: str, lost_steps: int = 0) -> None:
        _OUTCOMES[fault].append((what, lost_steps))

    return note


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is in this folder is a fault: launch/soak.sh selects by that mark."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("fault")


def pytest_terminal_summary(terminalreporter, exitstatus) -> None:
    """The table `Reliability`: printed, and put into the README when everything was done."""
    if not SOAK:
        return
    # Here, not as they end: pytest tells of tests in other folders only to itself.
    for report in terminalreporter.stats.get("passed", []):
        if "bad_input" in report.keywords:
            _OUTCOMES[BAD_INPUT].append(("one line, or a row skipped with its reason", 0))
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    lines = ["| fault | tries | outcome | lost steps, at most |", "|---|---|---|---|"]
    for fault, found in _OUTCOMES.items():
        counted = collections.Counter(what for what, _ in found)
        what = "; ".join(
            f"{text} ({n})" if len(counted) > 1 else text for text, n in counted.items()
        )
        lines.append(f"| {fault} | {len(found)} | {what} | {max(lost for _, lost in found)} |")
    text = "\n".join([*lines, "", f"{time.strftime('%Y-%m-%d')}, commit {commit}."])
    terminalreporter.write_line(f"\n{text}")
    if TABLE and exitstatus == 0:
        recording.replace_table(REPOSITORY / TABLE, "reliability", text)
