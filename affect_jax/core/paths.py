"""Paths: local or in an object store, and the user's cache folder."""

from __future__ import annotations

import os
import pathlib


def cache_folder(name: str) -> pathlib.Path:
    """`~/.cache/affect_jax/NAME`, or under `XDG_CACHE_HOME`; not made."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "affect_jax" / name


def is_local(path: str) -> bool:
    """Whether a path is one of this machine's; `gs://...` and the like are none."""
    return "://" not in path


MOUNT = "a folder of this machine: mount the bucket (docs/hosts.md, 'Object stores')"
