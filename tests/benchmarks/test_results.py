"""What the README's table of runs says of their time."""

from __future__ import annotations

import pytest

from benchmarks import results


def lines(*times: float) -> list[dict]:
    """A log whose first line, of step 50, was written at the first of the times."""
    first = {"step": 50, "time": times[0], "train.images_per_second": 10.0}
    return [first, *({"step": 60, "time": time} for time in times[1:])]


def test_what_came_before_the_first_line_counts():
    """50 steps of 4 faces at 10 a second are 20 seconds."""
    assert results.seconds_of(lines(100, 110, 120, 130), batch_size=4) == pytest.approx(50)


def test_a_pause_does_not_count():
    """Hours later the same command went on."""
    assert results.seconds_of(lines(100, 110, 120, 9_000, 9_010), batch_size=4) == pytest.approx(50)
