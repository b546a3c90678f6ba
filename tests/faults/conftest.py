"""The laboratory, and the table of what was done in it."""

from __future__ import annotations

import collections
import os
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.faults.lab import REPOSITORY, Lab

SOAK = int(os.environ["AFFECT_JAX_SOAK"]) if "AFFECT_JAX_SOAK" in os.environ else 0
"""Kills to do; 0: the quick subset of the faults."""

soak_only = pytest.mark.skipif(not SOAK, reason="launch/soak.sh runs it")

_OUTCOMES: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)


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


def pytest_terminal_summary(terminalreporter) -> None:
    """The table `Reliability` of the README."""
    if not SOAK:
        return
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    write = terminalreporter.write_line
    write(f"\n{time.strftime('%Y-%m-%d')}, commit {commit}\n")
    write("| fault | tries | outcome | lost steps, at most |\n|---|---|---|---|")
    for fault, found in _OUTCOMES.items():
        counted = collections.Counter(what for what, _ in found)
        what = "; ".join(
            f"{text} ({n})" if len(counted) > 1 else text for text, n in counted.items()
        )
        write(f"| {fault} | {len(found)} | {what} | {max(lost for _, lost in found)} |")
