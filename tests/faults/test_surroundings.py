"""Full disk, deleted workdir, jumping clock, dead worker, exploding loss."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.conftest import SOAK, soak_only
from tests.faults.lab import checkpoint_steps, is_alive, read_result
from tests.faults.tiny_config import STEPS


class SmallDisk:
    """A file system of 4 MiB in memory, visible only to processes started with `prefix`."""

    def __init__(self, folder: pathlib.Path):
        script = f"mount -t tmpfs -o size=4m none '{folder}' && echo mounted && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        self.mounted = self._holder.stdout.readline() == "mounted\n"
        self.prefix = ["nsenter", "--target", str(self._holder.pid), "--mount", "--wd=/"]
        self.inside = folder
        self.path = pathlib.Path(f"/proc/{self._holder.pid}/root{folder}")

    def fill(self) -> None:
        with (self.path / "ballast").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 12)):
                    pass
            except OSError:
                pass

    def call(self, *command: str) -> None:
        subprocess.run([*self.prefix, *command], check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[SmallDisk]:
    if not (shutil.which("unshare") and shutil.which("nsenter")) or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = SmallDisk(tmp_path)
    try:
        if not disk.mounted:
            pytest.skip("no permission to mount a small disk")
        yield disk
    finally:
        disk.close()


def test_full_disk_stops_no_step_and_the_run_resumes(lab, small_disk, record_outcome):
    lab.reference()
    workdir = small_disk.inside / "run"
    with lab.start(workdir, prefix=small_disk.prefix) as run:
        run.wait_for_steps(12)
        small_disk.fill()
        assert run.wait() == 2, "\n".join(run.output)
    output = "\n".join(run.output)
    assert run.step == STEPS
    # Orbax's threads may print an error about an event loop that the failed save has closed.
    assert not re.search(r'affect_jax/\S+\.py", line', output), output
    assert "earlier checkpoints are intact and training continues" in output
    assert run.output[-1].startswith(
        f"affect_jax: {workdir}/checkpoints: the checkpoint of step 40"
    )
    newest = checkpoint_steps(small_disk.path / "run")[-1]
    assert 5 <= newest < STEPS  # the checkpoint of step 10 may be incomplete
    (small_disk.path / "ballast").unlink()
    with lab.start(workdir, prefix=small_disk.prefix) as run:
        assert run.wait() == 0, "\n".join(run.output)
    assert run.start == newest
    arrays = read_result(small_disk.path / "run").arrays
    assert arrays == lab.reference()[0].arrays
    outcome = "training continues, exit 2 at the end; restart, same final bits"
    record_outcome("disk full", outcome, STEPS - newest)


def test_read_only_workdir_is_refused(lab, small_disk, record_outcome):
    small_disk.call("mount", "-o", "remount,ro", str(small_disk.inside))
    with lab.start(small_disk.inside / "run", prefix=small_disk.prefix) as run:
        assert run.wait() == 2
    (message,) = run.output
    assert message == f"affect_jax: --workdir={small_disk.inside / 'run'}: Read-only file system"
    record_outcome("read-only workdir", "refused before any data are read, exit 2", 0)


@soak_only
def test_workdir_moved_during_the_run_ends_it_with_one_error(lab, tmp_path, record_outcome):
    workdir, moved = tmp_path / "run", tmp_path / "moved"
    with lab.start(workdir) as run:
        run.wait_for_steps(12)
        workdir.rename(moved)
        assert run.wait() == 2, "\n".join(run.output)
    assert f"{workdir} was deleted or moved during the run" in run.output[-1]
    moved.rename(workdir)
    resumed = lab.finish(workdir)
    assert read_result(workdir).arrays == lab.reference()[0].arrays
    outcome = "one error, exit 2; moved back, it resumes with the same bits"
    record_outcome("workdir moved during the run", outcome, run.step - resumed.start)


@soak_only
def test_jumping_clock_changes_nothing(lab, tmp_path, record_outcome):
    with lab.start(tmp_path, AFFECT_JAX_CLOCK_JUMPS="1") as run:
        assert run.wait() == 0, "\n".join(run.output)
    assert read_result(tmp_path) == lab.reference()[0]
    record_outcome("clock jumps by a day", "same final bits", 0)


@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGSTOP", marks=soak_only)])
def test_dead_or_hanging_worker_ends_the_run_within_a_minute(lab, tmp_path, name, record_outcome):
    """The system also kills a worker when the machine is out of memory."""
    with lab.start(tmp_path, "--config.data.num_workers=1") as run:
        run.wait_for_steps(2)
        children = psutil.Process(run.pid).children(recursive=True)
        workers = [child for child in children if "multiprocessing.spawn" in str(child.cmdline())]
        assert workers
        for worker in workers:
            worker.send_signal(getattr(signal, name))
        begin = time.perf_counter()
        assert run.wait() in (0, 2)
    seconds = time.perf_counter() - begin
    assert not SOAK or seconds < 90  # the loader's timeout is 40; a machine may be busy
    deadline = time.monotonic() + 30
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)  # a worker exits shortly after its parent
    assert not any(map(is_alive, children))
    assert "Traceback" not in "\n".join(run.output)
    if run.step < STEPS:
        assert run.output[-1].startswith("affect_jax: ") and "worker" in run.output[-1]
    record_outcome(
        "a loading worker dies or hangs", "an error within a minute, exit 2, no orphans", 0
    )


OUT_OF_MEMORY = """
import sys
if "--multiprocessing-fork" in sys.orig_argv:
    import itertools, simplejpeg
    decode, calls = simplejpeg.decode_jpeg, itertools.count()
    def exhaust_memory(*arguments, **options):
        return bytearray(1 << 60) if next(calls) > 60 else decode(*arguments, **options)
    simplejpeg.decode_jpeg = exhaust_memory
