"""Reads the weights of a `torch.save` file without PyTorch and without running code from the file.

Such a file is a zip archive (PyTorch 1.6 and later). It holds `data.pkl`, a pickle of the
dictionary of weights in which each tensor refers to its storage, and one entry `data/KEY` of raw
numbers per storage. A pickle is a program that may call any function that it names. This module
resolves names itself: `OrderedDict` and two stand-ins for the functions that rebuild tensors. Any
other name ends the reading before it is imported.
"""

from __future__ import annotations

import collections
import functools
import io
import math
import pathlib
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from affect_jax.core.errors import first_line

DTYPES = {
    "FloatStorage": np.dtype("float32"),
    "DoubleStorage": np.dtype("float64"),
    "HalfStorage": np.dtype("float16"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("int64"),
    "IntStorage": np.dtype("int32"),
    "ShortStorage": np.dtype("int16"),
    "CharStorage": np.dtype("int8"),
    "ByteStorage": np.dtype("uint8"),
    "BoolStorage": np.dtype("bool"),
}
WEIGHTS_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which the checkpoint of a training script may hold the weights."""


class InvalidWeightsError(ValueError):
    """The file is damaged or holds more than weights; the message describes the problem."""


class _Storage(NamedTuple):
    kind: Any
    key: Any


class _Tensor(NamedTuple):
    """The storage and layout of a tensor, not yet checked."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _RebuildTensor:
    __slots__ = ()  # so that a pickle cannot set attributes

    def __call__(self, storage, offset, size, stride, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, size, stride)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor, *_: Any) -> Any:
        return tensor


ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): name for name in DTYPES},  # strings can be neither called nor changed
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in ALLOWED_GLOBALS:
            raise InvalidWeightsError(
                f"it holds {module_name}.{global_name} besides weights, which was not run; in "
                "PyTorch save only the weights: torch.save(model.state_dict(), path)"
            )
        return ALLOWED_GLOBALS[module_name, global_name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key = pid[:3]  # the first is "storage"
        return _Storage(kind, key)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth` file, by their names in PyTorch.

    **Returns:**

    Read-only arrays with the dtypes of the file. If the file is a checkpoint of a training script,
    they come from the dictionary under `state_dict`, `model_state_dict` or `model`. The prefix
    `module.` of data-parallel training is removed from the names.

    **Raises:** `InvalidWeightsError` if the file is damaged, has another format or holds more than
    weights; `OSError` if it cannot be read.
    """
    if not zipfile.is_zipfile(path):
        raise InvalidWeightsError(
            "it is truncated or not a zip archive, which torch.save writes since PyTorch 1.6"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    except InvalidWeightsError:
        raise
    except Exception as error:  # a damaged zip or pickle can raise almost anything
        raise InvalidWeightsError(f"it is damaged ({first_line(error, 150)})") from error


def _read_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    folder = archive.namelist()[0].split("/")[0]

    def read_entry(name: str) -> bytes:
        entry = archive.getinfo(f"{folder}/{name}")
        if entry.compress_type != zipfile.ZIP_STORED:  # a zip bomb is compressed
            raise InvalidWeightsError("its entries are compressed; torch.save never compresses")
        return archive.read(entry)  # verifies the checksum

    @functools.cache  # tensors may share a storage
    def read_storage(storage: _Storage) -> np.ndarray:
        return np.frombuffer(read_entry(f"data/{storage.key}"), DTYPES[storage.kind])

    pickled = read_entry("data.pkl")
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "LONG_BINPUT" and int(str(argument)) > len(pickled):
            # Python's unpickler would allocate a memo of that size.
            raise InvalidWeightsError("its pickle requests more memory than weights need")
    content = _Unpickler(io.BytesIO(pickled)).load()
    for key in WEIGHTS_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {
        name.removeprefix("module."): value
        for name, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(name, str) and isinstance(value, _Tensor)
    }
    if not tensors:
        raise InvalidWeightsError("it holds no dictionary of weights")
    return {name: _to_array(name, tensor, read_storage) for name, tensor in tensors.items()}


def _to_array(
    name: str, tensor: _Tensor, read_storage: Callable[[_Storage], np.ndarray]
) -> np.ndarray:
    """Returns a view of the tensor's storage after checking that it stays within."""
    storage, offset, size, stride = tensor
    if not isinstance(storage, _Storage) or storage.kind not in DTYPES:
        raise InvalidWeightsError(f"{name} has no storage of a supported type")
    layout = [offset, *size, *stride]
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in layout):
        raise InvalidWeightsError(f"{name} has an impossible shape")
    values = read_storage(storage)
    if not math.prod(size):
        return np.zeros(size, values.dtype)
    if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= len(values):
        raise InvalidWeightsError(f"{name} exceeds its storage of {len(values):,} numbers")
    return np.lib.stride_tricks.as_strided(
        values[offset:], size, [step * values.itemsize for step in stride], writeable=False
    )
