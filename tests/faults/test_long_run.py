"""20,000 steps with evaluation and checkpoints: memory, threads and open files do not grow."""

from __future__ import annotations

import psutil

from tests.faults.conftest import soak_only

STEPS = 20_000


@soak_only
def test_memory_threads_and_open_files_do_not_grow(lab, tmp_path, record_outcome):
    flags = [
        f"--config.duration.steps={STEPS}",
        "--config.schedule.name=constant",
        "--config.log_every=100",
        "--config.evaluate_every.steps=500",
        "--config.checkpoint.every.steps=500",
        "--config.images_every.steps=500",
    ]
    with lab.start(tmp_path, *flags, timeout_seconds=6 * 3600) as run:
        process = psutil.Process(run.pid)

        def sizes() -> tuple[int, int, int]:
            with process.oneshot():
                return process.memory_info().rss >> 20, process.num_threads(), process.num_fds()

        run.wait_for_steps(2_000)
        before = sizes()
        run.wait_for_steps(STEPS - 100)
        after = sizes()
        assert run.wait() == 0, "\n".join(run.output[-20:])
    assert after[0] <= 1.05 * before[0], f"memory grew from {before[0]} to {after[0]} MiB"
    assert after[1] <= before[1] + 2, f"threads: {before[1]}, then {after[1]}"
    assert after[2] <= before[2] + 4, f"open files: {before[2]}, then {after[2]}"
    outcome = (
        f"{before[0]} MiB at step 2,000, {after[0]} at the end; threads {before[1]}, {after[1]}"
    )
    outcome += f"; open files {before[2]}, {after[2]}"
    record_outcome("20,000 steps", outcome, 0)