"""  # sitecustomize.py: in a worker, decoding fails for lack of memory after 61 faces


def test_worker_out_of_memory_ends_the_run_with_one_error_line(lab, tmp_path, record_outcome):
    """A memory limit would not trigger this: a worker reuses the memory that it has."""
    (tmp_path / "sitecustomize.py").write_text(OUT_OF_MEMORY)
    workdir, flags = tmp_path / "run", ["--config.data.num_workers=1"]
    with lab.start(workdir, *flags, PYTHONPATH=str(tmp_path)) as run:
        assert run.wait() == 2
    assert run.step > 0
    (message,) = [line for line in run.output if line.startswith("affect_jax: ")]
    assert message.startswith("affect_jax: data.num_workers = 1: ") and "memory" in message
    # Shared memory that the dead worker did not return may cause warnings.
    assert not re.search(r'affect_jax/\S+\.py", line', "\n".join(run.output))
    record_outcome(
        "a loading worker is out of memory", "one error, exit 2", run.step - run.step // 5 * 5
    )


def test_nonfinite_loss_stops_the_run_or_is_skipped(lab, tmp_path, record_outcome):
    with lab.start(tmp_path, trunk="fragile") as run:
        assert run.wait() == 2
    message = run.output[-1]
    (entry,) = json.loads((tmp_path / "nonfinite.json").read_text())
    assert f"affect_jax: step {entry['step']}: the loss or its gradient is not finite" in message
    assert "training_0.png" in entry["faces"] and len(entry["faces"]) == 8
    assert len(entry["gradient_norms_before"]) == 0  # the run logs every step
    folder = tmp_path / "checkpoints"
    before = checkpoint_steps(tmp_path)[-1] if folder.exists() else 0
    assert before < entry["step"]
    run = lab.finish(tmp_path, "--config.skip_nonfinite=10", trunk="fragile")
    warnings = [line for line in run.output if "was skipped" in line]
    assert 4 <= len(warnings) <= 8  # the white face appears once per epoch
    assert read_result(tmp_path).losses.keys() < set(range(1, STEPS + 1))
    outcome = "stops at the step and writes its faces; resumes with skip_nonfinite"
    record_outcome("loss not finite", outcome, entry["step"] - 1 - before)
