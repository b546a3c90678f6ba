"""Data loader: records to uint8 batches, from any step; the batches do not depend on the workers.

An element of the Grain pipeline is one process's share of a global batch: each thread or worker
process of Grain decodes whole batches. With one element per face, the overhead of Grain and Python
would exceed the decoding. Labels stay in the main process: they come from the split's columns,
which are read once.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import grain
import numpy as np
import psutil
from absl import flags

from affect_jax.core.batch import Batch, take_rows
from affect_jax.core.errors import UserError, first_line
from affect_jax.data import batch_buffers, decoding, sampling
from affect_jax.data.worker_processes import exit_with_parent, num_cores

if TYPE_CHECKING:
    from affect_jax.data.record_reader import Records

T = TypeVar("T")

MAX_PREFETCH_BYTES = 1 << 30  # of decoded faces in memory, in each process that decodes
MAX_THREADS = 16  # more threads only wait for Python's lock, which the decoder itself releases
SPARE_BATCHES = 4  # held without a copy: the usual number prefetched or in a step; more are copied
TIMEOUT_SECONDS = 30  # without a batch; then a worker or the disk counts as hung
HOST_MEMORY_FRACTION = 0.5  # of free memory, for `auto`; the rest is for other uses
DEVICE_MEMORY_FRACTION = 0.8  # the rest is for the network
_UNBOUNDED_STEPS = 1 << 48  # length of an unbounded source; Grain needs a length


class BatchIterator(Iterator[Batch]):
    """Iterator over a process's batches, see `load_batches`; `close` ends threads and workers."""

    def __init__(
        self,
        iterator: Any,
        targets: Mapping[str, np.ndarray],
        num_workers: int,
        pool: batch_buffers.BatchPool,
    ):
        self._iterator, self._pool = iterator, pool
        self._targets, self._num_workers = targets, num_workers

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        try:
            element = next(self._iterator)
        except RuntimeError as error:
            if not self._num_workers:
                raise
            raise UserError(
                f"data.num_workers = {self._num_workers}: {first_line(error)}; workers are usually "
                "killed because memory is short: use fewer, or 0, and rerun the same command to "
                "resume from the last checkpoint"
            ) from error
        image = self._pool.take_batch(element["slot"])
        return {**take_rows(self._targets, element["rows"]), "image": image}

    def close(self) -> None:
        """Ends the threads and worker processes; may be called twice, and from any thread."""
        iterator, self._iterator = self._iterator, None
        if iterator is None:
            return
        self._pool.close()
        closing = threading.Thread(target=iterator.close, daemon=True)
        closing.start()
        closing.join(TIMEOUT_SECONDS / 10)
        if closing.is_alive():  # a worker hangs, and Grain would wait for it much longer
            for process in multiprocessing.active_children():
                if process.name.startswith("grain-"):
                    process.kill()
            closing.join(TIMEOUT_SECONDS / 10)


def load_batches(
    images: Records | np.ndarray,
    targets: Mapping[str, np.ndarray],
    rows: sampling.Rows,
    *,
    image_size: int,
    start: int = 0,
    stop: int | None = None,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """Loads the batches of steps `start` to `stop`, prefetched by threads or worker processes.

    The batches depend on `rows` only: they are bit-identical for any number of workers, for records
    and for decoded faces, and from any start. Starting at a later step costs nothing.

    **Arguments:**

    - `images`: a split's records, or all its faces decoded (`decode_split`), uint8 [N, S, S, 3].
    - `targets`: targets of the whole split, from `batch.make_targets`.
    - `rows`: `sampling.TrainingRows`, which is unbounded, or `sampling.SequentialRows`.
    - `image_size`: S, side of the stored faces in pixels.
    - `stop`: the step after the last; None: the end of `rows`, if it has one.
    - `num_workers`: processes that decode; 0: threads of this process, sufficient up to about eight
      cores. Decoded faces are always gathered by threads.
    - `process_index`, `process_count`: which contiguous slice of each global batch to load.

    **Returns:** iterator over batches as described in `affect_jax.core.batch`, B / P faces each.

    **Raises:** `UserError` during iteration if a record cannot be decoded.
    """
    if stop is None:
        is_bounded = isinstance(rows, sampling.SequentialRows)
        stop = len(rows) if is_bounded else _UNBOUNDED_STEPS
    process = (process_index, process_count)
    share = len(sampling.select_process_rows(rows[start], *process)) if start < stop else 1
    shape = (share, image_size, image_size, 3)
    workers = 0 if isinstance(images, np.ndarray) else num_workers
    threads = num_threads(math.prod(shape), workers)
    pool = _create_pool(workers, threads, shape)
    source = decoding.BatchSource(images, rows, range(start, stop), process, pool)
    pipeline = grain.MapDataset.source(source).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    )
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        # Grain's own shared memory is off: `BatchPool` replaces it.
        no_sharing = grain.experimental.DatasetOptions(min_shm_size=1 << 62)
        pipeline = grain.experimental.WithOptionsIterDataset(pipeline, no_sharing)
        pipeline = pipeline.mp_prefetch(options, worker_init_fn=_start_worker)
    return BatchIterator(iter(pipeline), targets, workers, pool)


def _start_worker(index: int, _count: int) -> None:
    decoding.worker_index = index
    exit_with_parent()


