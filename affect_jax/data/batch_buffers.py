"""Memory for batches, used again: fresh memory costs time, as the kernel clears every page."""

from __future__ import annotations

import collections
import ctypes
import math
import os
import time
import weakref
from multiprocessing import shared_memory
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes


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
    """Shared memory for batches that worker processes fill and one process looks into.

    Fresh shared memory costs as much as the decoding: every process maps it anew. So there are
    some slots, and each is named for one batch after another; a worker waits until one is named
    for its batch. A batch that is taken is its slot, not a copy, and the slot is named for another
    batch once nothing looks into it. But who takes batches may keep them: `ahead` slots are always
    left to the workers, and where a batch is one too many it is copied.

    **Arguments:**

    - `ahead`: batches under way in the workers; with fewer slots they would wait.
    - `lent`: slots beside these.
    - `shape`: of a batch.

    **Raises:** `OSError` where there is no shared memory.
    """

    def __init__(self, ahead: int, lent: int, shape: tuple[int, ...]):
        self._shape, self._ahead, self._count = shape, ahead, ahead + lent
        self._bytes = math.prod(shape)
        self._begin, self._stride = (_aligned(n) for n in (8 * (self._count + 1), self._bytes))
        self._memory = _Memory(create=True, size=self._begin + self._count * self._stride)
        self._free = collections.deque(range(self._count))
        self._copies = Buffers()
        self._named = 0  # batches that a slot was named for
        self._names[:] = -1
        self._name_free()

    def fill(self, batch: int) -> np.ndarray:
        """For its worker: a batch's slot, uint8 of unknown content, once there is one.

        **Raises:** `RuntimeError` after `close`.
        """
        while self._names[batch % self._count] // self._count != batch:
            if not self._names[-1]:
                raise RuntimeError("the loader was closed")
            time.sleep(0.001)
        return np.frombuffer(self._lender(self._slot(batch)), np.uint8).reshape(self._shape)

    def take(self, batch: int) -> np.ndarray:
        """A batch that was filled, as it stays for whoever keeps it.

        They are taken in their order, from 0, each once.
        """
        self._name_free()
        slot = self._slot(batch)
        lender = self._lender(slot)
        image = np.frombuffer(lender, np.uint8).reshape(self._shape)
        if self._named - batch > self._ahead:
            weakref.finalize(lender, self._give_back, slot).atexit = False
            return image
        copy = self._copies.take(self._shape)
        copy[:] = image
        self._give_back(slot)
        self._name_free()
        return copy

    def close(self) -> None:
        """Ends the workers' waiting; the memory goes when the last process has let go of it."""
        self._names[-1] = 0
        self._memory.unlink()

    @property
    def _names(self) -> np.ndarray:
        """Entry i % count is i * count + s once slot s is named for batch i; the last 0: closed."""
        # Made for each use: one that stays would keep the memory open.
        return np.frombuffer(self._buffer, np.int64, self._count + 1)

    @property
    def _buffer(self) -> memoryview:
        assert self._memory.buf is not None  # we never close it
        return self._memory.buf

    def _slot(self, batch: int) -> int:
        return int(self._names[batch % self._count]) % self._count

    def _lender(self, slot: int) -> Any:
        """What all that look into a slot hold on to, as in `Buffers`."""
        begin = self._begin + slot * self._stride
        return (ctypes.c_uint8 * self._bytes).from_buffer(self._buffer, begin)

    def _give_back(self, slot: int) -> None:
        self._free.append(slot)  # at any time, in any thread: so nothing else is done here

    def _name_free(self) -> None:
        while self._free:
            # Batch and slot in one number: a worker may read between any two writes.
            name = self._named * self._count + self._free.popleft()
            self._names[self._named % self._count] = name
            self._named += 1


class _Memory(shared_memory.SharedMemory):
    """Shared memory that may end before what looks into it: the memory then goes with the last."""

    def __del__(self) -> None:
        try:
            super().__del__()
        except BufferError:  # Python gives up before it closes the file, which would keep all of it
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _aligned(size: int) -> int:
    """The next multiple of what arrays have to be aligned by for JAX to look into them on a CPU."""
    return -(-size // ALIGNMENT) * ALIGNMENT
