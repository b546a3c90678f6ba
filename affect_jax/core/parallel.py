"""Devices and processes: the only room that knows how many there are.

`jax.pmap` is in maintenance mode; `on_devices` is the whole of its use here. To leave it:
`jax.jit(jax.shard_map(step, mesh=mesh(), in_specs=(P(), P(AXIS)), out_specs=P()))`; the steps,
which know only the axis name, stay as they are.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from affect_jax.core.errors import UserError
from affect_jax.core.paths import cache_folder

AXIS = "batch"
"""Name of the axis over which steps are mapped: over all devices of all processes."""

CACHE_BYTES = 2 << 30  # of compiled steps; those used longest ago go first
SECONDS_TO_MISS = 30  # without a sign of life, after which a process counts as lost to the others

ENVIRONMENT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""`host:port` of process 0, the number of processes, and which of them this is."""


def initialize() -> None:
    """Joins the processes of a run, where the environment says that there are several.

    It says so by the three variables of `ENVIRONMENT`, or by `AFFECT_JAX_CLUSTER=auto` on a cluster
    that JAX recognises (TPU pods, SLURM, Open MPI). Call it before anything else of JAX's.

    **Raises:** `UserError` where the variables are wrong or the others are not to be found.
    """
    given = [name for name in ENVIRONMENT if name in os.environ]
    options: dict[str, Any] = {}
    if given:
        try:
            address, count, index = (os.environ[name] for name in ENVIRONMENT)
            options = {"num_processes": int(count), "process_id": int(index)}
        except (KeyError, ValueError):
            raise UserError(
                f"{', '.join(given)} is set: set all of {', '.join(ENVIRONMENT)}, to host:port of "
                "process 0, a number and a number; or none"
            ) from None
        options["coordinator_address"] = address
    elif "AFFECT_JAX_CLUSTER" not in os.environ:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # only CPUs ask for it
    jax.config.update("jax_enable_preemption_service", True)  # `agreed_to_stop` needs it
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=SECONDS_TO_MISS, **options)
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"the processes of the run do not find one another: {line}") from error
    _take_signals()


def remember_compilations() -> None:
    """Keeps what XLA compiles in the user's cache folder, so that the next start need not.

    `~/.cache/affect_jax/compiled`, or under `XDG_CACHE_HOME`, at most `CACHE_BYTES`;
    `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=false` takes
    none. Machines that share a home do not share instructions that one of them lacks.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:8]
    folder = cache_folder("compiled") / f"{platform.machine()}-{processor}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home to write to: each start compiles
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)


def _processor() -> str:
    """What the processor can do: its flags, where the system tells them."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def is_multiprocess() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def broadcast_from_main(tree: Any) -> Any:
    """Process 0's pytree of arrays, as NumPy arrays, in every process."""
    if not is_multiprocess():
        return tree
    return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree))


def process_max(value: int) -> int:
    """The largest of all processes' values; every process must ask. Waits for the devices."""
    if not is_multiprocess():
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def announce() -> None:
    """Tells all processes that this one was told to end; `agreed_to_stop` is their answer."""
    if is_multiprocess() and _theirs:
        ctypes.CFUNCTYPE(None, ctypes.c_int)(_theirs[0])(signal.SIGTERM)


_theirs: list[int] = []  # where JAX's handler of SIGTERM begins


def _take_signals() -> None:
    """Puts JAX's handler of SIGTERM, by which it counts a preemption, out of its place.

    It would swallow the signal, also where nobody asks it. Until a run takes signals the process
    ends with one, as one process does; then `announce` calls it.
    """
    system = ctypes.CDLL(None)  # Python's `signal` knows only handlers in Python
    system.signal.argtypes, system.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    theirs = system.signal(signal.SIGTERM, None)
    if theirs:
        _theirs[:] = [theirs]


def agreed_to_stop(updates: int) -> bool:
    """Whether a process announced that it is to end, and all have come as far as this one.

    Every process must ask after each update, with the number of updates since it began. The
    devices are not waited for: the processes agree by JAX's coordination service, on the update
    after the furthest one's, within a second or two.
    """
    return multihost_utils.reached_preemption_sync_point(updates)


def leave(code: int) -> None:
    """Ends this process at once where others run: at a usual end they would be waited for."""
    if is_multiprocess():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@functools.cache
def mesh() -> Mesh:
    """This process's devices, in a row."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def num_devices() -> int:
    """Devices of all processes."""
    return jax.device_count()


def machine() -> dict[str, Any]:
    """What computes: of all processes the devices, of this one's machine the rest."""
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def is_main() -> bool:
    """True in the one process that writes logs and files."""
    return jax.process_index() == 0


def replicate(tree: Any) -> Any:
    """Puts a pytree, whole, on each of this process's devices."""
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def shard(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts a batch on this process's devices: row d of [D, b, ...] on device d."""
    return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec(AXIS)))


def on_devices(
    step: Callable, *, in_axes: tuple[int | None, ...] = (None, 0), donate_state: bool = True
) -> Callable:
    """`step(state, batch)` on every device: state whole on each, batch split along its first axis.

    The step must return the same values on all devices: those of one are kept, unchecked. The
    tests run every step under `vmap(..., out_axes=None)`, which does check.

    **Arguments:**

    - `in_axes`: of each argument: 0 where it is split, None where it is whole on each device.
    """
    donated = 0 if donate_state else ()
    return jax.pmap(step, axis_name=AXIS, in_axes=in_axes, out_axes=None, donate_argnums=donated)


def map_devices(step: Callable) -> Callable:
    """`step(variables, batch)` on every device; results keep the devices' axis: [D, b, ...]."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0))


def free_bytes() -> int | None:
    """Memory that is free on all devices together; None on CPUs, whose memory is the machine's."""
    free = []
    for device in jax.local_devices():
        stats = device.memory_stats()
        if not stats or "bytes_limit" not in stats:
            return None
        free.append(stats["bytes_limit"] - stats["bytes_in_use"])
    return min(free) * num_devices()


def fill(shape: tuple[int, ...], parts: Callable[[int], Iterable[tuple[int, np.ndarray]]]) -> Any:
    """An array [D, *shape], one row a device of this process, filled piece by piece.

    Each piece crosses once and is written in place: neither the host nor a device ever holds
    more than the array and one piece.

    **Arguments:**

    - `parts`: number of a device among all processes' -> (first index, uint8 [m, ...]) pieces of
      its row; what no piece covers is zero.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def write(row: jax.Array, piece: jax.Array, first: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(row, piece, first, axis=1)

    rows = []
    for device in jax.local_devices():
        place = jax.sharding.SingleDeviceSharding(device)
        row = jnp.zeros((1, *shape), jnp.uint8, device=place)
        for first, piece in parts(jax.devices().index(device)):
            row = write(row, jax.device_put(piece[None], place), jax.device_put(first, place))
        rows.append(row)
    whole = (len(rows), *shape)
    sharding = NamedSharding(mesh(), PartitionSpec(AXIS))
    return jax.make_array_from_single_device_arrays(whole, sharding, rows)


def to_host(tree: Any) -> Any:
    """The pytree as NumPy arrays."""
    return jax.device_get(tree)
