"""Reads the weights of a `torch.save` file without PyTorch and without running code from the file.

Such a file is a zip archive (PyTorch 1.6 and later). It holds `data.pkl`, a pickle of the
dictionary of weights in which each tensor refers to its storage, and one entry `data/KEY` of raw
numbers per storage. A pickle is a program. This module permits only opcodes that build
dictionaries, lists and numbers, and calls of `OrderedDict` and of two stand-ins for the functions
that rebuild tensors. A file with another opcode is rejected before its first opcode runs, and any
other global name before it is imported.
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
ALLOWED_OPCODES = frozenset(
    """PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    SHORT_BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS
    APPEND APPENDS BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
    BINPERSID""".split()
)
WEIGHTS_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which the checkpoint of a training script may hold the weights."""

MAX_INDEX_BYTES = 2**26  # size limit of data.pkl; about 100 bytes per tensor are usual
SAVE_ONLY_WEIGHTS = (
    "no code of it was run. In PyTorch save only the weights: torch.save(model.state_dict(), path)"
)


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
    __slots__ = ()  # so that the opcode BUILD cannot set attributes

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


def resolve_global(module_name: str, global_name: str) -> Any:
    """Returns the stand-in for a global name of a pickle of weights.

    **Raises:** `InvalidWeightsError` for any other name.
    """
    if (module_name, global_name) not in ALLOWED_GLOBALS:
        raise InvalidWeightsError(
            f"it holds {module_name}.{global_name} besides weights; {SAVE_ONLY_WEIGHTS}"
        )
    return ALLOWED_GLOBALS[module_name, global_name]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        return resolve_global(module_name, global_name)

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
            "it is truncated or not a zip archive, which torch.save writes since PyTorch 1.6; save "
            "an older file again in PyTorch: torch.save(torch.load(path, weights_only=True), path)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    except InvalidWeightsError:
        raise
    except Exception as error:  # a damaged zip or pickle can raise almost anything
        raise InvalidWeightsError(f"it is damaged ({first_line(error, 150)})") from error


def _read_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    folders = [
        name[: -len("data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")
    ]
    if len(folders) != 1:
        raise InvalidWeightsError("it is a zip archive but not a torch.save file: no data.pkl")

    def read_entry(name: str) -> bytes:
        entry = archive.getinfo(folders[0] + name)
        if entry.compress_type != zipfile.ZIP_STORED:  # a zip bomb is compressed
            raise InvalidWeightsError("its entries are compressed; torch.save never compresses")
        if name == "data.pkl" and entry.file_size > MAX_INDEX_BYTES:
            raise InvalidWeightsError("its data.pkl is larger than that of any weights")
        return archive.read(entry)  # verifies the checksum

    @functools.cache  # tensors may share a storage
    def read_storage(storage: _Storage) -> np.ndarray:
        return np.frombuffer(read_entry(f"data/{storage.key}"), DTYPES[storage.kind])

    pickled = read_entry("data.pkl")
    check_opcodes(pickled)
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


def check_opcodes(pickled: bytes) -> None:
    """Checks the opcodes of a pickle without running it.

    It rejects opcodes that weights do not need, and memo indices beyond the length of the pickle:
    Python's unpickler would allocate a memo of that size.

    **Raises:** `InvalidWeightsError`; `ValueError` if the data are not a pickle.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name not in ALLOWED_OPCODES:
            raise InvalidWeightsError(
                f"its pickle has the opcode {opcode.name}; {SAVE_ONLY_WEIGHTS}"
            )
        if opcode.name == "GLOBAL":  # names the class, before the opcode that creates an instance
            resolve_global(*str(argument).split(" ", 1))
        if opcode.name == "LONG_BINPUT" and int(str(argument)) > len(pickled):
            raise InvalidWeightsError("its pickle requests more memory than weights need")
