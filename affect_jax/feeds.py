"""From the order of faces to updates: batches streamed to the devices, or a split that lives there.

Both feeds apply the same step to the same faces in the same order; they differ in where a face
waits for its turn. `create` chooses by `config.data.cache`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from affect_jax import batch as batches
from affect_jax import parallel, steps
from affect_jax.cadence import Cadence
from affect_jax.config import Config
from affect_jax.data import features, loader, sampling
from affect_jax.program import Program
from affect_jax.state import TrainState

STEPS_TOGETHER = 10
"""Updates of one dispatch, on devices that would otherwise wait for Python."""

PIECE = 256  # faces that cross to a device at once


class Feed(Protocol):
    """Where the loop gets its updates from. Close it: it may own threads or processes."""

    @property
    def waited_seconds(self) -> float:
        """Seconds the loop has waited for data, in all."""
        ...

    def update(self, state: TrainState, step: int) -> tuple[TrainState, Any, int]:
        """The next update, or several.

        **Arguments:**

        - `state`: on the devices; donated.
        - `step`: updates done so far; a feed is asked for them in order.

        **Returns:** the next state; the metrics, with a leading axis where they are of several
        updates; how many updates that were.
        """
        ...

    def close(self) -> None: ...


def create(
    config: Config,
    program: Program,
    records: features.Records,
    targets: dict[str, np.ndarray],
    rows: sampling.TrainingRows,
    start: int,
    cadence: Cadence,
    say: Callable[[str], Any],
) -> Feed:
    """The feed that the config asks for, from step `start` on.

    **Arguments:**

    - `targets`: of the whole split, from `batch.targets`.
    - `say`: is told which cache was taken, and why.

    **Raises:** `UserError` where memory is too small for the cache.
    """
    cache, why = _agreed_cache(config, len(records))
    if config.data.cache != "none":
        say(why)
    if cache == "device":
        return Resident(program, records, targets, rows, cadence, image_size=config.data.image_size)
    images: Any = records
    if cache == "host":
        images = loader.decode_all(
            records, image_size=config.data.image_size, num_workers=config.data.num_workers
        )
    loaded = loader.batches(
        images,
        targets,
        rows,
        image_size=config.data.image_size,
        start=start,
        stop=cadence.total,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return Streamed(program, loaded, depth=config.data.prefetch)


def _agreed_cache(config: Config, num_faces: int) -> tuple[str, str]:
    """`loader.choose_cache`, with one answer for all processes: the least demanding."""
    order = ("device", "host", "none")
    cache, why = loader.choose_cache(
        config.data.cache, num_faces, config.data.image_size, parallel.free_bytes()
    )
    agreed = order[parallel.largest(order.index(cache))]
    return agreed, why if agreed == cache else f"cache {agreed}: as another process of the run"


class Streamed:
    """Batches put on the devices ahead of their step.

    **Arguments:**

    - `loaded`: batches of this process, in order; closed with this.
    - `depth`: batches that wait on the devices.
    """

    def __init__(self, program: Program, loaded: Iterable[batches.Batch], *, depth: int):
        devices = jax.local_device_count()
        self._update = parallel.on_devices(functools.partial(steps.train_step, program))
        self._batches = loader.Prefetch(
            loaded, lambda batch: parallel.shard(batches.split(batch, devices)), depth=depth
        )

    @property
    def waited_seconds(self) -> float:
        return self._batches.waited_seconds

    def update(self, state: TrainState, step: int) -> tuple[TrainState, Any, int]:
        return *self._update(state, next(self._batches)), 1

    def close(self) -> None:
        self._batches.close()


class Resident:
    """A whole split as uint8 in the devices' memory, each face on one of them.

    Only the numbers of rows cross to the devices during training, and several updates go out in
    one dispatch.

    **Arguments:**

    - `targets`: of the whole split; held on every device.
    - `together`: updates of one dispatch, between two things that the cadence calls for; None:
      `STEPS_TOGETHER`, 1 on CPUs.
    """

    waited_seconds = 0.0

    def __init__(
        self,
        program: Program,
        records: features.Records,
        targets: dict[str, np.ndarray],
        rows: sampling.TrainingRows,
        cadence: Cadence,
        *,
        image_size: int,
        together: int | None = None,
    ):
        if together is None:
            together = 1 if jax.default_backend() == "cpu" else STEPS_TOGETHER
        self._rows, self._cadence, self._together = rows, cadence, together
        self._targets = parallel.replicate(targets)
        self._faces = faces_on_devices(records, image_size)
        self._update = parallel.on_devices(updates(program), in_axes=(None, 0, None, None))

    def update(self, state: TrainState, step: int) -> tuple[TrainState, Any, int]:
        count = self._cadence.undisturbed(step, self._together)
        rows = np.stack([self._rows[step + i] for i in range(count)]).astype(np.int32)
        rows = rows if count > 1 else rows[0]
        placed = parallel.replicate(rows)
        return *self._update(state, self._faces, self._targets, placed), count

    def close(self) -> None:
        self._faces = self._targets = None


def updates(program: Program) -> Callable[..., tuple[TrainState, Any]]:
    """What a device does for an update, or for several in one dispatch, from faces it holds.

    **Returns:** `(state, faces, targets, rows) -> (state, metrics)`: `faces` and `targets` as of
    `gather`, `rows` int32 [B], or [K, B] for K updates, whose metrics have a leading axis then.
    """

    def all_of(state: TrainState, faces: Any, targets: Any, rows: jax.Array) -> Any:
        def one(state: TrainState, rows: jax.Array) -> Any:
            return steps.train_step(program, state, gather(faces, targets, rows))

        return lax.scan(one, state, rows) if rows.ndim == 2 else one(state, rows)

    return all_of


def faces_on_devices(records: features.Records, image_size: int) -> jax.Array:
    """Every face of a split, decoded straight into the devices' memory.

    **Returns:** uint8 [D, n, S, S, 3]: row d * n + i of the split is [d, i], d among all processes'
    devices, of which this process holds its own. The last ones are zeros where N is no multiple.
    """
    per_device = -(-len(records) // parallel.num_devices())

    def pieces(device: int) -> Iterable[tuple[int, np.ndarray]]:
        first, stop = device * per_device, min((device + 1) * per_device, len(records))
        mine = sampling.EveryRow(stop, PIECE, first)
        loaded = loader.batches(records, {}, mine, image_size=image_size)
        try:
            for number, batch in enumerate(loaded):
                yield number * PIECE, batch["image"][batch["valid"]]
        finally:
            loaded.close()

    return parallel.fill((per_device, image_size, image_size, 3), pieces)


def gather(faces: jax.Array, targets: dict[str, jax.Array], rows: jax.Array) -> dict:
    """Inside a step: this device's share of a batch, its faces fetched from wherever they lie.

    Each device looks up which of the batch's faces it holds, and puts zeros for the others; the
    sum over devices is the batch, and each device keeps its share of it.

    **Arguments:**

    - `faces`: uint8 [n, S, S, 3], this device's.
    - `targets`: of the whole split.
    - `rows`: int32 [B], of the global batch; no padding.

    **Returns:** as `batch.take`, with `image`: [b, ...].
    """
    device, devices = lax.axis_index(steps.AXIS), lax.axis_size(steps.AXIS)
    place = rows - device * len(faces)
    held = (place >= 0) & (place < len(faces))
    found = faces[jnp.where(held, place, 0)]
    found = jnp.where(held[:, None, None, None], found, jnp.uint8(0))
    image = lax.psum_scatter(found, steps.AXIS, tiled=True)
    mine = lax.dynamic_slice_in_dim(rows, device * (len(rows) // devices), len(rows) // devices)
    taken = {name: array[mine] for name, array in targets.items()}
    batch = {"image": image, "index": mine, "valid": jnp.ones(len(mine), bool), **taken}
    return lax.optimization_barrier(batch)  # fused into the step it would change its last bits
