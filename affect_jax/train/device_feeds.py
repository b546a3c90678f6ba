"""Inputs of the training step: streamed batches, or a whole split in the devices' memory.

Both feeds yield the same faces in the same order. A feed is an iterator; its items are the step's
arguments after the state, and the number of updates that they are for. It must be closed: it may
own worker processes. `waited_seconds` is the total time that the loop has waited for data.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from affect_jax.config import Config
from affect_jax.core import parallel, processes
from affect_jax.core.batch import Batch, split_for_devices
from affect_jax.data import loader, sampling
from affect_jax.data.record_reader import Records
from affect_jax.train.step_intervals import Intervals

MAX_STEPS_PER_DISPATCH = 10
"""Updates in one dispatch on GPUs and TPUs, which would otherwise wait for Python."""

FACES_PER_TRANSFER = 256


def create_feed(
    config: Config,
    records: Records,
    targets: dict[str, np.ndarray],
    rows: sampling.TrainingRows,
    start: int,
    intervals: Intervals,
    log: Callable[[str], Any],
) -> Feed:
    """Creates the feed that `config.data.cache` selects, positioned at step `start`.

    **Arguments:** `targets`: of the whole split, see `batch.make_targets`; `rows`: which rows of
    the split each step sees; `log`: prints which cache is used, and why.

    **Raises:** `UserError` if memory is too small for the cache.
    """
    size, num_workers = config.data.image_size, config.data.num_workers
    cache, memory = loader.choose_cache(
        config.data.cache, len(records), size, parallel.free_device_bytes()
    )
    # The process with the least memory decides for all.
    caches = ("device", "host", "none")
    cache = caches[processes.process_max(caches.index(cache))]
    if config.data.cache != "none":
        log(f"cache {cache}: {memory}")
    if cache == "device":
        return ResidentFeed(records, targets, rows, start, intervals, image_size=size)
    images: Any = records
    if cache == "host":
        images = loader.decode_split(records, image_size=size, num_workers=num_workers)
    batches = loader.load_batches(
        images,
        targets,
        rows,
        image_size=size,
        start=start,
        stop=intervals.total,
        num_workers=num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return stream(batches, prefetch=config.data.prefetch)


def stream(batches: Iterable[Batch], *, prefetch: int) -> loader.Prefetcher[Any]:
    """Creates a feed that places `prefetch` batches on the devices ahead of their step.

    **Arguments:** `batches`: this process's batches in order; the feed closes them.
    """

    def to_inputs(batch: Batch) -> tuple[tuple[Any, ...], int]:
        return (parallel.shard(split_for_devices(batch, jax.local_device_count())),), 1

    return loader.Prefetcher(batches, to_inputs, depth=prefetch)


class ResidentFeed:
    """Holds a whole split as uint8 in the devices' memory, each face on one device.

    Training transfers row numbers only, for several updates in one dispatch, see
    `step.resident_train_step`.

    **Arguments:** `intervals`: a dispatch ends where one of its events is due.
    """

    waited_seconds = 0.0

    def __init__(
        self,
        records: Records,
        targets: dict[str, np.ndarray],
        rows: sampling.TrainingRows,
        start: int,
        intervals: Intervals,
        *,
        image_size: int,
    ):
        self._rows, self._step, self._intervals = rows, start, intervals
        self._targets = parallel.replicate(targets)
        self._faces = load_faces_on_devices(records, image_size)
        self._max_steps = 1 if jax.default_backend() == "cpu" else MAX_STEPS_PER_DISPATCH

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        count = self._intervals.steps_per_dispatch(self._step, self._max_steps)
        rows = np.stack([self._rows[self._step + i] for i in range(count)]).astype(np.int32)
        self._step += count
        rows = parallel.replicate(rows if count > 1 else rows[0])
        return (self._faces, self._targets, rows), count

    def close(self) -> None:
        self._faces = self._targets = None


Feed = loader.Prefetcher[Any] | ResidentFeed


def load_faces_on_devices(records: Records, image_size: int) -> jax.Array:
    """Decodes every face of a split into the devices' memory.

    **Returns:** uint8 [D, n, S, S, 3] for the D devices of all processes: [d, i] is row d * n + i
    of the split. Each process holds the part of its devices. Zeros fill the last rows if the number
    of faces is not a multiple of D.
    """
    per_device = -(-len(records) // jax.device_count())

    def load_pieces(device: int) -> Iterable[tuple[int, np.ndarray]]:
        first, stop = device * per_device, min((device + 1) * per_device, len(records))
        rows = sampling.SequentialRows(stop, FACES_PER_TRANSFER, first)
        batches = loader.load_batches(records, {}, rows, image_size=image_size)
        with contextlib.closing(batches):
            for i, batch in enumerate(batches):
                yield i * FACES_PER_TRANSFER, batch["image"][batch["valid"]]

    return parallel.create_device_array((per_device, image_size, image_size, 3), load_pieces)
