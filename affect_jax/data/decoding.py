"""One batch of faces: from rows of a split to bytes of pixels, in whichever process it happens."""

from __future__ import annotations

import collections
import ctypes
import math
import mmap
import time
import weakref
from collections.abc import Iterable, Mapping
from multiprocessing import shared_memory
from typing import Any, Protocol

import numpy as np
import simplejpeg

from affect_jax.data import sampling
from affect_jax.errors import UserError, for_want_of_memory


class Records(Protocol):
    """Random access to a split's records; picklable where worker processes are used.

    A method `image(row)`, where there is one, gives the JPEG without the rest: the rest
    costs half as much as decoding, and holds Python's lock.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> Mapping[str, Any]: ...


class Rows(Protocol):
    """Rows of each global batch, int64 [B], -1 is padding: see `sampling`."""

    def __getitem__(self, step: int, /) -> np.ndarray: ...


def decode(jpeg: bytes | memoryview, image: np.ndarray) -> None:
    """Decodes a JPEG as RGB into `image`, uint8 [S, S, 3].

    **Raises:** `ValueError` for anything but a whole JPEG of S x S pixels.
    """
    found = simplejpeg.decode_jpeg(jpeg, "RGB", buffer=image).shape
    if found != image.shape:
        raise ValueError(f"it has {found[0]} x {found[1]} pixels, not {len(image)} x {len(image)}")


def faces(records: Records, rows: Iterable[int], image_size: int) -> np.ndarray:
    """Some faces of a split, as they are stored: uint8 [n, S, S, 3].

    **Raises:** `UserError` that names a record which cannot be decoded.
    """
    rows = [int(row) for row in rows]
    images = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    _read(records, rows, images)
    return images


class Buffers:
    """Memory for batches, used again once nothing looks into it.

    Fresh memory costs as much as a third of the decoding: the kernel clears every page. Arrays
    share memory in many ways (views, JAX's arrays on a CPU), but all of them hold on to the ctypes
    object that lends it, and its end gives the memory back.
    """

    def __init__(self):
        self._free: collections.deque[Any] = collections.deque()  # of arrays, flat

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """uint8 array of unknown content; every call of one object has the same size."""
        memory: Any
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(int(np.prod(shape)), np.uint8)
        lender: Any = (ctypes.c_uint8 * memory.size).from_buffer(memory)
        weakref.finalize(lender, self._free.append, memory).atexit = False
        return np.frombuffer(lender, np.uint8).reshape(shape)


class Slots:
    """Memory for batches that worker processes fill and one process empties, used in turn.

    Fresh shared memory costs as much as decoding into it: the kernel clears every page, and every
    process maps it anew. Batch i lies in slot i % count. For each slot there is the number of the
    batch that may be put there: a worker waits for its own, and who empties a slot lets the next
    one in.

    **Arguments:**

    - `count`: of the slots; with fewer than batches under way, workers wait.
    - `shape`: of a batch.

    **Raises:** `OSError` where there is no shared memory.
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        self.shape, self._count = shape, count
        self._header = _whole_pages(8 * (count + 1))
        self._each = _whole_pages(math.prod(shape))
        size = self._header + count * self._each
        self._memory = shared_memory.SharedMemory(create=True, size=size)
        self._array(np.int64, count + 1, 0)[:] = range(count + 1)

    def _array(self, dtype: type, count: int, begin: int) -> np.ndarray:
        # Made for each use: an array that stays would keep the memory open.
        memory = self._memory.buf
        assert memory is not None
        return np.frombuffer(memory, dtype, count, begin)

    @property
    def _turns(self) -> np.ndarray:
        return self._array(np.int64, self._count, 0)

    @property
    def _open(self) -> np.ndarray:
        """One number, 0 after `close`."""
        return self._array(np.int64, 1, 8 * self._count)

    def _slot(self, batch: int) -> np.ndarray:
        begin = self._header + batch % self._count * self._each
        return self._array(np.uint8, math.prod(self.shape), begin).reshape(self.shape)

    def fill(self, batch: int) -> np.ndarray:
        """The slot of a batch, uint8 of unknown content, once the one before it was emptied.

        **Raises:** `RuntimeError` after `close`.
        """
        while self._turns[batch % self._count] != batch:
            if not self._open[0]:
                raise RuntimeError("the loader was closed")
            time.sleep(0.001)
        return self._slot(batch)

    def empty(self, batch: int, images: np.ndarray) -> None:
        """Copies a batch into `images` and lets the next one into its slot."""
        images[:] = self._slot(batch)
        self._turns[batch % self._count] = batch + self._count

    def close(self) -> None:
        """Ends the workers' waiting; the memory goes when the last process has let go of it."""
        self._open[0] = 0
        self._memory.unlink()


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


class Source:
    """Grain's data source: element i is this process's share of global batch `start + i`.

    **Arguments:**

    - `slots`: for worker processes; element i has no image but lies there as batch i.
    """

    def __init__(
        self,
        images: Records | np.ndarray,
        rows: Rows,
        image_size: int,
        steps: range,
        process: tuple[int, int],
        slots: Slots | None = None,
    ):
        self._images, self._rows, self._image_size = images, rows, image_size
        self._steps, self._process, self._slots = steps, process, slots
        self._buffers = Buffers()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rows = sampling.process_rows(self._rows[self._steps[index]], *self._process)
        shape = (len(rows), self._image_size, self._image_size, 3)
        images = self._slots.fill(index) if self._slots else self._buffers.take(shape)
        if isinstance(self._images, np.ndarray):  # "clip": with "raise" NumPy copies twice
            np.take(self._images, np.maximum(rows, 0), axis=0, out=images, mode="clip")
        else:
            _read(self._images, rows.tolist(), images)
        images[rows < 0] = 0
        return (
            {"rows": rows, "batch": np.array(index)}
            if self._slots
            else {"rows": rows, "image": images}
        )

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_buffers"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._buffers = Buffers()


def _read(records: Records, rows: Iterable[int], images: np.ndarray) -> None:
    """Decodes the faces of some rows into `images`, uint8 [n, S, S, 3]; those of -1 are left."""
    read: Any = getattr(records, "image", None) or (lambda row: records[row]["image"])
    for row, image in zip(rows, images, strict=True):
        if row < 0:
            continue
        try:
            decode(read(row), image)
        except ValueError as error:
            if for_want_of_memory(error):
                raise MemoryError(str(error)) from error
            name = records[row]["id"]
            name = name.decode() if isinstance(name, bytes) else name
            raise UserError(
                f"record {row} ({name}): its image cannot be decoded: {error}; delete the prepared "
                "records and prepare them again"
            ) from error
