"""Reads weight files from a path or from the Hugging Face Hub."""

from __future__ import annotations

import os
import pathlib
import re

import numpy as np

from affect_jax.core.errors import UserError, first_line
from affect_jax.models import torch_files

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar")


def read(source: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a weight file, by their names in the file.

    **Arguments:** `source`: a path ending in `.safetensors`, `.pth`, `.pt`, `.bin` or `.pth.tar`,
    or `hf://owner/name[@revision][/file]`; the default file is `model.safetensors`.

    **Raises:** `UserError` (one line) if the file does not exist or holds more than weights.
    """
    path = resolve_source(source)
    try:
        if not path.is_file():
            raise UserError(f"init_from = {source!r}: no such file")
        if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
            suffixes = ", ".join((".safetensors", *TORCH_SUFFIXES))
            raise UserError(f"init_from = {source!r}: must be a run's folder or end in {suffixes}")
        return torch_files.read(path) if path.suffix in TORCH_SUFFIXES else _read_safetensors(path)
    except torch_files.InvalidWeightsError as error:
        raise UserError(f"init_from = {source!r}: {error}") from error
    except OSError as error:
        raise UserError(f"init_from = {source!r}: cannot be read ({error.strerror})") from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors  # imported here: building a network needs only JAX and flax

    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # AttributeError for floats of 8 bits, which NumPy lacks
        text = first_line(error, 150)
        raise torch_files.InvalidWeightsError(
            f"it is damaged or not a safetensors file that NumPy can hold ({text})"
        ) from error


def resolve_source(source: str) -> pathlib.Path:
    """Returns the local path of a source; a file on the Hub is downloaded once and cached.

    **Raises:** `UserError` if the Hub has no such file or cannot be reached.
    """
    if not source.startswith("hf://"):
        return pathlib.Path(os.path.expanduser(source))
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?", source)
    if not match:
        raise UserError(f"init_from = {source!r}: must be hf://owner/name[@revision][/file]")
    repository, revision, file = match.groups()
    file = file or "model.safetensors"  # that timm and the Hub put into a repository
    try:
        import huggingface_hub

        return pathlib.Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
    except ImportError:
        raise UserError(
            f"init_from = {source!r}: needs huggingface_hub; pip install 'affect_jax[hub]'"
        ) from None
    except Exception as error:  # the client, its cache and its transport raise unrelated types
        raise UserError(f"init_from = {source!r}: {first_line(error)}") from error
