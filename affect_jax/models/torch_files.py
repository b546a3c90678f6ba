"""Weights from a file that `torch.save` wrote, without PyTorch and without running what is in it.

Such a file is a zip archive (PyTorch 1.6 and later): `data.pkl`, a pickle of the dictionary of
weights in which each tensor only names its storage, and raw numbers, an entry `data/KEY` a storage.
A pickle is a program. Here it may use the few instructions that build dictionaries, lists and
numbers, and call two functions, both ours, which note down where a tensor lies. A file that asks
for anything else is refused before its first instruction runs.
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
INSTRUCTIONS = frozenset(
    """PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    SHORT_BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS
    APPEND APPENDS BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
    BINPERSID""".split()
)
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which of its keys a training script's checkpoint keeps the weights."""

MAX_INDEX_BYTES = 2**26  # of data.pkl; 100 bytes a tensor are usual
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


class Refused(ValueError):
    """A file that is not weights alone; the message says what is wrong with it."""


class _Storage(NamedTuple):
    kind: Any
    key: Any


class _Tensor(NamedTuple):
    """Where a tensor lies; nothing of it is checked yet."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _RebuildTensor:
    __slots__ = ()  # so that an instruction can neither set an attribute here nor call another

    def __call__(self, storage, offset, size, stride, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, size, stride)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor, *_: Any) -> Any:
        return tensor


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): name for name in DTYPES},  # text: there is nothing to call or to change
}


def allowed(module_name: str, global_name: str) -> Any:
    """What stands for a global name in a pickle of weights; `Refused` for any other name."""
    if (module_name, global_name) not in ALLOWED:
        raise Refused(
            f"it holds {module_name}.{global_name} beside weights; nothing of it was run. "
            "In PyTorch save weights alone: torch.save(model.state_dict(), path)"
        )
    return ALLOWED[module_name, global_name]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        return allowed(module_name, global_name)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key = pid[:3]
        if kind != "storage":
            raise Refused(f"it refers to a {kind!r}, not to a storage")
        return _Storage(storage, key)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The weights of a `.pth` file by their names in PyTorch.

    **Returns:**

    Read-only arrays as they are in the file. Of a training script's checkpoint, the dictionary
    under `state_dict`, `model_state_dict` or `model`; the `module.` of data-parallel training is
    taken off the names.

    **Raises:** `Refused` where the file is damaged, of another format, or not weights alone.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                start = file.read(len(LEGACY_MAGIC))
            raise Refused(_what_it_is(start))
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive).weights()
    except Refused:
        raise
    except Exception as error:  # a damaged zip or pickle can raise almost anything
        text = first_line(error, 150)
        raise Refused(f"it is damaged ({text})") from error


def _what_it_is(start: bytes) -> str:
    if start == LEGACY_MAGIC:
        return (
            "it has PyTorch's format of before version 1.6; save it again there: "
            "torch.save(torch.load(path, weights_only=True), path)"
        )
    if not start:
        return "it is empty"
    return "it is truncated, or no file of torch.save (those are zip archives)"


class _Archive:
    """An open file of `torch.save`."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        indices = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(indices) != 1:
            raise Refused("it is a zip archive, but not one of torch.save: it has no data.pkl")
        self._root = indices[0].removesuffix("data.pkl")
        order = f"{self._root}byteorder" in archive.namelist()  # PyTorch 2.1 and later
        if order and self._bytes("byteorder").strip() != b"little":
            raise Refused("it was written on a big-endian machine; save it again on another")
        self._storages: dict[tuple[str, str], np.ndarray] = {}  # each is read once

    def weights(self) -> dict[str, np.ndarray]:
        index = self._bytes("data.pkl")
        check_instructions(index)
        found = _Unpickler(io.BytesIO(index)).load()
        for key in WRAPPERS:
            if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
                found = found[key]
        if not isinstance(found, Mapping):
            raise Refused(f"it holds a {type(found).__name__}, not a dictionary of weights")
        tensors = {
            name.removeprefix("module."): value
            for name, value in found.items()
            if isinstance(name, str) and isinstance(value, _Tensor)
        }
        if not tensors:
            raise Refused("it holds no weights")
        return {name: self._array(name, tensor) for name, tensor in tensors.items()}

    def _bytes(self, name: str) -> bytes:
        entry = self._archive.getinfo(self._root + name)
        if entry.compress_type != zipfile.ZIP_STORED:  # a zip bomb's first need
            raise Refused("its entries are compressed, which torch.save never does")
        if name == "data.pkl" and entry.file_size > MAX_INDEX_BYTES:
            raise Refused(f"its data.pkl has {entry.file_size:,} bytes, too many for weights")
        return self._archive.read(entry)  # compares the checksum

    def _array(self, name: str, tensor: _Tensor) -> np.ndarray:
        storage, offset, size, stride = tensor
        numbers = [offset, *size, *stride]
        if not isinstance(storage, _Storage) or storage.kind not in DTYPES:
            raise Refused(f"{name} has no storage of a known type")
        if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
            raise Refused(f"{name} has an impossible shape")
        values = self._storage(storage)
        end = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) and end > len(values):
            raise Refused(f"{name} reaches beyond its {len(values):,} numbers")
        if not math.prod(size):
            return np.zeros(size, values.dtype)
        return np.lib.stride_tricks.as_strided(
            values[offset:], size, [step * values.itemsize for step in stride], writeable=False
        )

    def _storage(self, storage: _Storage) -> np.ndarray:
        place = (storage.kind, storage.key)
        if place not in self._storages:
            content = self._bytes(f"data/{storage.key}")
            self._storages[place] = np.frombuffer(content, DTYPES[storage.kind])
        return self._storages[place]


def check_instructions(index: bytes) -> None:
    """Looks through a pickle without running it.

    Beside instructions that weights do not need, this refuses a place in the memo beyond the
    pickle's own length: Python's unpickler would allocate everything up to it.

    **Raises:** `Refused`; `ValueError` where it is no pickle at all.
    """
    for instruction, argument, _ in pickletools.genops(index):
        if instruction.name not in INSTRUCTIONS:
            raise Refused(
                f"its pickle has the instruction {instruction.name}, which weights do not need; "
                "nothing of it was run. In PyTorch save weights alone: "
                "torch.save(model.state_dict(), path)"
            )
        if instruction.name == "GLOBAL":
            allowed(*str(argument).split(" ", 1))
        if instruction.name == "LONG_BINPUT" and int(str(argument)) > len(index):
            raise Refused("its pickle asks for more memory than it can need")
