"""The folder of a run: its config, written once, and the lock that keeps a second run out."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import filelock

from affect_jax.config import fill_defaults, flatten
from affect_jax.core.errors import UserError
from affect_jax.core.paths import MOUNT, is_local


class Workdir:
    """**Arguments:** `path`: the folder; `create` makes it.

    **Raises:** `UserError` for `gs://...` and the like, of which a `pathlib.Path` would be a folder
    of that name.
    """

    def __init__(self, path: str | os.PathLike):
        if not is_local(os.fspath(path)):
            raise UserError(f"--workdir={path}: must be {MOUNT}")
        self.path = pathlib.Path(path)
        self.config_path = self.path / "config.json"
        self._held: contextlib.ExitStack | None = None
        self._inode = 0  # of the lock's file

    def create(self) -> None:
        """**Raises:** `UserError` where the folder cannot be made or written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--workdir={self.path}: {error.strerror}") from error
        if not os.access(self.path, os.W_OK):
            raise UserError(f"--workdir={self.path}: cannot be written; choose another folder")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One run at a time; the operating system frees the lock when its process dies.

        **Raises:** `UserError` that names the run that holds it.
        """
        try:
            with contextlib.ExitStack() as self._held:
                self._hold(self._held)
                yield
        finally:
            self._held = None

    def hold_again(self) -> bool:
        """Where the locked folder was deleted or moved: makes and locks a new one in its place.

        **Returns:** whether that was done; a disk that is away may come back.

        **Raises:** `UserError` where another run has made one.
        """
        if self._held is None:
            return False
        try:
            if (self.path / "running.lock").stat().st_ino == self._inode:
                return False
        except FileNotFoundError:
            pass
        except OSError:
            return False
        try:
            self.create()
        except UserError:
            return False
        self._hold(self._held)
        return True

    def _hold(self, held: contextlib.ExitStack) -> None:
        """Locks the folder until `held` is left."""
        holder = self.path / "running.json"
        lock = filelock.FileLock(self.path / "running.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(f"{self.path}: another run is using it{_describe(holder)}") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be locked: {error.strerror}") from error
        held.callback(lock.release)
        held.callback(holder.unlink, missing_ok=True)
        self._inode = os.stat(lock.lock_file).st_ino
        _write(holder, {"pid": os.getpid(), "host": socket.gethostname()})

    def load_config(self) -> dict[str, Any]:
        """The config as it was saved.

        **Raises:** `UserError` where there is none or it is damaged.
        """
        try:
            config = json.loads(self.config_path.read_text())
            if not isinstance(config, dict):
                raise ValueError("it is no mapping")
            return config
        except FileNotFoundError:
            raise UserError(
                f"{self.path}: no run here (no config.json); give a --config to start one"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.config_path}: cannot be read: {error}") from error

    def save_config(self, config: dict[str, Any]) -> None:
        """Writes the config, whole or not at all."""
        try:
            _write(self.config_path, config)
        except OSError as error:
            raise UserError(f"{self.config_path}: cannot be written: {error.strerror}") from error

    def check_config(self, config: dict[str, Any], may_change: Sequence[str]) -> None:
        """Compares with the config of the run that is here, if there is one.

        **Arguments:**

        - `may_change`: keys, or the beginnings of dotted keys, that may differ.

        **Raises:** `UserError` that names every other key that differs.
        """
        if not self.config_path.exists():
            return
        saved, given = flatten(fill_defaults(self.load_config())), flatten(fill_defaults(config))
        problems = []
        for key in sorted(set(saved) | set(given)):
            free = any(key == prefix or key.startswith(f"{prefix}.") for prefix in may_change)
            if not free and (key in saved, saved.get(key)) != (key in given, given.get(key)):
                before, now = saved.get(key, "not there"), given.get(key, "not there")
                problems.append(f"{key}: the run has {before!r}, now {now!r}")
        if problems:
            raise UserError(
                f"{self.path} holds a run with another config; use another --workdir, or go on "
                "with the run's own config by leaving --config out",
                problems,
            )


def _describe(holder: pathlib.Path) -> str:
    try:
        run = json.loads(holder.read_text())
        return f" (process {run['pid']} on {run['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write(path: pathlib.Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
