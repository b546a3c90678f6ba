"""Files of weights: where they are (a path or the Hugging Face Hub) and what is in them."""

from __future__ import annotations

import pathlib
import re

import numpy as np

from affect_jax.core.errors import UserError, first_line
from affect_jax.models import torch_files

HUB = "hf://"
HUB_FILE = "model.safetensors"  # what timm and the Hub call the weights of a repository
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar")


def read(source: str) -> dict[str, np.ndarray]:
    """The arrays of a file of weights, by their names in it.

    **Arguments:**

    - `source`: a path ending in `.safetensors`, `.pth`, `.pt`, `.bin` or `.pth.tar`, or
      `hf://owner/name[@revision][/file]`; without a file, `model.safetensors`.

    **Raises:** `UserError`, one line, where there is no such file or it is not weights alone.
    """
    path = locate(source)
    if not path.is_file():
        what = "a folder, and not of a run" if path.is_dir() else "no such file"
        raise UserError(f"init_from = {source!r}: {what}")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix in TORCH_SUFFIXES:
            return torch_files.read(path)
    except torch_files.Refused as error:
        raise UserError(f"init_from = {source!r}: {error}") from error
    except OSError as error:
        raise UserError(f"init_from = {source!r}: cannot be read ({error.strerror})") from error
    known = ", ".join((".safetensors", *TORCH_SUFFIXES))
    raise UserError(f"init_from = {source!r}: must end in one of {known}, or be a run's folder")


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors  # networks can be had where only JAX and flax are

    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        text = first_line(error, 150)
        raise torch_files.Refused(f"it is damaged, or no safetensors file ({text})") from error


def locate(source: str) -> pathlib.Path:
    """The local path of a source; one on the Hub is downloaded, once, into the Hub's cache.

    **Raises:** `UserError` where the Hub has no such file, or cannot be reached.
    """
    if not source.startswith(HUB):
        return pathlib.Path(source).expanduser()
    parts = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?", source)
    if not parts:
        raise UserError(f"init_from = {source!r}: must be hf://owner/name[@revision][/file]")
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"init_from = {source!r}: needs the Hub's client; pip install 'affect_jax[hub]'"
        ) from None
    repository, revision, file = parts.groups()
    try:
        return pathlib.Path(
            huggingface_hub.hf_hub_download(repository, file or HUB_FILE, revision=revision)
        )
    except Exception as error:  # the client, its cache and its transport have each their own
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"init_from = {source!r}: {text}") from error
