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
import io
import math
import pathlib
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
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
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


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
            f"it holds {module_name}.{global_name} besides weights; no code of it was run. "
            "In PyTorch save only the weights: torch.save(model.state_dict(), path)"
        )
    return ALLOWED_GLOBALS[module_name, global_name]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        return resolve_global(module_name, global_name)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key = pid[:3]
        if kind != "storage":
            raise InvalidWeightsError(f"it refers to a {kind!r} instead of a storage")
        return _Storage(storage, key)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth` file, by their names in PyTorch.

    **Returns:**

    Read-only arrays with the dtypes of the file. If the file is a checkpoint of a training script,
    they come from the dictionary under `state_dict`, `model_state_dict` or `model`. The prefix
    `module.` of data-parallel training is removed from the names.

    **Raises:** `InvalidWeightsError` if the file is damaged, has another format or holds more than
    weights.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                first_bytes = file.read(len(LEGACY_MAGIC))
            raise InvalidWeightsError(_describe_format(first_bytes))
        with zipfile.ZipFile(path) as archive:
            return _TorchArchive(archive).weights()
    except InvalidWeightsError:
        raise
    except Exception as error:  # a damaged zip or pickle can raise almost anything
        text = first_line(error, 150)
        raise InvalidWeightsError(f"it is damaged ({text})") from error


def _describe_format(first_bytes: bytes) -> str:
    if first_bytes == LEGACY_MAGIC:
        return (
            "it has the file format of PyTorch before 1.6; save it again in PyTorch: "
            "torch.save(torch.load(path, weights_only=True), path)"
        )
    if not first_bytes:
        return "it is empty"
    return "it is truncated or not a torch.save file (those are zip archives)"


class _TorchArchive:
    """An open `torch.save` file."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        index_names = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(index_names) != 1:
            raise InvalidWeightsError(
                "it is a zip archive but not a torch.save file: it has no data.pkl"
            )
        self._root = index_names[0].removesuffix("data.pkl")
        has_byte_order = f"{self._root}byteorder" in archive.namelist()  # PyTorch 2.1 and later
        if has_byte_order and self._bytes("byteorder").strip() != b"little":
            raise InvalidWeightsError(
                "it was written on a big-endian machine; save it again on a little-endian one"
            )
        self._storages: dict[tuple[str, str], np.ndarray] = {}  # each is read once

    def weights(self) -> dict[str, np.ndarray]:
        pickled = self._bytes("data.pkl")
        check_opcodes(pickled)
        content = _Unpickler(io.BytesIO(pickled)).load()
        for key in WEIGHTS_KEYS:
            if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
                content = content[key]
        if not isinstance(content, Mapping):
            raise InvalidWeightsError(
                f"it holds a {type(content).__name__}, not a dictionary of weights"
            )
        tensors = {
            name.removeprefix("module."): value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, _Tensor)
        }
        if not tensors:
            raise InvalidWeightsError("it holds no weights")
        return {name: self._array(name, tensor) for name, tensor in tensors.items()}

    def _bytes(self, name: str) -> bytes:
        entry = self._archive.getinfo(self._root + name)
        if entry.compress_type != zipfile.ZIP_STORED:  # a zip bomb is compressed
            raise InvalidWeightsError("its entries are compressed; torch.save never compresses")
        if name == "data.pkl" and entry.file_size > MAX_INDEX_BYTES:
            raise InvalidWeightsError(
                f"its data.pkl has {entry.file_size:,} bytes; weights need fewer"
            )
        return self._archive.read(entry)  # verifies the checksum

    def _array(self, name: str, tensor: _Tensor) -> np.ndarray:
        storage, offset, size, stride = tensor
        layout = [offset, *size, *stride]
        if not isinstance(storage, _Storage) or storage.kind not in DTYPES:
            raise InvalidWeightsError(f"{name} has no storage of a supported type")
        if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in layout):
            raise InvalidWeightsError(f"{name} has an impossible shape")
        values = self._storage(storage)
        end = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) and end > len(values):
            raise InvalidWeightsError(f"{name} exceeds its storage of {len(values):,} numbers")
        if not math.prod(size):
            return np.zeros(size, values.dtype)
        return np.lib.stride_tricks.as_strided(
            values[offset:], size, [step * values.itemsize for step in stride], writeable=False
        )

    def _storage(self, storage: _Storage) -> np.ndarray:
        storage_id = (storage.kind, storage.key)
        if storage_id not in self._storages:
            raw_bytes = self._bytes(f"data/{storage.key}")
            self._storages[storage_id] = np.frombuffer(raw_bytes, DTYPES[storage.kind])
        return self._storages[storage_id]


def check_opcodes(pickled: bytes) -> None:
    """Checks the opcodes of a pickle without running it.

    It rejects opcodes that weights do not need, and memo indices beyond the length of the pickle:
    Python's unpickler would allocate a memo of that size.

    **Raises:** `InvalidWeightsError`; `ValueError` if the data are not a pickle.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name not in ALLOWED_OPCODES:
            raise InvalidWeightsError(
                f"its pickle contains the opcode {opcode.name}, which weights do not need; "
                "no code of it was run. In PyTorch save only the weights: "
                "torch.save(model.state_dict(), path)"
            )
        if opcode.name == "GLOBAL":
            resolve_global(*str(argument).split(" ", 1))
        if opcode.name == "LONG_BINPUT" and int(str(argument)) > len(pickled):
            raise InvalidWeightsError("its pickle requests more memory than weights need")
