"""kill -9 at any moment, and a restart: the end is bit for bit that of an undisturbed run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import SOAK
from tests.faults.experiment import SAVE_EVERY, STEPS
from tests.faults.lab import Run, end_of

MOMENTS = ("at any moment", "in the middle of training", "while a checkpoint is written")
KILLS = 5 if SOAK else len(MOMENTS)  # of one run, before it may come to its end


def wait_for(run: Run, moment: str, draw: random.Random, seconds: float, folder: Path) -> None:
    if moment == "at any moment":
        time.sleep(draw.uniform(0, seconds))
    elif moment == "in the middle of training":
        run.until(draw.randrange(1, STEPS // 2))
        time.sleep(draw.uniform(0, 0.05))
    else:
        run.until_saving(folder)
        time.sleep(draw.uniform(0, 0.05))


@pytest.mark.parametrize("number", range(max(1, SOAK // KILLS)))
def test_a_killed_run_ends_as_an_undisturbed_one(lab, tmp_path, outcome, number):
    trunk = "resnet18" if number % 5 == 4 else "tiny"
    expected, seconds = lab.undisturbed(trunk)
    reached, killed, lost = 0, "", []
    for i in range(KILLS + 1):
        moment = MOMENTS[(number + i) % len(MOMENTS)]
        with lab.start(tmp_path, trunk=trunk) as run:
            if i < KILLS:
                draw = random.Random(100 * number + i)
                wait_for(run, moment, draw, seconds, tmp_path / "checkpoints")
                run.kill()
            else:
                assert run.wait() == 0, "\n".join(run.said)
        if i:  # of a run that was killed before it said where it goes on nothing is known
            said = run.start or run.step
            lost.append((killed, max(0, reached - run.start) if said else 0))
        if run.step:
            reached = run.step
        killed = moment
    assert end_of(tmp_path) == expected
    for moment, steps in lost:
        # The newest checkpoint may still have been on its way to the disk.
        assert steps <= 2 * SAVE_EVERY
        outcome(f"kill -9 {moment}", "restart ends with the same bits", steps)
