"""Prepared data in an object store, and the local copy that is read.

    --config.data.data_dir=gs://bucket/faces    # s3://, az://: any protocol of fsspec

Records are read at random, and ArrayRecord opens only local files. A dataset is therefore
downloaded before the first step, and each file is checked against its stored hash. If the store
lacks the dataset, it is prepared locally and uploaded with `prepared.json` last: a folder in the
store without this file is incomplete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import fsspec
from etils import epath
from tensorflow_datasets.core import dataset_info

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import cache_folder
from affect_jax.data.record_reader import PREPARED_FILE, read_prepared, size_and_hash
from affect_jax.data.worker_processes import print_line


def local_folder(url: str) -> pathlib.Path:
    """The folder with the local copies of the datasets in a folder of a store.

    It is below `~/.cache/affect_jax/records`, or below `XDG_CACHE_HOME`.
    """
    return cache_folder("records") / hashlib.sha256(url.encode()).hexdigest()[:12]


def download(url: str, folder: pathlib.Path) -> bool:
    """Downloads a dataset; `folder` is all of it or does not exist.

    **Returns:** False if the store has no dataset there, or an incomplete one.

    **Raises:** `UserError` if a file is damaged, or if the store cannot be reached.
    """
    # Named like other unfinished folders, which the next start removes.
    partial = epath.Path(folder.with_name(f"incomplete.copy_{folder.name}"))
    with _open_store(url) as (store, root):
        if not store.exists(f"{root}/{PREPARED_FILE}"):
            return False
        print_line(f"copying {url} to {folder}")
        partial.mkdir(parents=True)
        for path in store.ls(root, detail=False):
            store.get_file(path, str(partial / os.path.basename(path)))
    name = PREPARED_FILE
    try:
        for files in read_prepared(partial)["files"].values():
            for name, expected in files.items():
                if size_and_hash(partial / name) != expected:
                    raise ValueError("another hash is recorded")
        name = "dataset_info.json"  # has no recorded hash
        if dataset_info.read_from_json(partial / name).version != folder.name:
            raise ValueError("another version")
    except Exception as error:  # each missing or damaged file raises a different type
        raise UserError(
            f"{url}/{name}: the file is missing or damaged; delete that folder in the store to "
            "prepare the dataset again"
        ) from error
    partial.rename(folder)
    return True


def upload(folder: pathlib.Path, url: str) -> None:
    """Uploads a prepared dataset.

    **Raises:** `UserError` if the store cannot be written.
    """
    print_line(f"copying {folder} to {url}")
    names = sorted(path.name for path in folder.iterdir() if path.name != PREPARED_FILE)
    with _open_store(url) as (store, root):
        store.makedirs(root, exist_ok=True)
        for name in [*names, PREPARED_FILE]:
            store.put_file(str(folder / name), f"{root}/{name}")


@contextlib.contextmanager
def _open_store(url: str) -> Iterator[tuple[Any, str]]:
    """Yields the store's file system and the path in it; any failure becomes a `UserError`."""
    try:
        yield fsspec.core.url_to_fs(url)
    except ImportError as error:  # the message of fsspec names the missing package
        raise UserError(f"{url}: {error}; pip install 'affect_jax[cloud]'") from error
    except Exception as error:  # each store's library has its own error classes
        line = first_line(error)
        raise UserError(f"{url}: {line}; check the address and your credentials") from error
