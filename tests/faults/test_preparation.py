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
from typing import Any

import psutil
import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import affectnet, face_images, worker_processes
from affect_jax.data.tfds_builder import open_split
from tests.data.affectnet_releases import SIZE, first_release, line, prepare, write_csv
from tests.faults.lab import REPOSITORY, is_alive
from tests.releases import write_release

LOCAL = "--runner=DirectRunner --direct_running_mode=multi_threading --direct_num_workers=2"


def kill_itself(chunk: list) -> list:
    os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def test_dead_worker_is_an_error(record_outcome):
    rows = [face_images.Row(i, str(i), "", {}) for i in range(40)]
    with pytest.raises(UserError, match="worker process that prepares images died"):
        list(worker_processes.map_ordered(kill_itself, rows, num_workers=2))
    assert not multiprocessing.active_children()
    record_outcome("a worker of preparation dies or hangs", "one error, no orphans", 0)


def stop_itself(chunk: list) -> list:
    if 0 not in chunk:  # the first chunk returns: the worker has started
        os.kill(os.getpid(), signal.SIGSTOP)
    return chunk


def test_hanging_worker_is_an_error(monkeypatch, record_outcome):
    monkeypatch.setattr(worker_processes, "TIMEOUT_SECONDS", 2.0)
    with pytest.raises(UserError, match="no face in 2 seconds: a worker process .* hangs"):
        list(worker_processes.map_ordered(stop_itself, range(200), num_workers=2))
    assert not multiprocessing.active_children()
    record_outcome("a worker of preparation dies or hangs", "one error, no orphans", 0)


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


@pytest.fixture
def release(tmp_path) -> pathlib.Path:
    write_release(tmp_path / "release")
    return tmp_path / "release"


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def preparing(release: pathlib.Path, folder: pathlib.Path, options: str) -> Iterator[Any]:
    """Starts a command that prepares with Beam and waits until its pipeline exists."""
    process = subprocess.Popen(
        command(release, folder, options),
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
            os.sched_yield()
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def command(release: pathlib.Path, folder: pathlib.Path, options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "affect_jax.main", "--mode=prepare"),
        f"--config={REPOSITORY / 'configs/alexnet_imbalanced.py'}",
        *("--config.data.image_size=32", "--config.data.crop_size=32"),
        *(f"--config.data.manual_dir={release}", f"--config.data.data_dir={folder / 'data'}"),
        f"--config.data.options.beam={options}",
    ]


def complete_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob("1.1.0") if path.is_dir()]


def test_killed_driver_leaves_no_complete_looking_output(release, tmp_path, record_outcome):
    pytest.importorskip("apache_beam")
    with preparing(release, tmp_path, LOCAL) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not complete_folders(tmp_path)
    rerun = subprocess.run(
        command(release, tmp_path, LOCAL),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert rerun.returncode == 0, rerun.stderr
    (folder,) = complete_folders(tmp_path)
    assert rerun.stdout.strip().endswith(str(folder))
    local = affectnet.affectnet(
        manual_dir=str(release), data_dir=str(tmp_path / "local"), image_size=32
    )
    assert contents(folder) == contents(pathlib.Path(local.data_path))
    record_outcome(
        "kill -9 of a Beam driver", "no complete-looking output; the next start prepares", 0
    )


WAITING = """
import sys
if "apache_beam.runners.worker.sdk_worker_main" in sys.orig_argv:
    import pathlib, simplejpeg, threading
    def decode(*arguments, **options):
        pathlib.Path("at_work").touch()
        threading.Event().wait()
    simplejpeg.decode_jpeg = decode
"""  # sitecustomize.py: a worker creates the file at_work when it decodes a face, then hangs


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [
        child for child in children if child.name() != "sh" and "sdk_worker" in str(child.cmdline())
    ]


@pytest.mark.parametrize("when", ["at its start", "at work"])
def test_killed_worker_ends_preparation_with_one_error_line(
    when, release, tmp_path, record_outcome
):
    """Without the check, Beam's local runner would wait for the worker forever."""
    pytest.importorskip("apache_beam")
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    at_work = tmp_path / "at_work"
    options = LOCAL.replace("multi_threading", "multi_processing")
    with preparing(release, tmp_path, options) as process:
        while not ((workers := workers_of(process)) and (when != "at work" or at_work.exists())):
            assert process.poll() is None
        workers[0].send_signal(signal.SIGKILL)
        errors = process.stderr.read()
        assert process.wait() == 2
    assert errors.strip().splitlines()[-1].startswith("affect_jax: data.options.beam: a worker")
    assert "Traceback" not in errors, errors
    assert not complete_folders(tmp_path)
    assert not any(map(is_alive, workers))
    outcome = "one error, exit 2; no complete-looking output, no orphans"
    record_outcome("kill -9 of a Beam worker", outcome, 0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_stopped_driver_ends_its_workers(number, code, release, tmp_path, record_outcome):
    """Without the signal handlers, Beam would leave its workers running."""
    pytest.importorskip("apache_beam")
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    options = LOCAL.replace("multi_threading", "multi_processing")
    with preparing(release, tmp_path, options) as process:
        while not (tmp_path / "at_work").exists():
            assert process.poll() is None
            os.sched_yield()
        workers = workers_of(process)
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait() == code
    assert "Traceback" not in errors, errors
    assert not complete_folders(tmp_path)
    assert workers and not any(map(is_alive, workers))
    outcome = "no complete-looking output, no orphans"
    record_outcome("SIGTERM, or Ctrl-C, to a Beam driver", outcome, 0)
