"""The folder of a run: the lock, and saving, loading and comparing the config."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from affect_jax.core.errors import UserError
from affect_jax.run.workdir import Workdir

CONFIG = {"seed": 1, "data": {"name": "mine", "options": {}}, "heads": ["expression"], "rate": 0.1}


@pytest.fixture
def workdir(tmp_path) -> Workdir:
    workdir = Workdir(tmp_path / "runs" / "name")
    workdir.create()
    return workdir


def hold_lock(path: pathlib.Path) -> subprocess.Popen:
    """Starts a process that locks the folder until its standard input is closed."""
    code = (
        "import sys; from affect_jax.run.workdir import Workdir\n"
        "with Workdir(sys.argv[1]).lock(): print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


@pytest.mark.parametrize("path", ["gs://bucket/run", "s3://bucket/run"])
def test_workdir_cannot_be_a_bucket(path, tmp_path, monkeypatch):
    """`pathlib.Path` would treat the URL as a local folder `gs:`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"--workdir={path}: .* mount the bucket"):
        Workdir(path)
    assert not list(tmp_path.iterdir())


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/run").path == tmp_path / "run"


def test_deleted_folder_is_an_error_unless_its_disk_may_return(workdir):
    workdir.check_not_deleted()
    parent = workdir.path.parent
    parent.rename(parent.with_name("away"))
    parent.write_text("not a folder")
    workdir.check_not_deleted()
    parent.unlink()
    with pytest.raises(UserError, match="was deleted or moved during the run"):
        workdir.check_not_deleted()


@pytest.mark.bad_input
def test_second_run_is_refused_until_the_first_ends_or_dies(workdir, record_property):
    for end in ("kill", "exit"):
        with hold_lock(workdir.path) as holder:
            with pytest.raises(UserError, match=rf"another run is using it \(process {holder.pid}"):
                with workdir.lock():
                    pass
            if end == "kill":  # leaves running.json and running.lock behind
                holder.send_signal(signal.SIGKILL)
            else:
                holder.communicate("")
            holder.wait(timeout=20)
        with workdir.lock():
            assert json.loads((workdir.path / "running.json").read_text())["pid"] == os.getpid()
        assert not (workdir.path / "running.json").exists()
    record_property("fault", ("two runs in one workdir", "the second is refused, exit 2", 0))


def test_lock_is_released_after_an_exception(workdir):
    with pytest.raises(KeyError):
        with workdir.lock():
            raise KeyError
    with workdir.lock():
        pass


def test_lock_is_released_without_error_if_the_folder_was_deleted(workdir):
    with workdir.lock():
        for path in workdir.path.iterdir():
            path.unlink()
        workdir.path.rmdir()
    assert not workdir.path.exists()


def test_saved_config_can_be_loaded(workdir):
    workdir.save_config(CONFIG)
    assert workdir.load_config() == CONFIG
    assert [path.name for path in workdir.path.iterdir()] == ["config.json"]


def test_missing_config_is_an_error_with_advice(tmp_path):
    with pytest.raises(
        UserError, match=r"contains no run \(no config.json\); python -m affect_jax.main"
    ):
        Workdir(tmp_path / "nowhere").load_config()


def test_file_system_without_locks_is_explained(workdir, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match="cannot lock files \\(No locks available\\)"):
        with workdir.lock():
            pass


@pytest.mark.parametrize("content", ["[]", "5", "null", "[" * 100_000])
def test_json_that_is_no_config_is_an_error(workdir, content):
    workdir.config_path.write_text(content)
    with pytest.raises(UserError, match="config.json: cannot be read: "):
        workdir.load_config()


def test_truncated_config_is_an_error(workdir):
    workdir.save_config(CONFIG)
    content = workdir.config_path.read_bytes()
    for size in range(0, len(content), 7):
        workdir.config_path.write_bytes(content[:size])
        with pytest.raises(UserError, match="config.json: cannot be read: ") as caught:
            workdir.load_config()
        assert "\n" not in str(caught.value)


def test_failed_save_keeps_the_old_config(workdir, monkeypatch):
    workdir.save_config(CONFIG)

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device"):
        workdir.save_config({"seed": 2})
    assert workdir.load_config() == CONFIG
    assert [path.name for path in workdir.path.iterdir()] == ["config.json"]


def test_first_run_may_have_any_config(workdir):
    workdir.check_config(CONFIG, mutable_keys=())


CHANGES = {
    "seed: saved 1, new 2": {"seed": 2},
    "data.name: saved 'mine', new 'other'": {"data": {"name": "other", "options": {}}},
    r"heads: saved \['expression'\], new \[\]": {"heads": []},
    "more: saved 'missing', new None": {"more": None},
    "data.options.side: saved 'missing', new 3": {"data": {"name": "mine", "options": {"side": 3}}},
}


@pytest.mark.parametrize("message", CHANGES)
def test_different_config_is_refused_with_its_keys(workdir, message):
    workdir.save_config(CONFIG)
    workdir.check_config(CONFIG, mutable_keys=())
    changed = CONFIG | CHANGES[message]
    with pytest.raises(UserError, match=f"contains a run with another config(.|\n)*{message}"):
        workdir.check_config(changed, mutable_keys=())


def test_all_differences_are_reported_together(workdir):
    workdir.save_config(CONFIG)
    with pytest.raises(UserError) as caught:
        workdir.check_config({"seed": 2}, mutable_keys=())
    keys = [problem.partition(":")[0] for problem in caught.value.problems]
    assert keys == ["data.name", "rate", "seed"]  # missing keys have their defaults


@pytest.mark.parametrize("mutable_key", ["rate", "data.name", "data"])
def test_mutable_keys_may_differ(workdir, mutable_key):
    workdir.save_config(CONFIG)
    changed = {"rate": CONFIG | {"rate": 5}}.get(
        mutable_key, CONFIG | {"data": {"name": "new", "options": {}}}
    )
    workdir.check_config(changed, mutable_keys=(mutable_key,))
    with pytest.raises(UserError):  # a prefix of a name is not a prefix of the path
        workdir.check_config(changed, mutable_keys=(mutable_key[:-1],))
