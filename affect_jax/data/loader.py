"""From records to uint8 batches: random access, any step first, the same batches however loaded.

One element of the Grain pipeline is one process's share of a global batch: Grain's threads or
worker processes each decode whole batches. An element a face would cost more in Grain's and
Python's bookkeeping than its decoding. Labels never leave the main process: they are taken from
the split's columns, which are read once.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

import grain
import numpy as np
import psutil
from absl import flags

from affect_jax.core.batch import Batch, take_rows
from affect_jax.core.errors import UserError, first_line, for_want_of_memory
from affect_jax.data import batch_buffers, decoding, sampling
from affect_jax.data.worker_processes import end_with_parent, num_cores

T = TypeVar("T")

MAX_BYTES_AHEAD = 1 << 30  # of decoded faces waiting in memory, in each process that decodes
MAX_THREADS = 16  # more only queue for Python's lock: the decoder itself runs without it
BATCHES_LENT = 4  # without a copy, as many as are usually prefetched or in a step; more are copied
PATIENCE_SECONDS = 30.0  # without a batch, after which a worker or the disk counts as hung
SHARE_OF_HOST = 0.5  # of free memory, for `auto`: the rest is the run's and its neighbours'
SHARE_OF_DEVICES = 0.8  # the rest is the network's
_ENDLESS = 1 << 48  # steps of an order without an end; Grain wants a length


class Batches:
    """Iterator over a process's batches, see `batches`. Close it: it owns threads or processes."""

    def __init__(
        self,
        iterator: Any,
        targets: Mapping[str, np.ndarray],
        num_workers: int,
        slots: batch_buffers.Slots | None,
    ):
        self._iterator: Any = iterator
        self._slots = slots
        self._targets, self._num_workers = targets, num_workers
        self._others = set(multiprocessing.active_children())

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        try:
            element = next(self._iterator)
        except Exception as error:
            if for_want_of_memory(error):
                raise UserError(
                    f"data.num_workers = {self._num_workers}: no memory is left to decode faces "
                    f"({first_line(error)}); "
                    + ("take fewer workers, or 0" if self._num_workers else "free some")
                    + "; the run goes on from its last checkpoint"
                ) from error
            if not (self._num_workers and isinstance(error, RuntimeError)):
                raise
            raise UserError(
                f"data.num_workers = {self._num_workers}: {error} Workers are mostly killed for "
                "want of memory: take fewer, or 0; the run goes on from its last checkpoint"
            ) from error
        image = self._slots.take(element["batch"]) if self._slots else element["image"]
        return {**take_rows(self._targets, element["rows"]), "image": image}

    def close(self) -> None:
        """Ends the threads and worker processes; may be called from another thread, and twice."""
        iterator, self._iterator = self._iterator, None
        if iterator is None:
            return
        if self._slots is not None:
            self._slots.close()
        closing = threading.Thread(target=iterator.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_SECONDS / 10)
        if closing.is_alive():  # Grain waits for its workers without end: one hangs
            for process in set(multiprocessing.active_children()) - self._others:
                if process.name.startswith("grain-"):
                    process.kill()
            closing.join(PATIENCE_SECONDS / 10)


