"""Paths: local or in an object store, the user's cache folder, and writing files."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from affect_jax.core.errors import UserError

READY_MODEL = "ready"
"""Name of the model in the package, wherever the folder of a run is expected."""

READY_FOLDER = pathlib.Path(__file__).parents[1] / "ready"


def cache_folder(name: str) -> pathlib.Path:
    """Returns `~/.cache/affect_jax/NAME`, or the same under `XDG_CACHE_HOME`; creates nothing."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "affect_jax" / name


def is_local(path: str) -> bool:
    """Whether a path is in the file system of this machine, not a URL such as `gs://...`."""
    return "://" not in path


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether a path is valid UTF-8. OpenCV crashes on any other."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


LOCAL_FOLDER_REQUIREMENT = (
    "a folder of this machine: mount the bucket (docs/hosts.md, 'Object stores')"
)
"""What a path must be, for error messages."""


@contextlib.contextmanager
def write_atomically(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write to and renames it at the end, so no file is incomplete.

    The temporary file is deleted if there is an error. A device such as `/dev/null` is written to
    directly: root would replace it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())  # a power failure must not leave an empty file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_to(out: pathlib.Path) -> Iterator[None]:
    """Creates a folder and turns any `OSError` of the block into a `UserError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
