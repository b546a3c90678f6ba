"""The folder of a run: one run at a time, its config written whole and compared key by key."""

from __future__ import annotations

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
    made = Workdir(tmp_path / "runs" / "one")
    made.create()
    return made


def hold_lock(path: pathlib.Path) -> subprocess.Popen:
    """A process that holds the lock and says so; it ends when its input does."""
    code = (
        "import sys; from affect_jax.run.workdir import Workdir\n"
        "with Workdir(sys.argv[1]).lock(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("path", ["gs://bucket/run", "s3://bucket/run"])
def test_a_bucket_is_no_folder(path, tmp_path, monkeypatch):
    """A `pathlib.Path` of it would be a folder `gs:` here."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"--workdir={path}: .* mount the bucket"):
        Workdir(path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_made_and_locked_again(workdir):
    with workdir.lock():
        assert not workdir.hold_again()
        workdir.path.rename(workdir.path.with_name("gone"))
        assert workdir.hold_again() and not workdir.hold_again()
        with pytest.raises(UserError, match="another run is using it"):
            with Workdir(workdir.path).lock():
                pass
    assert not (workdir.path / "running.json").exists()
    assert not workdir.hold_again()  # nothing is held
    with workdir.lock():
        parent = workdir.path.parent
        parent.rename(parent.with_name("away"))
        parent.write_text("no folder can be made here")
        assert not workdir.hold_again()  # a disk that is away may come back
        parent.unlink()
        parent.with_name("away").rename(parent)
        assert not workdir.hold_again()
    with workdir.lock():
        workdir.path.rename(workdir.path.with_name("gone too"))
        workdir.create()
        with hold_lock(workdir.path), pytest.raises(UserError, match="another run is using it"):
            workdir.hold_again()


def test_a_second_run_is_refused_until_the_first_ends_or_dies(workdir):
    for end in ("kill", "leave"):
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


def test_a_lock_is_released_by_an_error(workdir):
    with pytest.raises(KeyError):
        with workdir.lock():
            raise KeyError
    with workdir.lock():
        pass


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": 1}', "\x00"])
def test_a_damaged_note_about_the_holder_does_not_hide_the_lock(workdir, content):
    with workdir.lock():
        (workdir.path / "running.json").write_text(content)
        with pytest.raises(UserError, match="another run is using it$"):
            with Workdir(workdir.path).lock():
                pass


def test_a_workdir_deleted_during_the_run_ends_without_a_second_error(workdir):
    with workdir.lock():
        for path in workdir.path.iterdir():
            path.unlink()
        workdir.path.rmdir()
    assert not workdir.path.exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"--workdir={path}: "):
            Workdir(path).create()


def test_a_folder_that_cannot_be_written_is_an_error(workdir, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written; choose another folder"):
        workdir.create()


def test_a_config_comes_back(workdir):
    workdir.save_config(CONFIG)
    assert workdir.load_config() == CONFIG
    assert [path.name for path in workdir.path.iterdir()] == ["config.json"]


def test_no_config_is_an_error_that_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match=r"no run here \(no config.json\); give a --config"):
        Workdir(tmp_path / "nowhere").load_config()


def test_a_config_cut_short_anywhere_is_an_error(workdir):
    workdir.save_config(CONFIG)
    content = workdir.config_path.read_bytes()
    for size in range(len(content)):
        workdir.config_path.write_bytes(content[:size])
        with pytest.raises(UserError, match="config.json: cannot be read: ") as caught:
            workdir.load_config()
        assert "\n" not in str(caught.value)


def test_a_config_that_cannot_be_written_leaves_the_old_one(workdir, monkeypatch):
    workdir.save_config(CONFIG)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="config.json: cannot be written: No space left on device"):
        workdir.save_config({"seed": 2})
    assert workdir.load_config() == CONFIG


def test_the_first_run_may_have_any_config(workdir):
    workdir.check_config(CONFIG, may_change=())


CHANGES = {
    "seed: the run has 1, now 2": {"seed": 2},
    "data.name: the run has 'mine', now 'other'": {"data": {"name": "other", "options": {}}},
    r"heads: the run has \['expression'\], now \[\]": {"heads": []},
    "more: the run has 'not there', now None": {"more": None},
    "data.options.side: the run has 'not there', now 3": {
        "data": {"name": "mine", "options": {"side": 3}}
    },
}


@pytest.mark.parametrize("message", CHANGES)
def test_another_config_is_refused_by_key(workdir, message):
    workdir.save_config(CONFIG)
    workdir.check_config(CONFIG, may_change=())
    changed = CONFIG | CHANGES[message]
    with pytest.raises(UserError, match=f"holds a run with another config(.|\n)*{message}"):
        workdir.check_config(changed, may_change=())


def test_every_difference_is_named_at_once(workdir):
    workdir.save_config(CONFIG)
    with pytest.raises(UserError) as caught:
        workdir.check_config({"seed": 2}, may_change=())
    keys = [problem.partition(":")[0] for problem in caught.value.problems]
    assert keys == ["data.name", "rate", "seed"]  # what is not given is at its default


@pytest.mark.parametrize("free", ["rate", "data.name", "data"])
def test_keys_that_may_change_may(workdir, free):
    workdir.save_config(CONFIG)
    changed = {"rate": CONFIG | {"rate": 5}}.get(
        free, CONFIG | {"data": {"name": "new", "options": {}}}
    )
    workdir.check_config(changed, may_change=(free,))
    with pytest.raises(UserError):  # a prefix of a name is no prefix of the path
        workdir.check_config(changed, may_change=(free[:-1],))
