"""What is told of a checkpoint beside its arrays: shapes and hashes, sealed with one of its own."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from affect_jax.core.errors import first_line

FORMAT = 1
"""Layout of a checkpoint; a larger number was written by a newer affect_jax."""


class Damaged(Exception):
    """A checkpoint that cannot be restored; the message says why."""


def describe(leaves: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """`{name: {"shape", "dtype", "sha256"}}` of arrays by name."""
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        hashes = pool.map(hash_of, leaves.values())
        return {
            name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": digest}
            for (name, leaf), digest in zip(leaves.items(), hashes, strict=True)
        }


def seal(info: Mapping[str, Any]) -> dict[str, str]:
    """What `open_info` reads: the text of `info`, as JSON, and its hash."""
    text = json.dumps(info, sort_keys=True)
    return {"body": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def open_info(folder: pathlib.Path) -> dict[str, Any]:
    """What was sealed with the checkpoint in a folder.

    **Raises:** `Damaged` where it is not what was saved, or of a newer layout.
    """
    try:
        sealed = json.loads((folder / "info" / "metadata").read_text())
        body = sealed["body"]
        if hashlib.sha256(body.encode()).hexdigest() != sealed["sha256"]:
            raise Damaged("its info is not what was saved")
        info = json.loads(body)
        newer = info["format"] > FORMAT
        _ = [(one["shape"], one["dtype"], one["sha256"]) for one in info["arrays"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"its info cannot be read ({first_line(error)})") from error
    if newer:
        raise Damaged("it was written by a newer affect_jax; update to read it")
    return info


def hash_of(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def check_arrays(saved: dict[str, dict[str, Any]], wanted: dict[str, Any]) -> None:
    """A checkpoint of another model is told by names, shapes and types, before anything is read."""
    differing = sorted(set(saved) ^ set(wanted))
    if differing:
        where = "the checkpoint" if differing[0] in saved else "the config's model"
        raise Damaged(f"it is of another model: only {where} has {differing[0]}")
    for name, leaf in wanted.items():
        shape, dtype = saved[name]["shape"], saved[name]["dtype"]
        if list(leaf.shape) != shape or str(leaf.dtype) != dtype:
            raise Damaged(
                f"it is of another model: {name} is {dtype} {shape}, "
                f"not {leaf.dtype} {list(leaf.shape)}"
            )
