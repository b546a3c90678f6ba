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
from affect_jax.core import parallel
from affect_jax.core.batch import Batch, check_batch, split_for_devices, take_rows
from affect_jax.data import decoding, loader, sampling
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

    **Raises:** `UserError` if memory is too small for the cache; `ValueError` if the first batch is
    malformed, see `batch.check_batch`.
    """
    order, image_size = ("device", "host", "none"), config.data.image_size
    cache, reason = loader.choose_cache(
        config.data.cache, len(records), image_size, parallel.free_device_bytes()
    )
    agreed = order[parallel.process_max(order.index(cache))]
    if agreed != cache:
        reason = f"cache {agreed}: the process of this run with the least memory decides"
    if config.data.cache != "none":
        log(reason)
    if agreed == "device":
        return ResidentFeed(records, targets, rows, start, intervals, image_size=image_size)
    images: Any = records
    if agreed == "host":
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


class StreamedFeed:
    """Streams batches to the devices ahead of their step.

    **Arguments:**

    - `batches`: this process's batches in order; the feed closes them.
    - `prefetch`: number of batches that are placed on the devices ahead of time.
    """

    resident = False

    def __init__(self, batches: Iterable[Batch], *, prefetch: int):
        self._checked = False
        self._prefetched = loader.Prefetcher(batches, self._place, depth=prefetch)

    def _place(self, batch: Batch) -> dict[str, jax.Array]:
        if not self._checked:
            check_batch(batch)
            self._checked = True
        return parallel.shard(split_for_devices(batch, jax.local_device_count()))

    @property
    def waited_seconds(self) -> float:
        return self._prefetched.waited_seconds

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        return (next(self._prefetched),), 1

    def close(self) -> None:
        self._prefetched.close()


class ResidentFeed:
    """Holds a whole split as uint8 in the devices' memory, each face on one device.

    Training transfers row numbers only, for several updates in one dispatch.

    **Arguments:**

    - `targets`: targets of the whole split; replicated to every device.
    - `steps_per_dispatch`: updates in one dispatch if no event of `intervals` is due earlier; None:
      `MAX_STEPS_PER_DISPATCH`, or 1 on CPUs.
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
        steps_per_dispatch: int | None = None,
    ):
        if steps_per_dispatch is None:
            on_cpu = jax.default_backend() == "cpu"
            steps_per_dispatch = 1 if on_cpu else MAX_STEPS_PER_DISPATCH
        self._rows, self._step, self._intervals = rows, start, intervals
        self._steps_per_dispatch = steps_per_dispatch
        if start < intervals.total:
            first = {"image": decoding.decode_faces(records, rows[start], image_size)}
            check_batch({**first, **take_rows(targets, rows[start])})
        self._targets = parallel.replicate(targets)
        self._faces = load_faces_on_devices(records, image_size)

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        count = self._intervals.steps_per_dispatch(self._step, self._steps_per_dispatch)
        rows = np.stack([self._rows[self._step + i] for i in range(count)]).astype(np.int32)
        rows = rows if count > 1 else rows[0]
        self._step += count
        return (self._faces, self._targets, parallel.replicate(rows)), count

    def close(self) -> None:
        self._faces = self._targets = None


Feed = StreamedFeed | ResidentFeed


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
