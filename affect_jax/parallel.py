"""Devices and processes: the only room that knows how many there are.

`jax.pmap` is in maintenance mode; `on_devices` is the whole of its use here. To leave it:
`jax.jit(jax.shard_map(step, mesh=mesh(), in_specs=(P(), P(AXIS)), out_specs=P()))`; the steps,
which know only the axis name, stay as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from affect_jax.steps import AXIS


@functools.cache
def mesh() -> Mesh:
    """This process's devices, in a row."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def num_devices() -> int:
    """Devices of all processes."""
    return jax.device_count()


def is_main() -> bool:
    """True in the one process that writes logs and files."""
    return jax.process_index() == 0


def replicate(tree: Any) -> Any:
    """Puts a pytree, whole, on each of this process's devices."""
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def shard(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts a batch on this process's devices: row d of [D, b, ...] on device d."""
    return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec(AXIS)))


def on_devices(step: Callable, *, donate_state: bool = True) -> Callable:
    """`step(state, batch)` on every device: state whole on each, batch split along its first axis.

    The step must return the same values on all devices: those of one are kept, unchecked. The
    tests run every step under `vmap(..., out_axes=None)`, which does check.
    """
    donated = 0 if donate_state else ()
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=donated)


def map_devices(step: Callable) -> Callable:
    """`step(variables, batch)` on every device; results keep the devices' axis: [D, b, ...]."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0))


def to_host(tree: Any) -> Any:
    """The pytree as NumPy arrays."""
    return jax.device_get(tree)
