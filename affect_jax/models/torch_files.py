"""Reads the weights of a `torch.save` file without PyTorch and without running code from the file.

Such a file holds a pickle of the dictionary of weights or of a whole network, in which each tensor
refers to its storage, and the raw numbers of each storage. It is a zip archive with the entries
`data.pkl` and `data/KEY`, or, before PyTorch 1.6, a sequence of pickles with the numbers at the
end. A pickle is a program that may call any function that it names. This module resolves names
itself: stand-ins for `OrderedDict` and for the functions that rebuild tensors, and `_Object`, which
only holds data, for every other name. Nothing is imported.
"""

from __future__ import annotations

import functools
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import ml_dtypes
import numpy as np

from affect_jax.core.errors import first_line

WEIGHTS_KEYS = ("state_dict", "model_state_dict", "model", "teacher")
"""Keys under which the checkpoint of a training script may hold the weights; the last is DINO's."""

MAX_PICKLE_BYTES = 1 << 22  # 100 times that of ResNet50; to read it takes seconds
MAX_ENTRIES = 1 << 17  # of all modules of a network; a pickle may refer to a module many times
MAX_NAME_LENGTH = 1000
OLD_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)  # the first pickle before PyTorch 1.6


class InvalidWeightsError(ValueError):
    """The file is damaged or holds more than weights; the message describes the problem."""


class _Object(dict):
    """Stands for an object of any class that is not one of weights, such as a layer."""

    state: Any = None  # the object's `__dict__` if the pickle sets one


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """Returns a view of the storage, or an error, which counts if the tensor is a weight."""
    if not isinstance(storage, np.ndarray):
        return InvalidWeightsError("has no storage of a supported type")
    is_layout = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)
    if not is_layout or not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
        return InvalidWeightsError("has an impossible shape")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if max(math.prod(size), end) > len(storage):
        return InvalidWeightsError(f"exceeds its storage of {len(storage):,} numbers")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): lambda: {},
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "FloatStorage"): np.dtype("float32"),
    ("torch", "DoubleStorage"): np.dtype("float64"),
    ("torch", "HalfStorage"): np.dtype("float16"),
    ("torch", "BFloat16Storage"): np.dtype(ml_dtypes.bfloat16),
    ("torch", "LongStorage"): np.dtype("int64"),
    ("torch", "IntStorage"): np.dtype("int32"),
    ("torch", "ShortStorage"): np.dtype("int16"),
    ("torch", "CharStorage"): np.dtype("int8"),
    ("torch", "ByteStorage"): np.dtype("uint8"),
    ("torch", "BoolStorage"): np.dtype("bool"),
}
"""Module and name in a pickle -> what stands for it here; `_Object` stands for all others."""

_INSTRUCTION_NAMES = (
    "PROTO FRAME STOP MARK BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET NONE NEWTRUE NEWFALSE "
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE EMPTY_DICT EMPTY_LIST "
    "APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL BINPERSID"
)
INSTRUCTIONS = [getattr(pickle, name)[0] for name in _INSTRUCTION_NAMES.split()]


