"""Inputs of the training step: batches streamed to the devices, or a split held in their memory.

Both feeds give the same faces in the same order. `create_feed` chooses by `config.data.cache`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import numpy as np

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.core.batch import Batch, check_batch, split_for_devices, take_rows
from affect_jax.data import decoding, loader, sampling
from affect_jax.data.records import Records
from affect_jax.train.intervals import Intervals

MAX_STEPS_PER_DISPATCH = 10
"""Updates in one dispatch, on devices that would otherwise wait for Python."""

FACES_PER_TRANSFER = 256


class Feed(Protocol):
    """An iterator of inputs for the training step. Close it: it may own threads or processes.

    **Attributes:**

    - `resident`: which form of the step the inputs are for, see `step.create_train_step`.
    - `waited_seconds`: time that the loop has spent waiting for data.
    """

    resident: bool

    @property
    def waited_seconds(self) -> float: ...

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        """The step's arguments after the state, on the devices; how many updates they are for."""
        ...

    def close(self) -> None: ...


def create_feed(
    config: Config,
    records: Records,
    targets: dict[str, np.ndarray],
    rows: sampling.TrainingRows,
    start: int,
    intervals: Intervals,
    say: Callable[[str], Any],
) -> Feed:
    """The feed of a config, from step `start` on.

    **Arguments:**

    - `targets`: of the whole split, from `batch.make_targets`.
    - `say`: prints which cache is used, and why.

    **Raises:** `UserError` if memory is too small for the cache; `ValueError` if the first batch is
    malformed, see `batch.check_batch`.
    """
    cache, why = _agreed_cache(config, len(records))
    if config.data.cache != "none":
        say(why)
    image_size = config.data.image_size
    if cache == "device":
        return ResidentFeed(records, targets, rows, start, intervals, image_size=image_size)
    images: Any = records
    if cache == "host":
        images = loader.decode_all(
            records, image_size=image_size, num_workers=config.data.num_workers
        )
    batches = loader.batches(
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


def _agreed_cache(config: Config, num_faces: int) -> tuple[str, str]:
    """`loader.choose_cache`, with one answer for all processes: the least demanding."""
    order = ("device", "host", "none")
    cache, why = loader.choose_cache(
        config.data.cache, num_faces, config.data.image_size, parallel.free_bytes()
    )
    agreed = order[parallel.process_max(order.index(cache))]
    return agreed, why if agreed == cache else f"cache {agreed}: as another process of the run"


class StreamedFeed:
    """Batches placed on the devices ahead of their step.

    **Arguments:**

    - `batches`: of this process, in order; closed with the feed.
    - `prefetch`: how many wait on the devices.
    """

    resident = False

    def __init__(self, batches: Iterable[Batch], *, prefetch: int):
        self._checked = False
        self._prefetched = loader.Prefetch(batches, self._place, depth=prefetch)

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
    """A whole split as uint8 in the devices' memory, each face on one of them.

    During training only row numbers cross to the devices, for several updates in one dispatch.

    **Arguments:**

    - `targets`: of the whole split; held on every device.
    - `steps_per_dispatch`: updates in one dispatch, unless something of `intervals` is due before;
      None: `MAX_STEPS_PER_DISPATCH`, 1 on CPUs.
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
            first = {"image": decoding.faces(records, rows[start], image_size)}
            check_batch({**first, **take_rows(targets, rows[start])})
        self._targets = parallel.replicate(targets)
        self._faces = faces_on_devices(records, image_size)

    def __next__(self) -> tuple[tuple[Any, ...], int]:
        count = self._intervals.steps_per_dispatch(self._step, self._steps_per_dispatch)
        rows = np.stack([self._rows[self._step + i] for i in range(count)]).astype(np.int32)
        rows = rows if count > 1 else rows[0]
        self._step += count
        return (self._faces, self._targets, parallel.replicate(rows)), count

    def close(self) -> None:
        self._faces = self._targets = None


def faces_on_devices(records: Records, image_size: int) -> jax.Array:
    """Every face of a split, decoded straight into the devices' memory.

    **Returns:** uint8 [D, n, S, S, 3]: row d * n + i of the split is [d, i], d among all processes'
    devices, of which this process holds its own. The last ones are zeros where N is no multiple.
    """
    per_device = -(-len(records) // parallel.num_devices())

    def pieces(device: int) -> Iterable[tuple[int, np.ndarray]]:
        first, stop = device * per_device, min((device + 1) * per_device, len(records))
        mine = sampling.EveryRow(stop, FACES_PER_TRANSFER, first)
        loaded = loader.batches(records, {}, mine, image_size=image_size)
        try:
            for number, batch in enumerate(loaded):
                yield number * FACES_PER_TRANSFER, batch["image"][batch["valid"]]
        finally:
            loaded.close()

    return parallel.fill((per_device, image_size, image_size, 3), pieces)
