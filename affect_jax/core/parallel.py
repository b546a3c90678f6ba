"""Devices and processes: everything that depends on their number.

`jax.pmap` is in maintenance mode; only `parallelize` and `parallelize_per_device` use it. To
replace it: `jax.jit(jax.shard_map(step, mesh=mesh(), in_specs=(P(), P(AXIS)), out_specs=P()))`.
The steps use only the axis name and do not change.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import platform
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import cache_folder

AXIS = "batch"
"""Name of the axis over which steps are mapped: all devices of all processes."""

COMPILATION_CACHE_BYTES = 2 << 30  # maximum size; the least recently used programs are deleted
HEARTBEAT_TIMEOUT_SECONDS = 30  # a process that is silent for longer counts as lost

PROCESS_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""`host:port` of process 0, the number of processes, and the index of this process."""


def initialize() -> None:
    """Connects the processes of a run, if environment variables configure several.

    Either the three `PROCESS_VARIABLES` are set, or `AFFECT_JAX_CLUSTER=auto` on a cluster that JAX
    detects (TPU pods, SLURM, Open MPI). Call it before any other function of JAX.

    **Raises:** `UserError` if the variables are wrong or the processes cannot connect.
    """
    variables = [name for name in PROCESS_VARIABLES if name in os.environ]
    options: dict[str, Any] = {}
    if variables:
        try:
            address, count, index = (os.environ[name] for name in PROCESS_VARIABLES)
            options = {"num_processes": int(count), "process_id": int(index)}
        except (KeyError, ValueError):
            raise UserError(
                f"{', '.join(variables)} is set: set all of {', '.join(PROCESS_VARIABLES)} "
                "(host:port of process 0, number of processes, index of this process), or none"
            ) from None
        options["coordinator_address"] = address
    elif "AFFECT_JAX_CLUSTER" not in os.environ:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # used by CPUs only
    jax.config.update("jax_enable_preemption_service", True)  # handles SIGTERM from here on
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS, **options)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes of the run cannot connect to each other: {first_line(error)}"
        ) from error


def enable_compilation_cache() -> None:
    """Caches compiled programs in the user's cache folder, so that later starts are faster.

    The folder is `~/.cache/affect_jax/compiled`, or under `XDG_CACHE_HOME`, and has at most
    `COMPILATION_CACHE_BYTES`. `JAX_COMPILATION_CACHE_DIR` sets another folder,
    `JAX_ENABLE_COMPILATION_CACHE=false` disables the cache. Each type of processor has its own
    subfolder, as machines may share a home but not an instruction set.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    processor = hashlib.sha256(_processor_flags().encode()).hexdigest()[:8]
    folder = cache_folder("compiled") / f"{platform.machine()}-{processor}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # without a writable home, each start compiles
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", COMPILATION_CACHE_BYTES)


def _processor_flags() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().lower().splitlines() if path.exists() else []
    return next((line for line in lines if line.startswith(("flags", "features"))), "")


def is_multiprocess() -> bool:
    """Whether the run has more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def broadcast_from_main(tree: Any) -> Any:
    """Returns the main process's pytree, as NumPy arrays, in every process."""
    if not is_multiprocess():
        return tree
    return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree))


def process_max(value: int) -> int:
    """Returns the maximum over all processes. All must call it; it waits for the devices."""
    if not is_multiprocess():
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


@functools.cache
def mesh() -> Mesh:
    """Returns a one-dimensional mesh of this process's devices."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def describe_machine() -> dict[str, Any]:
    """Describes the devices of all processes, and the cores, memory and system of this machine."""
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def is_main() -> bool:
    """Whether this is the process that writes logs and files: process 0."""
    return jax.process_index() == 0


def replicate(tree: Any) -> Any:
    """Copies a pytree to each of this process's devices."""
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def shard(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Splits a batch over this process's devices: row d of [D, b, ...] goes to device d."""
    return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec(AXIS)))


def parallelize(step: Callable, *, in_axes: tuple[int | None, ...] = (None, 0)) -> Callable:
    """Runs `step(state, batch)` on all devices, with a replicated state and a sharded batch.

    The memory of the state is reused for the result. The step must return the same values on all
    devices. The result of one device is returned without a check; the tests run every step under
    `vmap(..., out_axes=None)`, which checks it.

    **Arguments:**

    - `in_axes`: one entry per argument: 0 if it is sharded, None if it is replicated.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=in_axes, out_axes=None, donate_argnums=0)


def parallelize_per_device(step: Callable) -> Callable:
    """Runs `step(variables, batch)` on all devices; results have a device axis: [D, b, ...]."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0))


def free_device_bytes() -> int | None:
    """Returns the smallest free memory of a local device times their number; None on CPUs."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if not all("bytes_limit" in memory for memory in stats):
        return None
    free = min(memory["bytes_limit"] - memory["bytes_in_use"] for memory in stats)
    return free * jax.device_count()


def create_device_array(
    shape: tuple[int, ...], pieces_of_device: Callable[[int], Iterable[tuple[int, np.ndarray]]]
) -> Any:
    """Creates an array [D, *shape], one row per device of this process, piece by piece.

    Each piece is transferred once and written in place, so neither the host nor a device needs
    memory for more than the array and one piece.

    **Arguments:**

    - `shape`: shape of one device's row.
    - `pieces_of_device`: function from the index of a device (among all processes) to the pieces of
      its row: (first index, uint8 [m, ...]). The rest of the row is zero.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def write_piece(row: jax.Array, piece: jax.Array, first: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(row, piece, first, axis=1)

    rows = []
    for device in jax.local_devices():
        sharding = SingleDeviceSharding(device)
        row = jnp.zeros((1, *shape), jnp.uint8, device=sharding)
        for first, piece in pieces_of_device(jax.devices().index(device)):
            row = write_piece(row, *jax.device_put((piece[None], first), sharding))
        rows.append(row)
    return jax.make_array_from_single_device_arrays(
        (len(rows), *shape), NamedSharding(mesh(), PartitionSpec(AXIS)), rows
    )
