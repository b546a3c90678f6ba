"""Preparation is killed, or one of its workers dies or hangs: nothing half-made looks whole."""

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
from affect_jax.data.builder import open_split
from tests.data.affectnet_releases import SIZE, first_release, line, prepare, write_csv
from tests.faults.lab import REPOSITORY, lives
from tests.releases import write_release

LOCAL = "--runner=DirectRunner --direct_running_mode=multi_threading --direct_num_workers=2"


def kill_oneself(chunk: list) -> list:
    os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def test_dead_worker_is_an_error(outcome):
    some = [face_images.Row(i, str(i), "", {}) for i in range(40)]
    with pytest.raises(UserError, match="worker process that prepares images died"):
        list(worker_processes.in_order(kill_oneself, some, num_workers=2))
    assert not multiprocessing.active_children()
    outcome("a worker of preparation dies or hangs", "one error, no orphans", 0)


def stop_oneself(chunk: list) -> list:
    if 0 not in chunk:  # the first is given back: the worker has started
        os.kill(os.getpid(), signal.SIGSTOP)
    return chunk


def test_a_worker_that_hangs_is_an_error(monkeypatch, outcome):
    monkeypatch.setattr(worker_processes, "PATIENCE_SECONDS", 2.0)
    with pytest.raises(UserError, match="no face in 2 seconds: a worker process .* hangs"):
        list(worker_processes.in_order(stop_oneself, range(200), num_workers=2))
    assert not multiprocessing.active_children()
    outcome("a worker of preparation dies or hangs", "one error, no orphans", 0)


def test_killed_preparation_leaves_nothing_that_looks_whole(tmp_path, outcome):
    """kill -9 in the midst; the next try removes what is left, and workers follow their parent."""
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
    place = tmp_path / "data" / "affectnet" / f"manual_{SIZE}"
    limit = time.monotonic() + 30
    children: set[int] = set()
    while len(children) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
        children = processes_of_group(process.pid) - {process.pid}
    assert len(children) >= 2 and list(place.glob("incomplete.*"))
    process.kill()
    process.communicate()
    while processes_of_group(process.pid) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not processes_of_group(process.pid)  # no orphans
    assert not (place / "1.1.0").exists()
    first_release(base, training=3, validation=2)
    prepared = prepare(base, tmp_path / "data")
    assert len(open_split(prepared, "training")) == 3
    assert not list(place.glob("incomplete.*"))
    what = "nothing looks whole, no orphans; the next start prepares"
    outcome("kill -9 of preparation", what, 0)


def processes_of_group(group: int) -> set[int]:
    """Living processes of a group, from /proc."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, member_of = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            except OSError:
                continue  # it ended meanwhile
            if int(member_of) == group and state != "Z":
                found.add(int(entry.name))
    return found


# --- by Apache Beam ---


@pytest.fixture
def release(tmp_path) -> pathlib.Path:
    write_release(tmp_path / "release")
    return tmp_path / "release"


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def preparing(release: pathlib.Path, folder: pathlib.Path, options: str) -> Iterator[Any]:
    """A command that prepares by Beam, once its pipeline is made."""
    process = subprocess.Popen(
        command(release, folder, options),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])},
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(300, process.kill)  # else a hang would be the test's as well
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


def whole(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob("1.1.0") if path.is_dir()]


def test_a_killed_driver_leaves_nothing_that_looks_whole(release, tmp_path, outcome):
    pytest.importorskip("apache_beam")
    with preparing(release, tmp_path, LOCAL) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not whole(tmp_path)
    again = subprocess.run(
        command(release, tmp_path, LOCAL),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    (folder,) = whole(tmp_path)
    assert again.stdout.strip().endswith(str(folder))
    local = affectnet.affectnet(
        manual_dir=str(release), data_dir=str(tmp_path / "local"), image_size=32
    )
    assert contents(folder) == contents(pathlib.Path(local.data_path))
    outcome("kill -9 of a Beam driver", "nothing looks whole; the next start prepares", 0)


WAITING = """
import sys
if "apache_beam.runners.worker.sdk_worker_main" in sys.orig_argv:
    import pathlib, simplejpeg, threading
    def decode(*arguments, **options):
        pathlib.Path("at_work").touch()
        threading.Event().wait()
    simplejpeg.decode_jpeg = decode
"""  # what Python runs first: a worker says that it reads a face, and waits for ever


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    below = psutil.Process(process.pid).children(recursive=True)
    return [one for one in below if one.name() != "sh" and "sdk_worker" in str(one.cmdline())]


@pytest.mark.parametrize("when", ["as it starts", "at work"])
def test_a_killed_worker_ends_the_preparation_with_one_line(when, release, tmp_path, outcome):
    """Beam's local runner alone would wait for it for ever."""
    pytest.importorskip("apache_beam")
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    at_work = tmp_path / "at_work"
    several = LOCAL.replace("multi_threading", "multi_processing")
    with preparing(release, tmp_path, several) as process:
        while not ((found := workers_of(process)) and (when != "at work" or at_work.exists())):
            assert process.poll() is None
        found[0].send_signal(signal.SIGKILL)
        said = process.stderr.read()
        assert process.wait() == 2
    assert said.strip().splitlines()[-1].startswith("affect_jax: data.options.beam: a worker")
    assert "Traceback" not in said, said
    assert not whole(tmp_path)
    assert not any(map(lives, found))
    outcome("kill -9 of a Beam worker", "one error, exit 2; nothing looks whole, no orphans", 0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_a_stopped_driver_ends_its_workers(number, code, release, tmp_path, outcome):
    """Beam alone would leave them behind."""
    pytest.importorskip("apache_beam")
    (tmp_path / "sitecustomize.py").write_text(WAITING)
    several = LOCAL.replace("multi_threading", "multi_processing")
    with preparing(release, tmp_path, several) as process:
        while not (tmp_path / "at_work").exists():
            assert process.poll() is None
            os.sched_yield()
        found = workers_of(process)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == code
    assert "Traceback" not in said, said
    assert not whole(tmp_path)
    assert found and not any(map(lives, found))
    outcome("SIGTERM, or Ctrl-C, to a Beam driver", "nothing looks whole, no orphans", 0)
