"""The disk fills up, the workdir vanishes, the clock jumps, a worker dies, the loss explodes."""

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
from tests.faults.experiment import STEPS
from tests.faults.lab import end_of, lives, steps_of


class SmallDisk:
    """A file system of 4 MiB in memory, seen by the processes started with `prefix` only."""

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
        pytest.skip("only root may mount a small disk to fill up")
    disk = SmallDisk(tmp_path)
    try:
        if not disk.mounted:
            pytest.skip("no right to mount a small disk to fill up")
        yield disk
    finally:
        disk.close()


def test_a_full_disk_stops_no_step_and_the_run_goes_on_from_the_last_whole(
    lab, small_disk, outcome
):
    lab.undisturbed()
    workdir = small_disk.inside / "run"
    with lab.start(workdir, prefix=small_disk.prefix) as run:
        run.until(12)
        small_disk.fill()
        assert run.wait() == 2, "\n".join(run.said)
    said = "\n".join(run.said)
    assert run.step == STEPS
    # Orbax's threads may still call into a loop that the failed save has closed, and print that.
    assert not re.search(r'affect_jax/\S+\.py", line', said), said
    assert "earlier ones are whole, training goes on" in said
    assert run.said[-1].startswith(f"affect_jax: {workdir}/checkpoints: the checkpoint of step 40")
    whole = steps_of(small_disk.path / "run")[-1]
    assert 5 <= whole < STEPS  # that of step 10 may have been on its way to the disk
    (small_disk.path / "ballast").unlink()
    with lab.start(workdir, prefix=small_disk.prefix) as run:
        assert run.wait() == 0, "\n".join(run.said)
    assert run.start == whole
    arrays = end_of(small_disk.path / "run").arrays
    assert arrays == lab.undisturbed()[0].arrays
    what = "training goes on, exit 2 at the end; restart ends with the same bits"
    outcome("disk full", what, STEPS - whole)


def test_a_workdir_on_a_disk_that_cannot_be_written_is_refused(lab, small_disk, outcome):
    small_disk.call("mount", "-o", "remount,ro", str(small_disk.inside))
    with lab.start(small_disk.inside / "run", prefix=small_disk.prefix) as run:
        assert run.wait() == 2
    (message,) = run.said
    assert message == f"affect_jax: --workdir={small_disk.inside / 'run'}: Read-only file system"
    outcome("read-only workdir", "refused before anything is read, exit 2", 0)


@soak_only
def test_a_workdir_deleted_during_the_run_is_made_again(lab, tmp_path, outcome):
    workdir = tmp_path / "run"
    with lab.start(workdir) as run:
        run.until(12)
        workdir.rename(tmp_path / "gone")
        assert run.wait() == 0, "\n".join(run.said)
    step = steps_of(workdir)[-1]
    assert step == STEPS
    body = (workdir / "checkpoints" / str(step) / "info" / "metadata").read_text()
    arrays = json.loads(json.loads(body)["body"])["arrays"]
    hashes = {name: entry["sha256"] for name, entry in arrays.items()}
    assert hashes == lab.undisturbed()[0].arrays
    assert any("was deleted or moved during the run" in line for line in run.said)
    logged = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").open()]
    assert logged and logged[-1] == STEPS and (workdir / "config.json").is_file()
    what = "said; config, log and checkpoints from there on lie in a new one"
    outcome("workdir deleted during the run", what, 0)


@soak_only
def test_a_clock_that_jumps_changes_nothing(lab, tmp_path, outcome):
    with lab.start(tmp_path, AFFECT_JAX_CLOCK_JUMPS="1") as run:
        assert run.wait() == 0, "\n".join(run.said)
    assert end_of(tmp_path) == lab.undisturbed()[0]
    outcome("clock jumps by a day", "the same bits", 0)


@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGSTOP", marks=soak_only)])
def test_a_worker_that_dies_or_hangs_ends_the_run_within_a_minute(lab, tmp_path, name, outcome):
    """Killed is also what becomes of a worker where the machine has no memory left."""
    with lab.start(tmp_path, "--config.data.num_workers=1") as run:
        run.until(2)
        children = psutil.Process(run.pid).children(recursive=True)
        workers = [child for child in children if "multiprocessing.spawn" in str(child.cmdline())]
        assert workers
        for worker in workers:
            worker.send_signal(getattr(signal, name))
        begin = time.perf_counter()
        assert run.wait() in (0, 2)
    seconds = time.perf_counter() - begin
    assert not SOAK or seconds < 90  # the loader's patience is 40; a machine may be busy
    deadline = time.monotonic() + 30
    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)  # a worker ends a moment after its parent
    assert not any(map(lives, children))
    assert "Traceback" not in "\n".join(run.said)
    if run.step < STEPS:
        assert run.said[-1].startswith("affect_jax: ") and "worker" in run.said[-1]
    outcome("a loading worker dies or hangs", "an error within a minute, exit 2, no orphans", 0)


STARVED = """
import sys
if "--multiprocessing-fork" in sys.orig_argv:
    import itertools, simplejpeg
    decode, calls = simplejpeg.decode_jpeg, itertools.count()
    def starved(*arguments, **options):
        return bytearray(1 << 60) if next(calls) > 60 else decode(*arguments, **options)
    simplejpeg.decode_jpeg = starved
"""  # what Python runs first: in a worker the 61st face wants more memory than there is


def test_a_worker_that_gets_no_more_memory_ends_the_run_with_one_line(lab, tmp_path, outcome):
    """A limit would not do: a worker lives on what it has, as its memory is used again."""
    (tmp_path / "sitecustomize.py").write_text(STARVED)
    workdir, flags = tmp_path / "run", ["--config.data.num_workers=1"]
    with lab.start(workdir, *flags, PYTHONPATH=str(tmp_path)) as run:
        assert run.wait() == 2
    assert run.step > 0
    (message,) = [line for line in run.said if line.startswith("affect_jax: ")]
    assert message.startswith("affect_jax: data.num_workers = 1: ") and "memory" in message
    # What lent memory between processes may complain of what the worker could not give back.
    assert not re.search(r'affect_jax/\S+\.py", line', "\n".join(run.said))
    outcome(
        "a loading worker gets no more memory", "one error, exit 2", run.step - run.step // 5 * 5
    )


def test_an_exploding_loss_stops_the_run_and_may_be_left_out(lab, tmp_path, outcome):
    with lab.start(tmp_path, trunk="fragile") as run:
        assert run.wait() == 2
    message = run.said[-1]
    (found,) = json.loads((tmp_path / "nonfinite.json").read_text())
    assert f"affect_jax: step {found['step']}: the loss or its gradient is not finite" in message
    assert "training_0.png" in found["faces"] and len(found["faces"]) == 8
    assert len(found["gradient_norms_before"]) == 0  # every step is a line of the log here
    folder = tmp_path / "checkpoints"
    before = steps_of(tmp_path)[-1] if folder.exists() else 0
    assert before < found["step"]
    run = lab.finish(tmp_path, "--config.skip_nonfinite=10", trunk="fragile")
    left_out = [line for line in run.said if "was left out" in line]
    assert 4 <= len(left_out) <= 8  # the white face comes once an epoch
    assert end_of(tmp_path).losses.keys() < set(range(1, STEPS + 1))
    what = "stops at the step, faces written down; skip_nonfinite goes on"
    outcome("loss not finite", what, found["step"] - 1 - before)
