"""Preparation is killed, or a worker dies or hangs: no partial output looks complete."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import affectnet, face_images, worker_processes
from affect_jax.data.tfds_builder import open_split
from tests.data.affectnet_releases import SIZE, first_release, line, prepare, write_csv
from tests.faults.lab import REPOSITORY
from tests.releases import write_release

LOCAL = "--runner=DirectRunner --direct_running_mode=multi_threading --direct_num_workers=2"


def kill_itself(row: face_images.Row) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_dead_worker_is_an_error(record_outcome):
    rows = [face_images.Row(i, str(i), "", {}) for i in range(40)]
    with pytest.raises(UserError, match="worker process that prepares images died"):
        list(worker_processes.map_ordered(kill_itself, rows, 40, "faces", num_workers=2))
    assert not multiprocessing.active_children()
    record_outcome("a worker of preparation dies", "one error, no orphans", 0)


def test_killed_preparation_leaves_no_complete_looking_output(tmp_path, record_outcome):
    """The next run removes the partial output, and workers exit with their parent."""
    base = first_release(tmp_path / "r", training=3, validation=2)
    lines = [line("0/training0.jpg")] * 20_000
    write_csv(base / "training.csv", lines)
    code = (
        "from affect_jax.data.affectnet import affectnet\n"
        "if __name__ == '__main__':\n"
        f"    affectnet(manual_dir={str(base)!r}, data_dir={str(tmp_path / 'data')!r},"
        f" image_size={SIZE}, num_workers=2)\n"
    )
    (tmp_path / "prepare.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "prepare.py")],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    folder = tmp_path / "data" / "affectnet" / f"manual_{SIZE}"
    deadline = time.monotonic() + 30
    children: set[int] = set()
    while len(children) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        children = processes_of_group(process.pid) - {process.pid}
    assert len(children) >= 2 and list(folder.glob("incomplete.*"))
    process.kill()
    process.communicate()
    while processes_of_group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_of_group(process.pid)  # no orphans
    assert not (folder / "1.1.0").exists()
    first_release(base, training=3, validation=2)
    prepared = prepare(base, tmp_path / "data")
    assert len(open_split(prepared, "training")) == 3
    assert not list(folder.glob("incomplete.*"))
    outcome = "no complete-looking output, no orphans; the next start prepares"
    record_outcome("kill -9 of preparation", outcome, 0)


def processes_of_group(group: int) -> set[int]:
    """Running processes of a group, from /proc."""
    members = set()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, group_id = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            except OSError:
                continue  # it has ended
            if int(group_id) == group and state != "Z":
                members.add(int(entry.name))
    return members


# --- Apache Beam ---

PREPARE = """
import sys
from affect_jax.core.errors import UserError
from affect_jax.data import affectnet
release, options = sys.argv[1:]
if __name__ == "__main__":
    try:
        affectnet.affectnet(manual_dir=release, data_dir="data", image_size=32, beam=options)
    except UserError as error:
        sys.exit(str(error))
"""


@contextlib.contextmanager
def preparing(folder: pathlib.Path, options: str) -> Iterator[subprocess.Popen]:
    """Starts to prepare a release with Beam in a folder and waits until its pipeline exists."""
    write_release(folder / "release")
    (folder / "prepare.py").write_text(PREPARE)
    process = subprocess.Popen(
        [sys.executable, "prepare.py", str(folder / "release"), options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])},
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(300, process.kill)  # else a hang would block the test
    watchdog.start()
    try:
        while not list((folder / "data").rglob("incomplete.*")):
            assert process.poll() is None
            time.sleep(0.01)
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def complete_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob("1.1.0") if path.is_dir()]


@pytest.mark.beam
def test_killed_driver_leaves_no_complete_looking_output(tmp_path, record_outcome):
    pytest.importorskip("apache_beam")
    with preparing(tmp_path, LOCAL) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not complete_folders(tmp_path)
    release = str(tmp_path / "release")
    prepared = affectnet.affectnet(
        manual_dir=release, data_dir=str(tmp_path / "data"), image_size=32
    )
    assert len(open_split(prepared, "training")) == 64
    assert not list((tmp_path / "data").rglob("incomplete.*"))
    record_outcome(
        "kill -9 of a Beam driver", "no complete-looking output; the next start prepares", 0
    )