def batches(
    images: decoding.Records | np.ndarray,
    targets: Mapping[str, np.ndarray],
    rows: decoding.Rows,
    *,
    image_size: int,
    start: int = 0,
    stop: int | None = None,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """The batches of steps `start` to `stop`, decoded ahead by threads or worker processes.

    The batches are a function of `rows` alone: equal, bit for bit, for any number of workers, for
    records and their decoded copy, and from any start, which costs nothing.

    **Arguments:**

    - `images`: a split's records, or all its faces decoded (`decode_all`), uint8 [N, S, S, 3].
    - `targets`: of the whole split, from `batch.targets`.
    - `rows`: `sampling.TrainingRows`, which never ends, or `sampling.EveryRow`.
    - `image_size`: S, side of the stored faces.
    - `stop`: step after the last; None: where `rows` ends, if it does.
    - `num_workers`: processes that decode; 0: threads of this process, enough up to about eight
      cores. Decoded faces are gathered by threads whatever this says.
    - `process_index`, `process_count`: which contiguous slice of each global batch to load.

    **Returns:**

    Iterator over batches as `affect_jax.core.batch` describes them, B / P faces each.

    **Raises:** `UserError` for a batch that P does not divide; while iterating, for a record that
    cannot be decoded.
    """
    if stop is None:
        stop = len(rows) if isinstance(rows, Sized) else _ENDLESS
    process = (process_index, process_count)
    if start < stop:
        sampling.process_rows(rows[start], *process)  # the error before any process starts
    in_memory = isinstance(images, np.ndarray)
    workers = 0 if in_memory else num_workers
    share = len(rows[start]) // process_count if start < stop else 1
    batch_bytes = share * image_size * image_size * 3
    threads = num_threads(batch_bytes, workers)
    slots = None
    if workers:  # as many as decode at once, and for each worker one that waits to be taken
        slots = _shared(workers, workers * (threads + 1), (share, image_size, image_size, 3))
    source = decoding.Source(images, rows, image_size, range(start, stop), process, slots)
    pipeline = grain.MapDataset.source(source).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    )
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain's workers read its flags
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        sharing = grain.experimental.DatasetOptions(min_shm_size=1 << 62)  # `Slots` is what shares
        pipeline = grain.experimental.WithOptionsIterDataset(pipeline, sharing)
        pipeline = pipeline.mp_prefetch(options, worker_init_fn=_start_worker)
    return Batches(iter(pipeline), targets, workers, slots)


def _start_worker(_index: int, _count: int) -> None:
    end_with_parent()


