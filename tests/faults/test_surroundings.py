"""Full disk, deleted workdir, standard output that cannot be written."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.faults.conftest import soak_only
from tests.faults.lab import checkpoint_steps, read_result
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


@soak_only
def test_workdir_deleted_during_the_run_ends_it(lab, tmp_path, record_outcome):
    workdir = tmp_path / "run"
    with lab.start(workdir) as run:
        run.wait_for_steps(12)
        workdir.rename(tmp_path / "moved")
        assert run.wait() == 2, "\n".join(run.output)
    (message,) = [line for line in run.output if line.startswith("affect_jax: ")]
    assert message.startswith(f"affect_jax: {workdir} was deleted or moved during the run")
    assert not workdir.exists()
    saved = checkpoint_steps(tmp_path / "moved")[-1]
    record_outcome("workdir deleted or moved during the run", "one error, exit 2", run.step - saved)


@pytest.mark.parametrize(
    "redirection",
    [
        "2>&1 | head -1",
        pytest.param("2>/dev/full", marks=soak_only),
        ">/dev/full",
        pytest.param(">&- 2>&-", marks=soak_only),
    ],
)
def test_output_that_cannot_be_written_does_not_end_training(
    lab, tmp_path, redirection, record_outcome
):
    lab.reference()
    script = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    with lab.start(tmp_path / "run", prefix=["bash", "-c", script, "bash"]) as run:
        assert run.wait() == 2
    if redirection == ">/dev/full":
        assert run.output[-1] == "affect_jax: output was lost: No space left on device"
    assert read_result(tmp_path / "run").arrays == lab.reference()[0].arrays
    record_outcome("standard output that cannot be written", "training completes, exit 2", 0)
