"""Inputs of the training step: streamed batches, or a whole split in the devices' memory.

Both feeds yield the same faces in the same order. `create_feed` chooses by `config.data.cache`. A
feed is an iterator; its items are the step's arguments after the state, and the number of updates
that they are for. It must be closed: it may own worker processes. `resident` is the option of
`step.create_train_step`, and `waited_seconds` the total time that the loop has waited for data.
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
    """Creates the feed that a config selects, positioned at step `start`.

    **Arguments:**

    - `records`, `targets`: those of the whole split; for `targets` see `batch.make_targets`.
    - `rows`: which rows of the split each step sees.
    - `log`: prints which cache is used, and why.

    **Raises:** `UserError` if memory is too small for the cache.
    """
    image_size = config.data.image_size
    cache, sizes = loader.choose_cache(
        config.data.cache, len(records), image_size, parallel.free_device_bytes()
    )
    # The process with the least memory decides for all.
    caches = ("device", "host", "none")
    cache = caches[processes.process_max(caches.index(cache))]
    if config.data.cache != "none":
        log(f"cache {cache}: {sizes}")
    if cache == "device":
        return ResidentFeed(records, targets, rows, start, intervals, image_size=image_size)
    images: Any = records
    if cache == "host":
        images = loader.decode_split(
            records, image_size=image_size, num_workers=config.data.num_workers
        )
    batches = loader.load_batches(
        images,
        targets,
        rows,
        image_size=image_size,
        start=start,
        stop=intervals.total,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return StreamedFeed(batches, prefetch=config.data.prefetch)


class StreamedFeed(loader.Prefetcher[Any]):
    """Streams batches to the devices ahead of their step.

    **Arguments:**

    - `batches`: this process's batches in order; the feed closes them.
    - `prefetch`: number of batches that are placed on the devices ahead of time.
    """

    resident = False

    def __init__(self, batches: Iterable[Batch], *, prefetch: int):
        super().__init__(
            batches,
            lambda batch: parallel.shard(split_for_devices(batch, jax.local_device_count())),
            depth=prefetch,
        )

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        return (super().__next__(),), 1


class ResidentFeed:
    """Holds a whole split as uint8 in the devices' memory, each face on one device.

    Training transfers row numbers only, for several updates in one dispatch.

    **Arguments:**

    - `targets`: targets of the whole split; replicated to every device.
    - `intervals`: a dispatch ends where one of its events is due.
    """

    resident = True
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

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        count = self._intervals.steps_per_dispatch(self._step, _max_steps_per_dispatch())
        rows = np.stack([self._rows[self._step + i] for i in range(count)]).astype(np.int32)
        rows = rows if count > 1 else rows[0]
        self._step += count
        return (self._faces, self._targets, parallel.replicate(rows)), count

    def close(self) -> None:
        self._faces = self._targets = None


Feed = StreamedFeed | ResidentFeed


def _max_steps_per_dispatch() -> int:
    return 1 if jax.default_backend() == "cpu" else MAX_STEPS_PER_DISPATCH


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
