"""The folder of a run: its saved config, and a lock that prevents a second run in it.

The module is a config file too: `--config=affect_jax/run/workdir.py:WORKDIR`.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import filelock

from affect_jax.config import Config, defaults, fill_defaults, flatten, from_dict
from affect_jax.core.errors import UserError
from affect_jax.core.paths import LOCAL_FOLDER_REQUIREMENT, is_local, write_atomically


class Workdir:
    """The folder of a run.

    **Arguments:** `path`: the folder; `create` creates it.

    **Raises:** `UserError` for a URL such as `gs://...`, which `pathlib.Path` would treat as a
    local folder.
    """

    def __init__(self, path: str | os.PathLike):
        if not is_local(os.fspath(path)):
            raise UserError(f"--workdir={path}: must be {LOCAL_FOLDER_REQUIREMENT}")
        self.path = pathlib.Path(os.path.expanduser(path))
        self.config_path = self.path / "config.json"

    def create(self) -> None:
        """Creates the folder if it does not exist."""
        self.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder; the operating system releases the lock if the process dies.

        **Raises:** `UserError` that names the process that holds the lock.
        """
        holder_path = self.path / "running.json"
        lock = filelock.FileLock(self.path / "running.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            holder = json.loads(holder_path.read_text()) if holder_path.exists() else {}
            process = f"process {holder.get('pid')} on {holder.get('host')}"
            raise UserError(f"{self.path}: another run is using it ({process})") from None
        except OSError as error:
            if error.filename is not None:
                raise
            raise UserError(
                f"{self.path}: its file system cannot lock files ({error.strerror}); mount it with "
                "locks, or use a --workdir elsewhere"
            ) from error
        try:
            _write_json(holder_path, {"pid": os.getpid(), "host": socket.gethostname()})
            yield
        finally:
            holder_path.unlink(missing_ok=True)
            lock.release()

    def check_not_deleted(self) -> None:
        """**Raises:** `UserError` if the folder was deleted or moved."""
        try:
            self.path.stat()
        except FileNotFoundError:
            raise UserError(
                f"{self.path} was deleted or moved during the run; move it back and rerun the same "
                "command to resume from its newest checkpoint"
            ) from None
        except OSError:  # a disk that cannot be read may return
            pass

    def load_config(self) -> dict[str, Any]:
        """Reads the saved config.

        **Raises:** `UserError` if there is none or it is damaged.
        """
        if not self.config_path.exists():
            raise UserError(
                f"{self.path}: contains no run (no config.json); "
                "python -m affect_jax.main --config=... starts one"
            )
        try:
            config = json.loads(self.config_path.read_text())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.config_path}: cannot be read: {error}") from error
        if not isinstance(config, dict):
            raise UserError(f"{self.config_path}: cannot be read: it holds no config")
        return config

    def save_config(self, config: dict[str, Any]) -> None:
        """Writes the config atomically."""
        _write_json(self.config_path, config)

    def check_config(self, config: dict[str, Any], mutable_keys: Sequence[str]) -> None:
        """Compares a config with the saved one, if there is one.

        **Arguments:** `mutable_keys`: keys, or prefixes of dotted keys, that may differ.

        **Raises:** `UserError` that lists every other key that differs.
        """
        if not self.config_path.exists():
            return
        saved = flatten(fill_defaults(self.load_config()))
        new = flatten(fill_defaults(config))
        mutable = tuple(f"{key}." for key in mutable_keys)
        problems = [
            f"{key}: saved {saved.get(key, 'missing')!r}, new {new.get(key, 'missing')!r}"
            for key in sorted(saved.keys() | new.keys())
            if saved.get(key, "missing") != new.get(key, "missing")
            and not f"{key}.".startswith(mutable)
        ]
        if problems:
            raise UserError(
                f"{self.path} contains a run with another config; use another --workdir, or omit "
                "--config to resume with the saved config",
                problems,
            )


def get_config(workdir: str = "") -> Config:
    """Returns the saved config of a run; without a workdir, the default config."""
    return from_dict(Workdir(workdir).load_config()) if workdir else defaults()


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True))
