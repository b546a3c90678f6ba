"""Prepared data in an object store, and the local copy that is read.

    --config.data.data_dir=gs://bucket/faces    # s3://, az://: any protocol of fsspec

Records are read at random, and ArrayRecord opens only local files. A dataset is therefore
downloaded before the first step, and each file is checked against its stored hash. If the store
lacks the dataset, it is prepared locally and uploaded with `prepared.json` last: a folder in the
store without this file is incomplete.
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
from affect_jax.data.record_reader import PREPARED_FILE, size_and_hash
from affect_jax.data.worker_processes import print_line


class ObjectStore:
    """A folder of datasets in an object store.

    **Arguments:** `url`: URL of the folder.

    `local_folder` holds the local copies. It is below `~/.cache/affect_jax/records`, or below
    `XDG_CACHE_HOME`.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        self.local_folder = cache_folder("records") / digest

    def download(self, folder: pathlib.Path) -> bool:
        """Downloads a dataset to `folder`, which is below `local_folder`; all of it or nothing.

        **Returns:** False if the store has no dataset there, or an incomplete one.

        **Raises:** `UserError` if a file differs from its stored hash, or if the store cannot be
        reached.
        """
        url = self._url(folder)
        with _open_store(url) as (files, root):
            if not files.exists(f"{root}/{PREPARED_FILE}"):
                return False
            print_line(f"copying {url} to {folder}")
            # Named like other unfinished folders, which the next start removes.
            partial = folder.with_name(f"incomplete.copy_{folder.name}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for path in files.ls(root, detail=False):
                files.get_file(path, str(partial / os.path.basename(path)))
        _verify_hashes(partial, url)
        partial.replace(folder)
        return True

    def upload(self, folder: pathlib.Path) -> None:
        """Uploads a prepared dataset.

        **Raises:** `UserError` if the store cannot be written.
        """
        url = self._url(folder)
        print_line(f"copying {folder} to {url}")
        with _open_store(url) as (files, root):
            names = sorted(path.name for path in folder.iterdir() if path.name != PREPARED_FILE)
            files.makedirs(root, exist_ok=True)
            for name in [*names, PREPARED_FILE]:
                files.put_file(str(folder / name), f"{root}/{name}")

    def _url(self, folder: pathlib.Path) -> str:
        return f"{self.url}/{folder.relative_to(self.local_folder).as_posix()}"


@contextlib.contextmanager
def _open_store(url: str) -> Iterator[tuple[Any, str]]:
    """Yields the store's file system and the path in it; any failure becomes a `UserError`."""
    try:
        yield fsspec.core.url_to_fs(url)
    except UserError:
        raise
    except ImportError as error:  # the message of fsspec names the missing package
        raise UserError(f"{url}: {error}; pip install 'affect_jax[cloud]'") from error
    except Exception as error:  # each store's library has its own error classes
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # the local disk is full
            raise
        line = first_line(error)
        raise UserError(f"{url}: {line}; check the address and your credentials") from error


def _verify_hashes(folder: pathlib.Path, url: str) -> None:
    """Compares the files of a download with their hashes; removes a damaged download."""
    prepared = json.loads((folder / PREPARED_FILE).read_text())
    for files in prepared["files"].values():
        for name, expected in files.items():
            path = folder / name
            if not path.is_file() or size_and_hash(epath.Path(path)) != expected:
                shutil.rmtree(folder)
                raise UserError(
                    f"{url}/{name}: the file is missing or differs from its recorded hash; "
                    "delete that folder in the store to prepare the dataset again"
                )
