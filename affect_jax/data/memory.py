"""Memory for batches, used again: fresh memory costs time, as the kernel clears every page."""

from __future__ import annotations

import collections
import ctypes
import math
import time
import weakref
from multiprocessing import shared_memory
from typing import Any

import numpy as np


class Buffers:
    """Memory for batches, used again once nothing looks into it.

    Fresh memory costs as much as a third of the decoding. Arrays share memory in many ways (views,
    JAX's arrays on a CPU), but all of them hold on to the ctypes object that lends it, and its end
    gives the memory back.
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
    """Shared memory for batches that worker processes fill and one process empties, used in turn.

    Fresh shared memory costs as much as the decoding: every process maps it anew. Batch i lies in
    slot i % count. For each slot there is the number of the batch that may be put there: a worker
    waits for its own, and who empties a slot lets the next one in.

    **Arguments:**

    - `count`: of the slots; with fewer than batches under way, workers wait.
    - `shape`: of a batch.

    **Raises:** `OSError` where there is no shared memory.
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        self.shape, self._count, self._bytes = shape, count, math.prod(shape)
        size = 8 * (count + 1) + count * self._bytes
        self._memory = shared_memory.SharedMemory(create=True, size=size)
        self._numbers[:] = range(count + 1)

    # Arrays are made for each use: one that stays would keep the memory open.

    @property
    def _numbers(self) -> np.ndarray:
        """For each slot the batch that may be put there; and one more, 0 after `close`."""
        return np.frombuffer(self._buffer, np.int64, self._count + 1)

    def _slot(self, batch: int) -> np.ndarray:
        begin = 8 * (self._count + 1) + batch % self._count * self._bytes
        return np.frombuffer(self._buffer, np.uint8, self._bytes, begin).reshape(self.shape)

    @property
    def _buffer(self) -> memoryview:
        assert self._memory.buf is not None  # we never close it
        return self._memory.buf

    def fill(self, batch: int) -> np.ndarray:
        """The slot of a batch, uint8 of unknown content, once the one before it was emptied.

        **Raises:** `RuntimeError` after `close`.
        """
        while self._numbers[batch % self._count] != batch:
            if not self._numbers[-1]:
                raise RuntimeError("the loader was closed")
            time.sleep(0.001)
        return self._slot(batch)

    def empty(self, batch: int, images: np.ndarray) -> None:
        """Copies a batch into `images` and lets the next one into its slot."""
        images[:] = self._slot(batch)
        self._numbers[batch % self._count] = batch + self._count

    def close(self) -> None:
        """Ends the workers' waiting; the memory goes when the last process has let go of it."""
        self._numbers[-1] = 0
        self._memory.unlink()
