"""kill -9 at any moment: a restarted run ends with the bits of an uninterrupted run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import SOAK
from tests.faults.lab import TrainingProcess, read_result
from tests.faults.tiny_config import SAVE_EVERY

MOMENTS = ("in the middle of training", "while a checkpoint is written", "at any moment")
KILLS = 5 if SOAK else 2  # of one run, before it may finish


def wait_for(
    run: TrainingProcess, moment: str, generator: random.Random, seconds: float, folder: Path
) -> None:
    """Waits for the moment to kill. Each wait leaves enough of the 40 steps for the next kill."""
    if moment == "at any moment":
        time.sleep(generator.uniform(0, seconds / 2))
    elif moment == "in the middle of training":
        run.wait_for_steps(generator.randrange(1, 8))
        time.sleep(generator.uniform(0, 0.05))
    else:
        run.wait_for_save(folder)
        time.sleep(generator.uniform(0, 0.05))


@pytest.mark.parametrize("number", range(max(1, SOAK // KILLS)))
def test_killed_run_ends_with_the_same_bits(lab, tmp_path, record_outcome, number):
    trunk = "resnet18" if number % 5 == 4 else "tiny"
    expected, seconds = lab.reference(trunk)
    kills: list[tuple[str, int, int]] = []  # moment, first step, last step
    for i in range(KILLS):
        moment = MOMENTS[(number + i) % len(MOMENTS)]
        generator = random.Random(100 * number + i)
        with lab.start(tmp_path, trunk=trunk) as run:
            wait_for(run, moment, generator, seconds, tmp_path / "checkpoints")
            if run.kill():
                kills.append((moment, run.start, run.step))
    start = lab.finish(tmp_path, trunk=trunk).start
    assert read_result(tmp_path) == expected
    for moment, before, reached in reversed(kills):
        # The kill may have come before the newest checkpoint was complete.
        assert reached - start <= 2 * SAVE_EVERY
        record_outcome(f"kill -9 {moment}", "restart; same final bits", max(0, reached - start))
        start = before if before or reached else start  # 0 and 0: killed before its first output
