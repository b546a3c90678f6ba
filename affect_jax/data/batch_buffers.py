"""Reusable memory for batches: allocating fresh memory is slow, as the kernel zeroes every page."""

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

ALIGNMENT_BYTES = 64


class BufferPool:
    """A pool of equal buffers; a buffer is reused when no array refers to it.

    Allocating fresh memory takes up to a third of the decoding time. Arrays share memory in many
    ways (views, JAX arrays on a CPU), but each of them holds a reference to the ctypes object that
    exports the buffer. The finalizer of that object returns the buffer to the pool.
    """

    def __init__(self):
        self._free: collections.deque[Any] = collections.deque()  # flat arrays

    def acquire(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a uint8 array of undefined content. All calls must ask for the same size."""
        buffer: Any
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(int(np.prod(shape)), np.uint8)
        owner: Any = (ctypes.c_uint8 * buffer.size).from_buffer(buffer)
        weakref.finalize(owner, self._free.append, buffer).atexit = False
        return np.frombuffer(owner, np.uint8).reshape(shape)


class SharedBatchPool:
    """A fixed pool of shared buffers that workers fill.

    A buffer is reused when no array refers to it. Allocating fresh shared memory takes as long as
    the decoding, because each process maps it again. The pool therefore has a fixed number of
    buffers ("slots") and assigns each slot to one batch after another. A worker waits until a slot
    is assigned to its batch. `take_batch` returns a view of the slot, not a copy. The consumer may
    keep batches: if fewer than `in_flight` slots would remain for the workers, `take_batch` copies
    the batch and frees the slot.

    **Arguments:**

    - `in_flight`: batches that the workers prepare at the same time; always available to them.
    - `spare`: additional slots, for batches that the consumer keeps.
    - `shape`: shape of a batch.

    **Raises:** `OSError` if shared memory cannot be allocated.
    """

    def __init__(self, in_flight: int, spare: int, shape: tuple[int, ...]):
        self._shape, self._in_flight, self._count = shape, in_flight, in_flight + spare
        self._bytes = math.prod(shape)
        self._offset, self._stride = (_round_up(n) for n in (8 * (self._count + 1), self._bytes))
        self._memory = _SharedMemory(create=True, size=self._offset + self._count * self._stride)
        self._free = collections.deque(range(self._count))
        self._copies = BufferPool()
        self._num_assigned = 0  # batches that were assigned a slot so far
        self._assignments[:] = -1
        self._assign_free_slots()

    def acquire_slot(self, batch: int) -> np.ndarray:
        """Waits for the slot of a batch and returns it, uint8 of undefined content (worker side).

        **Raises:** `RuntimeError` after `close`.
        """
        while self._assignments[batch % self._count] // self._count != batch:
            if not self._assignments[-1]:
                raise RuntimeError("the loader was closed")
            time.sleep(0.001)
        return np.frombuffer(self._slot_owner(self._slot(batch)), np.uint8).reshape(self._shape)

    def take_batch(self, batch: int) -> np.ndarray:
        """Returns a filled batch, which stays valid as long as it is referenced (consumer side).

        Batches must be taken in order, from 0, each once.
        """
        self._assign_free_slots()
        slot = self._slot(batch)
        owner = self._slot_owner(slot)
        images = np.frombuffer(owner, np.uint8).reshape(self._shape)
        if self._num_assigned - batch > self._in_flight:
            weakref.finalize(owner, self._release, slot).atexit = False
            return images
        copy = self._copies.acquire(self._shape)
        copy[:] = images
        self._release(slot)
        self._assign_free_slots()
        return copy

    def close(self) -> None:
        """Unblocks waiting workers; the memory is freed when the last process has released it."""
        self._assignments[-1] = 0
        self._memory.unlink()

    @property
    def _assignments(self) -> np.ndarray:
        """Entry i % count is i * count + s if slot s is for batch i; the last is 0 if closed."""
        # Created at each use: a stored view would keep the memory open.
        return np.frombuffer(self._buffer, np.int64, self._count + 1)

    @property
    def _buffer(self) -> memoryview:
        assert self._memory.buf is not None  # this class never closes it
        return self._memory.buf

    def _slot(self, batch: int) -> int:
        return int(self._assignments[batch % self._count]) % self._count

    def _slot_owner(self, slot: int) -> Any:
        """The ctypes object that all views of a slot refer to, as in `BufferPool`."""
        offset = self._offset + slot * self._stride
        return (ctypes.c_uint8 * self._bytes).from_buffer(self._buffer, offset)

    def _release(self, slot: int) -> None:
        self._free.append(slot)  # may run at any time in any thread, so it does only this

    def _assign_free_slots(self) -> None:
        while self._free:
            # One number encodes batch and slot, since a worker may read between any two writes.
            assignment = self._num_assigned * self._count + self._free.popleft()
            self._assignments[self._num_assigned % self._count] = assignment
            self._num_assigned += 1


class _SharedMemory(shared_memory.SharedMemory):
    """Shared memory that may be deleted before its views; the last view then frees the memory."""

    def __del__(self) -> None:
        try:
            super().__del__()
        except BufferError:  # Python stops before it closes the file, which would leak the memory
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _round_up(size: int) -> int:
    """Rounds up to the alignment that JAX needs to use an array on a CPU without copying it."""
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
