"""The devices of a run: everything that depends on their number, and the machine.

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
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from affect_jax.core.paths import cache_folder

AXIS = "batch"
"""Name of the axis over which steps are mapped: all devices of all processes."""

COMPILATION_CACHE_BYTES = 2 << 30  # maximum size; the least recently used programs are deleted


def enable_compilation_cache() -> None:
    """Caches compiled programs in `~/.cache/affect_jax/compiled`, or under `XDG_CACHE_HOME`.

    `JAX_COMPILATION_CACHE_DIR` sets another folder, `JAX_ENABLE_COMPILATION_CACHE=false` disables
    the cache. Each type of processor has its own subfolder, as machines may share a home but not
    an instruction set.
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


def describe_numerics() -> dict[str, Any]:
    """Describes the settings outside the config that change the bits of a run.

    `threads` are those of XLA on a CPU, which splits sums over them.
    """
    names = ["jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable"]
    names.append("jax_default_matmul_precision")
    settings = {name: getattr(jax.config, name) for name in names}
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    threads = len(affinity(0)) if affinity else os.cpu_count()
    return {"jax": jax.__version__, **settings, "threads": threads}


def replicate(tree: Any) -> Any:
    """Copies a pytree to each of this process's devices."""
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def shard(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Splits a batch over this process's devices: row d of [D, b, ...] goes to device d."""
    return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec(AXIS)))


def parallelize(step: Callable, *, in_axes: tuple[int | None, ...] = (None, 0)) -> Callable:
    """Runs `step(state, batch)` on all devices, with a replicated state, which is donated.

    The step must return the same values on all devices. The result of one device is returned
    without a check; the tests run every step under `vmap(..., out_axes=None)`, which checks it.

    **Arguments:** `in_axes`: one entry per argument: 0 if it is sharded, None if it is replicated.
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
    """Creates a uint8 array [D, *shape], one row per device of this process, piece by piece.

    Neither the host nor a device needs memory for more than the array and one piece.

    **Arguments:** `pieces_of_device`: function from the index of a device (among all processes) to
    the pieces of its row: (first index, uint8 [m, ...]). The rest of the row is zero.
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
