"""Checkpoint manifest: metadata, and shape, dtype and SHA-256 of each array.

The manifest has a checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from affect_jax.core.errors import first_line

FORMAT_VERSION = 1
"""Version of the checkpoint format; newer versions of affect_jax write larger numbers."""


class DamagedCheckpointError(Exception):
    """Raised for a checkpoint that cannot be restored; the message is the reason."""


def describe_arrays(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns `{name: {"shape", "dtype", "sha256"}}` for a dictionary of arrays."""
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        hashes = pool.map(hash_array, arrays.values())
        return {
            name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": digest}
            for (name, leaf), digest in zip(arrays.items(), hashes, strict=True)
        }


def build_manifest(info: Mapping[str, Any]) -> dict[str, str]:
    """Returns `info` as JSON text together with its SHA-256; `read_manifest` reads it."""
    text = json.dumps(info, sort_keys=True)
    return {"body": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads and verifies the manifest of the checkpoint in a folder.

    **Raises:** `DamagedCheckpointError` if it is damaged or has a newer format.
    """
    try:
        document = json.loads((folder / "info" / "metadata").read_text())
        body = document["body"]
        if hashlib.sha256(body.encode()).hexdigest() != document["sha256"]:
            raise DamagedCheckpointError("its manifest does not match its checksum")
        info = json.loads(body)
        is_newer = info["format"] > FORMAT_VERSION
        _ = [(entry["shape"], entry["dtype"], entry["sha256"]) for entry in info["arrays"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"its manifest cannot be read ({first_line(error)})"
        ) from error
    if is_newer:
        raise DamagedCheckpointError(
            "it was written by a newer affect_jax; update affect_jax to read it"
        )
    return info


def hash_array(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def check_arrays(saved: dict[str, dict[str, Any]], expected: dict[str, Any]) -> None:
    """Compares the names, shapes and dtypes of a checkpoint's arrays with those of the model.

    **Raises:** `DamagedCheckpointError` for the first difference.
    """
    differing_names = sorted(set(saved) ^ set(expected))
    if differing_names:
        owner = "the checkpoint" if differing_names[0] in saved else "the config's model"
        raise DamagedCheckpointError(
            f"it belongs to another model: only {owner} has {differing_names[0]}"
        )
    for name, leaf in expected.items():
        shape, dtype = saved[name]["shape"], saved[name]["dtype"]
        if list(leaf.shape) != shape or str(leaf.dtype) != dtype:
            raise DamagedCheckpointError(
                f"it belongs to another model: {name} is {dtype} {shape}, "
                f"not {leaf.dtype} {list(leaf.shape)}"
            )