def num_threads(batch_bytes: int, workers: int) -> int:
    """Decoding threads of each process: one a core, as far as memory goes."""
    wanted = -(-num_cores() // max(1, workers))
    return max(1, min(wanted, MAX_THREADS, MAX_BYTES_AHEAD // batch_bytes))


def _shared(workers: int, ahead: int, shape: tuple[int, ...]) -> batch_buffers.Slots:
    """Memory that workers hand batches over in; without room they would die of a bus error."""
    folder, needed = "/dev/shm", (ahead + BATCHES_LENT) * math.prod(shape)
    if os.path.isdir(folder) and psutil.disk_usage(folder).free < needed:
        raise UserError(
            f"data.num_workers = {workers}: needs {needed >> 20} MiB in {folder}, which has "
            f"{psutil.disk_usage(folder).free >> 20}; use 0 (threads), or docker's --shm-size"
        )
    try:
        return batch_buffers.Slots(ahead, BATCHES_LENT, shape)
    except OSError as error:
        raise UserError(
            f"data.num_workers = {workers}: no shared memory ({error}); use 0 (threads)"
        ) from error


def decode_all(
    records: decoding.Records,
    *,
    image_size: int,
    num_workers: int = 0,
    progress: Callable[[int], Any] = lambda count: None,
) -> np.ndarray:
    """All faces of a split, decoded in parallel: uint8 [N, S, S, 3].

    In memory, not in a file: to decode again takes a minute a core for all of AffectNet, to write
    and read its 56 GB takes longer.

    **Arguments:**

    - `progress`: called with the number of faces done since the last call.
    """
    faces = np.empty((len(records), image_size, image_size, 3), np.uint8)
    rows = sampling.EveryRow(len(records), 256)
    loaded = batches(records, {}, rows, image_size=image_size, num_workers=num_workers)
    done = 0
    try:
        for batch in loaded:
            count = int(batch["valid"].sum())
            faces[done : done + count] = batch["image"][:count]
            done += count
            progress(count)
    finally:
        loaded.close()
    return faces


def choose_cache(
    wanted: str, num_faces: int, image_size: int, device_bytes: int | None
) -> tuple[str, str]:
    """`config.data.cache`, with `auto` decided by the memory that is free now.

    **Arguments:**

    - `wanted`: `none`, `host`, `device` or `auto`.
    - `num_faces`: of the split that would be held.
    - `device_bytes`: free on all devices together; None where they share the host's memory.

    **Returns:**

    `none`, `host` or `device`, and a sentence for the log that says why.

    **Raises:** `UserError` for `host` or `device` where memory is too small.
    """
    needed = num_faces * image_size * image_size * 3
    free = {"host": free_bytes()}
    free["device"] = free["host"] if device_bytes is None else device_bytes
    sizes = f"{needed / 2**30:.1f} GiB of decoded faces; free: " + ", ".join(
        f"{place} {size / 2**30:.1f} GiB" for place, size in free.items()
    )
    if wanted in free and needed > free[wanted]:
        raise UserError(f"data.cache = {wanted!r}: {sizes}; use none or auto")
    if wanted != "auto":
        return wanted, f"cache {wanted}: as configured ({sizes})"
    if device_bytes is not None and needed <= SHARE_OF_DEVICES * free["device"]:
        return "device", f"cache device: {sizes}; at most {SHARE_OF_DEVICES:.0%} is taken"
    if needed <= SHARE_OF_HOST * free["host"]:
        return "host", f"cache host: {sizes}; at most {SHARE_OF_HOST:.0%} is taken"
    return "none", f"cache none: {sizes}; decoded faces do not fit"


def free_bytes() -> int:
    """Memory this process may still take: the machine's, or its container's where that is less."""
    free = psutil.virtual_memory().available
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current") as file:
            used = int(file.read())
    except FileNotFoundError:  # no such group: no such limit
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used))


class Prefetch(Iterator[T]):
    """Takes items from an iterator ahead of their use, in a thread, and places each on the devices.

    **Arguments:**

    - `iterator`: closed with this, if it has a `close`.
    - `place`: called in the thread with each item: `parallel.shard`, for one.
    - `depth`: placed items that wait, 1 or more.
    - `patience`: seconds without an item after which a hung worker is an error.
    """

    def __init__(
        self,
        iterator: Iterable[Any],
        place: Callable[[Any], T],
        depth: int = 2,
        patience: float = PATIENCE_SECONDS,
    ):
        self._iterator, self._place, self._patience = iterator, place, patience
        self._items: queue.Queue = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._ended = False
        self.waited_seconds = 0.0
        """Seconds that `next` has waited for data, in all."""
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._iterator:
                if not self._put((self._place(item), None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:  # handed to the consumer, whatever it is
            self._put((None, error))

    def _put(self, item: tuple) -> bool:
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        begin = time.perf_counter()
        try:
            item, error = self._wait()
        finally:
            self.waited_seconds += time.perf_counter() - begin
        if error is not None:
            self.close()
            raise error
        return item

    def _wait(self) -> tuple[Any, BaseException | None]:
        # In turns of a second: a process stopped by Ctrl-Z wakes up with one turn gone, not all.
        turn = min(1.0, self._patience)
        for _ in range(max(1, round(self._patience / turn))):
            try:
                return self._items.get(timeout=turn)
            except queue.Empty:
                continue
        seconds = f"{self._patience:g} seconds"
        message = (
            f"no batch in {seconds}: a loading worker or the disk hangs; the run can be resumed"
        )
        return None, UserError(message)

    def close(self) -> None:
        """Ends the thread and the iterator; items not yet taken are dropped."""
        self._ended = True
        self._closed.set()
        close = getattr(self._iterator, "close", None)
        if close is not None and not hasattr(self._iterator, "gi_frame"):
            close()  # also wakes the thread up where it waits for a worker
        self._thread.join(timeout=10)
        while not self._items.empty():
            self._items.get_nowait()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