def num_threads(batch_bytes: int, workers: int) -> int:
    """Decoding threads of each process: one per core, limited by memory."""
    threads_per_process = -(-num_cores() // max(1, workers))
    return max(1, min(threads_per_process, MAX_THREADS, MAX_PREFETCH_BYTES // batch_bytes))


def _create_pool(workers: int, threads: int, shape: tuple[int, ...]) -> batch_buffers.BatchPool:
    """Creates the memory for batches; checks its size, to prevent bus errors in workers."""
    in_flight = threads + 2  # one batch of each thread, one in Grain's queue and one before it
    spare = -(-SPARE_BATCHES // max(1, workers))
    folder, needed_bytes = "/dev/shm", workers * (in_flight + spare) * math.prod(shape)
    try:
        if os.path.isdir(folder) and psutil.disk_usage(folder).free < needed_bytes:
            raise OSError(f"{needed_bytes >> 20} MiB are needed in {folder}")
        return batch_buffers.BatchPool(workers, in_flight, spare, shape)
    except OSError as error:
        raise UserError(
            f"data.num_workers = {workers}: too little shared memory ({error}); use 0 (threads), "
            "or docker's --shm-size"
        ) from error


def decode_split(records: Records, *, image_size: int, num_workers: int = 0) -> np.ndarray:
    """Decodes all faces of a split in parallel: uint8 [N, S, S, 3]."""
    faces = np.empty((len(records), image_size, image_size, 3), np.uint8)
    rows = sampling.SequentialRows(len(records), 256)
    batches = load_batches(records, {}, rows, image_size=image_size, num_workers=num_workers)
    with contextlib.closing(batches):
        for batch in batches:
            first, count = batch["index"][0], batch["valid"].sum()
            faces[first : first + count] = batch["image"][:count]
    return faces


def choose_cache(
    cache: str, num_faces: int, image_size: int, device_bytes: int | None
) -> tuple[str, str]:
    """Resolves `config.data.cache`: chooses a cache for `auto` by the memory that is free now.

    **Arguments:**

    - `cache`: `none`, `host`, `device` or `auto`.
    - `num_faces`: faces of the split to cache.
    - `device_bytes`: free memory of all devices together; None if they share the host's memory.

    **Returns:** `none`, `host` or `device`, and the needed and the free memory, for the log.

    **Raises:** `UserError` if memory is too small for `host` or `device`.
    """
    needed_bytes = num_faces * image_size * image_size * 3
    host_bytes = available_bytes()
    free = {"device": host_bytes if device_bytes is None else device_bytes, "host": host_bytes}
    sizes = f"{needed_bytes / 2**30:.1f} GiB of decoded faces; free: " + ", ".join(
        f"{memory} {size / 2**30:.1f} GiB" for memory, size in free.items()
    )
    if cache in free and needed_bytes > free[cache]:
        raise UserError(f"data.cache = {cache!r}: {sizes}; use none or auto")
    if cache == "auto":
        if needed_bytes <= DEVICE_MEMORY_FRACTION * (device_bytes or 0):
            cache = "device"
        else:
            cache = "host" if needed_bytes <= HOST_MEMORY_FRACTION * host_bytes else "none"
    return cache, sizes


def available_bytes() -> int:
    """Memory that this process can still allocate: the smaller limit of machine and container."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no control group, or no limit: "max"
        limit = int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(pathlib.Path("/sys/fs/cgroup/memory.current").read_text())
        free = max(0, min(free, limit - used))
    return free


class Prefetcher(Iterator[T]):
    """Prefetches up to `depth` items of an iterator in a thread, each passed through `to_devices`.

    `close` also closes the iterator if it is a `BatchIterator`.
    """

    def __init__(self, iterator: Iterable[Any], to_devices: Callable[[Any], T], depth: int = 2):
        self._iterator, self._to_devices = iterator, to_devices
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._closed = False
        self.waited_seconds = 0.0
        """Total seconds that `next` has waited for data."""
        # Not of a `ThreadPoolExecutor`, for which Python waits at exit even if it hangs.
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException = StopIteration()
        try:
            for item in self._iterator:
                self._queue.put((self._to_devices(item), None))
                if self._closed:
                    return
        except BaseException as raised:  # raised in the consumer, whatever it is
            error = raised
        self._queue.put((None, error))

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        begin = time.perf_counter()
        item: Any = None
        error: BaseException | None = UserError(
            f"no batch in {TIMEOUT_SECONDS} seconds: a data loader worker or the disk hangs; rerun"
            " the same command to resume"
        )
        for _ in range(TIMEOUT_SECONDS):  # a pause (Ctrl-Z, `fg`) counts as one second at most
            with contextlib.suppress(queue.Empty):
                item, error = self._queue.get(timeout=1)
                break
        self.waited_seconds += time.perf_counter() - begin
        if error is not None:
            self.close()
            raise error
        return item

    def close(self) -> None:
        """Ends the thread and closes the iterator; drops items that were not consumed."""
        self._closed = True
        if isinstance(self._iterator, BatchIterator):
            self._iterator.close()  # also unblocks the thread if it waits for a worker
        deadline = time.monotonic() + 10
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=0.01)  # the thread may wait for a free place
