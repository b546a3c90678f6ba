"""Prepared data in an object store, and the copy of them that is read.

    --config.data.data_dir=gs://bucket/faces    # s3://, az://: whatever fsspec knows

Records are read at random, from files of this machine: ArrayRecord opens no others. So a data set
is copied from its store before the first step, each file held against the hash that it was written
with. What the store has not is prepared here and copied there, `prepared.json` last: without it a
folder in the store is not whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import fsspec
from etils import epath

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import cache_folder
from affect_jax.data.records import PREPARED, size_and_hash
from affect_jax.data.worker_processes import say


class Store:
    """**Arguments:** `url`: of the folder in the store that data sets lie in.

    `folder` is where their copies lie: `~/.cache/affect_jax/records`, or under `XDG_CACHE_HOME`.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        self.folder = cache_folder("records") / digest

    def fetch(self, place: pathlib.Path) -> bool:
        """Copies a data set to its place below `folder`, whole or not at all.

        **Returns:** False where the store has none, or not the whole of it.

        **Raises:** `UserError` for a file that is not as it was written, or a store out of reach.
        """
        url = self._url(place)
        with _reached(url) as (files, root):
            if not files.exists(f"{root}/{PREPARED}"):
                return False
            say(f"copying {url} to {place}")
            # The beginning is that of other unfinished folders, which the next start removes.
            partial = place.with_name(f"incomplete.copy_{place.name}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for path in files.ls(root, detail=False):
                files.get_file(path, str(partial / os.path.basename(path)))
        _check(partial, url)
        partial.replace(place)
        return True

    def send(self, place: pathlib.Path) -> None:
        """Copies a prepared data set to the store.

        **Raises:** `UserError` for a store that cannot be written.
        """
        url = self._url(place)
        say(f"copying {place} to {url}")
        with _reached(url) as (files, root):
            names = sorted(path.name for path in place.iterdir() if path.name != PREPARED)
            files.makedirs(root, exist_ok=True)
            for name in [*names, PREPARED]:
                files.put_file(str(place / name), f"{root}/{name}")

    def _url(self, place: pathlib.Path) -> str:
        return f"{self.url}/{place.relative_to(self.folder).as_posix()}"


@contextlib.contextmanager
def _reached(url: str) -> Iterator[tuple[Any, str]]:
    """The store's file system, and the path in it; whatever goes wrong there is one line."""
    try:
        yield fsspec.core.url_to_fs(url)
    except UserError:
        raise
    except ImportError as error:  # fsspec says which package
        raise UserError(f"{url}: {error}; pip install 'affect_jax[cloud]'") from error
    except Exception as error:  # each store's library has errors of its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of this machine's disk
            raise
        line = first_line(error)
        raise UserError(f"{url}: {line}; are the address and your credentials right?") from error


def _check(folder: pathlib.Path, url: str) -> None:
    """Holds a copy's files against their hashes; a damaged copy is removed."""
    prepared = json.loads((folder / PREPARED).read_text())
    for files in prepared["files"].values():
        for name, expected in files.items():
            path = folder / name
            if not path.is_file() or size_and_hash(epath.Path(path)) != expected:
                shutil.rmtree(folder)
                raise UserError(
                    f"{url}/{name}: missing, or its bytes are not those that were written; "
                    "delete that folder in the store to prepare the data set again"
                )
