"""The manifest of a checkpoint: its metadata, and shape, dtype and SHA-256 of every array."""

from __future__ import annotations

import hashlib
import json
import pathlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from affect_jax.core.errors import first_line

FORMAT_VERSION = 1
"""Version of the checkpoint format; newer versions of affect_jax write larger numbers."""


class DamagedCheckpointError(Exception):
    """Raised for a checkpoint that cannot be restored; the message is the reason."""


def describe_arrays(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns `{name: {"shape": ..., "dtype": ..., "sha256": ...}}` of named arrays."""
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        hashes = pool.map(hash_array, arrays.values())
        return {
            name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": digest}
            for (name, leaf), digest in zip(arrays.items(), hashes, strict=True)
        }


def hash_array(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def check_arrays(saved: dict[str, dict[str, Any]], expected: dict[str, Any]) -> None:
    """Compares the names, shapes and dtypes of a checkpoint's arrays with those of the model.

    **Arguments:**

    - `saved`: the checkpoint's, see `describe_arrays`.
    - `expected`: by name, anything with `shape` and `dtype`.

    **Raises:** `DamagedCheckpointError` that names the first difference.
    """
    found = {name: f"{entry['dtype']} {entry['shape']}" for name, entry in saved.items()}
    wanted = {name: f"{leaf.dtype} {list(leaf.shape)}" for name, leaf in expected.items()}
    for name in sorted(found.keys() | wanted.keys()):
        in_file, in_model = found.get(name, "missing"), wanted.get(name, "missing")
        if in_file != in_model:
            raise DamagedCheckpointError(
                f"it belongs to another model: {name} is {in_file} in the checkpoint and "
                f"{in_model} in the config's model"
            )


def build_manifest(info: dict[str, Any]) -> dict[str, str]:
    """Returns the JSON-serialisable manifest: the text of `info`, and its SHA-256."""
    text = json.dumps(info, sort_keys=True)
    return {"body": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads and verifies the manifest of the checkpoint in a folder: metadata and array hashes.

    **Raises:** `DamagedCheckpointError` if it is damaged or has a newer format.
    """
    try:
        document = json.loads((folder / "info" / "metadata").read_text())
        if hashlib.sha256(document["body"].encode()).hexdigest() != document["sha256"]:
            raise DamagedCheckpointError("its manifest does not match its checksum")
        info = json.loads(document["body"])
        is_newer = info["format"] > FORMAT_VERSION
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"its manifest cannot be read ({first_line(error)})"
        ) from error
    if is_newer:
        raise DamagedCheckpointError(
            "it was written by a newer affect_jax; update affect_jax to read it"
        )
    return info
