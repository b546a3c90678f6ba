"""Reusable memory for batches: fresh memory is slow, as the kernel zeroes every page.

It takes up to a third of the decoding time of threads. Grain's own shared memory is fresh for each
batch, too: with it, two workers load at 0.6 of the decoder's speed, and with `BatchPool` at 0.86
(faces of 256 pixels per second of processor time).
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

import numpy as np

ALIGNMENT_BYTES = 64
"""Alignment of shared batches, which JAX needs to use an array on a CPU without copying it."""

_FREE, _FILLED, _TAKEN, _CLOSED = range(4)  # status of a slot


class BatchPool:
    """A fixed number of reused buffers ("slots"), which threads or worker processes fill.

    Each worker has slots of its own. It fills one that is free and sends its number. The consumer
    gets a view of the slot, not a copy, and the slot is free again when no array refers to it. A
    consumer may keep batches: it gets a copy if it already refers to `spare` slots of a worker, so
    that `in_flight` slots always remain for the worker.

    **Arguments:**

    - `workers`: number of worker processes, which share the memory; 0: the threads of this process.
    - `in_flight`: batches that a worker prepares at the same time.
    - `spare`: additional slots of each worker, for batches that the consumer keeps.
    - `shape`: shape of a batch.

    **Raises:** `OSError` if shared memory cannot be allocated.
    """

    def __init__(self, workers: int, in_flight: int, spare: int, shape: tuple[int, ...]):
        self._shape, self._spare, self._slots = shape, spare, in_flight + spare  # of a worker
        self._stride = -(-math.prod(shape) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._count = max(1, workers) * self._slots
        size = self._count * (self._stride + 1)
        self._shared = _SharedMemory(create=True, size=size) if workers else None
        self._private = None if workers else np.empty(size, np.uint8)  # asks for huge pages
        self._status()[:] = _FREE

    def acquire_slot(self, worker: int) -> tuple[int, np.ndarray]:
        """Waits for a free slot of a worker; returns its number and a uint8 array (worker side).

        **Raises:** `RuntimeError` after `close`.
        """
        while True:
            with _acquire_lock:
                status = self._status(worker)
                if _CLOSED in status:
                    raise RuntimeError("the loader was closed")
                if len(free := np.flatnonzero(status == _FREE)):
                    status[free[0]] = _FILLED
                    slot = worker * self._slots + int(free[0])
                    return slot, self._view(slot, lambda: None)
            time.sleep(0.001)

    def take_batch(self, slot: int) -> np.ndarray:
        """Returns a filled batch, which stays valid as long as it is referenced (consumer side)."""
        if (self._status(slot // self._slots) == _TAKEN).sum() < self._spare:
            self._status()[slot] = _TAKEN
            return self._view(slot, lambda: self._release(slot))
        copy = self._view(slot, lambda: None).copy()
        self._release(slot)
        return copy

    def close(self) -> None:
        """Unblocks waiting workers; the memory is freed when the last process has released it."""
        self._status()[:] = _CLOSED
        if self._shared:
            self._shared.unlink()

    def _release(self, slot: int) -> None:
        self._status()[slot] = _FREE  # may run at any time in any thread, so it does only this

    def _buffer(self) -> Any:
        return self._shared.buf if self._shared else self._private

    def _status(self, worker: int | None = None) -> np.ndarray:
        """Status of the slots of one or all workers, uint8; it is stored behind the slots."""
        status = np.frombuffer(self._buffer(), np.uint8, self._count, self._count * self._stride)
        return status if worker is None else status.reshape(-1, self._slots)[worker]

    def _view(self, slot: int, release: Callable[[], None]) -> np.ndarray:
        """A uint8 array on a slot; `release` runs when no array refers to it.

        Arrays share memory in many ways (views, JAX arrays on a CPU), but each of them holds a
        reference to the ctypes object that exports the memory, whose finalizer is `release`.
        """
        size, offset = math.prod(self._shape), slot * self._stride
        owner: Any = (ctypes.c_uint8 * size).from_buffer(self._buffer(), offset)
        weakref.finalize(owner, release).atexit = False
        return np.frombuffer(owner, np.uint8).reshape(self._shape)


_acquire_lock = threading.Lock()  # of the threads of one worker, which share its slots


class _SharedMemory(shared_memory.SharedMemory):
    """Shared memory without an explicit end: its last view frees it."""

    _fd: int

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # `close` would fail while there are views