class _Unpickler(pickle._Unpickler):
    """Python's unpickler with only the instructions that weights and networks need.

    Entries of dictionaries whose keys are no strings are left out; they cannot be weights. A tuple
    as a key could hang or crash Python, which hashes all tuples inside it again and again.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    read_storage: Callable[[str, np.dtype], Any]
    unknown_name = ""  # the first one in the file

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in GLOBALS:
            self.unknown_name = self.unknown_name or f"{module_name}.{global_name}"
        return GLOBALS.get((module_name, global_name), _Object)

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key = pid[:3]  # the first is "storage"
        is_storage = isinstance(dtype, np.dtype) and isinstance(key, str) and not any(pid[5:])
        return self.read_storage(key, dtype) if is_storage else None

    def refuse(self, name: str = "objects") -> None:
        raise InvalidWeightsError(
            f"it holds {' '.join(name.split())[:100]} besides weights, which was not run; in "
            "PyTorch save only the weights: torch.save(model.state_dict(), path)"
        )

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        if isinstance(key, str):
            self.stack[-1][key] = value

    def set_items(self) -> None:
        items = self.pop_mark()
        pairs = zip(items[::2], items[1::2], strict=True)
        self.stack[-1].update({key: value for key, value in pairs if isinstance(key, str)})

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        is_known = callable(function) and function is not _Object
        # Without the limit, a few bytes could copy a long tuple again and again.
        self.stack.append(function(*arguments[:8]) if is_known else _Object())

    def new_object(self) -> None:
        self.stack[-2:] = [_Object()]  # instead of the class and the arguments

    def set_state(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], _Object):  # others have metadata of a dictionary of weights
            self.stack[-1].state = state

    def drop_frozen_set(self) -> None:
        self.pop_mark()
        self.stack.append(None)

    dispatch = {  # pyright: ignore[reportAssignmentType]
        **dict.fromkeys(pickle._Unpickler.dispatch, refuse),
        **{code: pickle._Unpickler.dispatch[code] for code in INSTRUCTIONS},
        pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: set_items,
        pickle.REDUCE[0]: reduce,
        pickle.NEWOBJ[0]: new_object,
        pickle.BUILD[0]: set_state,
        # Sets become None: they hold no weights, and their items could be slow to hash.
        pickle.EMPTY_SET[0]: pickle._Unpickler.dispatch[pickle.NONE[0]],
        pickle.ADDITEMS[0]: pickle._Unpickler.dispatch[pickle.POP_MARK[0]],
        pickle.FROZENSET[0]: drop_frozen_set,
    }


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth` file, by their names in PyTorch.

    **Returns:** read-only arrays with the dtypes of the file. If the file is a checkpoint of a
    training script, they come from the dictionary or network under a key of `WEIGHTS_KEYS`. A
    network has the names of its `state_dict()` and its buffers that are not persistent. The
    prefixes `module.` of data-parallel training and `backbone.` of DINO are removed from the names.

    **Raises:** `InvalidWeightsError` if the file is damaged, has another format or holds no
    weights; `OSError` if it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            if file.read(len(OLD_MAGIC)) == OLD_MAGIC:
                return _read_old_file(file)
            if not zipfile.is_zipfile(file):
                raise InvalidWeightsError("it is truncated or was not written by torch.save")
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive)
        except InvalidWeightsError:
            raise
        except Exception as error:  # a damaged zip or pickle can raise almost anything
            raise InvalidWeightsError(f"it is damaged ({first_line(error, 150)})") from error


def _read_old_file(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Reads a file of PyTorch before 1.6, after its magic number.

    It holds pickles of the version, the machine, the weights and the keys of the storages, then for
    each key the length (8 bytes) and the numbers.
    """
    pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    _Unpickler(pickles).load()
    _Unpickler(pickles).load()
    content = pickles.getvalue()[pickles.tell() :]
    dtypes: dict[str, np.dtype] = {}
    unpickler = _Unpickler(pickles)
    unpickler.read_storage = dtypes.setdefault
    unpickler.load()  # finds the types of the storages, which follow
    keys = _Unpickler(pickles).load()
    file.seek(len(OLD_MAGIC) + pickles.tell())
    storages = {}
    for key in keys:
        size = int.from_bytes(file.read(8), "little") * dtypes[key].itemsize
        storages[key] = np.frombuffer(file.read(size), dtypes[key])
    return _extract_weights(content, lambda key, _: storages[key])


def _read_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    folder = archive.namelist()[0].split("/")[0]

    def read_entry(name: str) -> bytes:
        entry = archive.getinfo(f"{folder}/{name}")
        if entry.compress_type != zipfile.ZIP_STORED:  # a zip bomb is compressed
            raise InvalidWeightsError("its entries are compressed; torch.save never compresses")
        if name == "data.pkl" and entry.file_size > MAX_PICKLE_BYTES:
            raise InvalidWeightsError("its pickle is larger than weights need")
        return archive.read(entry)  # verifies the checksum

    read_storage = functools.cache(  # tensors may share a storage
        lambda key, dtype: np.frombuffer(read_entry(f"data/{key}"), dtype)
    )
    return _extract_weights(read_entry("data.pkl"), read_storage)


def _extract_weights(
    index: bytes, read_storage: Callable[[str, np.dtype], np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the tensors of the pickle `index` by name, see `read`."""
    unpickler = _Unpickler(io.BytesIO(index))
    unpickler.read_storage = read_storage
    content = unpickler.load()
    for key in WEIGHTS_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, _Object) and isinstance(content.state, dict):
        entries = _walk(content, "", iter(range(MAX_ENTRIES)))
    else:
        entries = content.items() if isinstance(content, dict) else ()
    arrays: dict[str, Any] = {
        name.removeprefix("module.").removeprefix("backbone."): value
        for name, value in entries
        if isinstance(value, (np.ndarray, InvalidWeightsError))
    }
    for name, value in arrays.items():
        if isinstance(value, InvalidWeightsError):
            raise InvalidWeightsError(f"its tensor {name[:100]!r} {value}")
    if not arrays and unpickler.unknown_name:
        unpickler.refuse(unpickler.unknown_name)
    if not arrays:
        raise InvalidWeightsError(
            "it holds no dictionary of weights, also not under " + ", ".join(WEIGHTS_KEYS)
        )
    return arrays


def _walk(module: Any, prefix: str, budget: Iterator[int]) -> Iterator[tuple[str, Any]]:
    """Yields names and values of the parameters and buffers of a module and those inside it.

    `budget` limits the number of all entries: a pickle of a few bytes may hold a module in itself.
    """
    state = module.state if isinstance(module, _Object) else None
    for kind in ("_parameters", "_buffers", "_modules"):
        entries = state.get(kind) if isinstance(state, dict) else None
        for key, value in entries.items() if isinstance(entries, dict) else ():
            name = prefix + key
            if len(name) > MAX_NAME_LENGTH or next(budget, None) is None:
                raise InvalidWeightsError("its modules are nested too deeply")
            if kind == "_modules":
                yield from _walk(value, f"{name}.", budget)
            else:
                yield name, value
