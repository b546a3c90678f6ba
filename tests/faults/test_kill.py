"""kill -9 at any moment, and a restart: the end is bit for bit that of an undisturbed run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import SOAK
from tests.faults.experiment import SAVE_EVERY
from tests.faults.lab import Run, end_of

MOMENTS = ("at any moment", "in the middle of training", "while a checkpoint is written")
KILLS = 5 if SOAK else len(MOMENTS)  # of one run, before it may come to its end


def wait_for(run: Run, moment: str, draw: random.Random, seconds: float, folder: Path) -> None:
    """Of a run of 40 steps each kill leaves enough for the next one."""
    if moment == "at any moment":
        time.sleep(draw.uniform(0, seconds / 2))
    elif moment == "in the middle of training":
        run.until(draw.randrange(1, 8))
        time.sleep(draw.uniform(0, 0.05))
    else:
        run.until_saving(folder)
        time.sleep(draw.uniform(0, 0.05))


@pytest.mark.parametrize("number", range(max(1, SOAK // KILLS)))
def test_a_killed_run_ends_as_an_undisturbed_one(lab, tmp_path, outcome, number):
    trunk = "resnet18" if number % 5 == 4 else "tiny"
    expected, seconds = lab.undisturbed(trunk)
    kills: list[tuple[str, int, int]] = []  # moment, step it had gone on from, step it had reached
    for i in range(KILLS):
        moment, draw = MOMENTS[(number + i) % len(MOMENTS)], random.Random(100 * number + i)
        with lab.start(tmp_path, trunk=trunk) as run:
            wait_for(run, moment, draw, seconds, tmp_path / "checkpoints")
            if run.kill():
                kills.append((moment, run.start, run.step))
    start = lab.finish(tmp_path, trunk=trunk).start
    assert end_of(tmp_path) == expected
    for moment, before, reached in reversed(kills):
        # The newest checkpoint may still have been on its way to the disk.
        assert reached - start <= 2 * SAVE_EVERY
        outcome(f"kill -9 {moment}", "restart ends with the same bits", max(0, reached - start))
        start = before if before or reached else start  # else killed before it said a word
