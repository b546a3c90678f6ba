"""The training and prediction steps: pure, per device, aware only of the axis name "batch".

The same functions run under pmap, and under vmap in tests. Every division by a count happens
after the sums of all devices are added, so masks and weights are exact on any number of devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from affect_jax.core import parallel
from affect_jax.core.parallel import AXIS
from affect_jax.core.rng import example_keys
from affect_jax.data import preprocessing
from affect_jax.facs import rig
from affect_jax.train import optimizers, step_metrics
from affect_jax.train.experiment import Experiment
from affect_jax.train.state import TrainState


def train_step(experiment: Experiment, state: TrainState, batch: dict) -> tuple[TrainState, Any]:
    """One update.

    **Arguments:**

    - `batch`: see `affect_jax.core.batch`; `image` is [b, S, S, 3] uint8, b examples a device.

    **Returns:**

    The next state and a clu collection; every leaf of both is equal on all devices. Where the loss
    or the gradient is not finite the next state is this one, but for its `step`.
    """
    images, batch = augment_batch(experiment, batch, state.step)
    dropout = example_keys(experiment.seed, "dropout", state.step, batch["index"])

    def objective(params: dict) -> tuple[jax.Array, tuple]:
        outputs, updates = experiment.model.apply(
            {"params": params["model"], "batch_stats": state.batch_stats},
            images,
            train=True,
            keys=dropout,
            mutable=["batch_stats"],
        )
        sums = lax.psum(experiment.loss.sums(outputs, batch), AXIS)
        values = experiment.loss.values(sums)
        total = experiment.loss.total(values, params["loss"])
        return total, (values, outputs, dict(updates).get("batch_stats", {}))

    (total, aux), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    values, outputs, batch_stats = aux
    # The transpose of psum is psum: each device holds D times its share of the gradient.
    grads, batch_stats = lax.pmean((grads, batch_stats), AXIS)
    updates, opt_state = experiment.optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    ema = state.ema
    if experiment.ema_decay:
        ema = optimizers.ema_update(ema, params["model"], experiment.ema_decay, state.step)
    norm = optax.tree.norm(grads)
    updated = state.replace(  # pyright: ignore[reportAttributeAccessIssue]
        params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    finite = jnp.isfinite(total) & jnp.isfinite(norm)
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
    result = step_metrics.step_outputs(total, values, norm, outputs, batch)
    metrics = step_metrics.collection(experiment.loss.names, experiment.heads)
    return (
        kept.replace(step=state.step + 1),
        metrics.gather_from_model_output(axis_name=AXIS, **result),
    )


def augment_batch(
    experiment: Experiment, batch: dict, step: jax.typing.ArrayLike
) -> tuple[jax.Array, dict]:
    """The batch's faces as the network takes them; its landmarks and sides are theirs.

    What nothing reads, XLA leaves out.
    """
    augmented = preprocessing.train(
        batch["image"],
        example_keys(experiment.seed, "augment", step, batch["index"]),
        crop_size=experiment.crop_size,
        mirror=experiment.mirror,
        dtype=experiment.dtype,
    )
    moved = preprocessing.move_points(
        batch["landmarks"], augmented, experiment.crop_size, rig.MIRROR
    )
    known = batch["landmarks_mask"][:, None, None]
    changed = {"landmarks": jnp.where(known, moved, 0)}
    for name in ("action_unit_sides", "action_unit_sides_mask"):
        changed[name] = preprocessing.swap_sides(batch[name], augmented)
    return augmented.images, {**batch, **changed}


def create_train_step(experiment: Experiment, *, resident: bool) -> Callable:
    """The training step on all devices.

    **Arguments:**

    - `resident`: the step takes faces from the devices' memory, see `resident_train_step`.

    **Returns:** `(state, batch) -> (state, metrics)`, or `(state, faces, targets, rows) -> ...`. The
    state is donated.
    """
    if resident:
        step = functools.partial(resident_train_step, experiment)
        return parallel.on_devices(step, in_axes=(None, 0, None, None))
    return parallel.on_devices(functools.partial(train_step, experiment))


def resident_train_step(
    experiment: Experiment, state: TrainState, faces: Any, targets: Any, rows: jax.Array
) -> tuple[TrainState, Any]:
    """One update, or several in one dispatch, from faces that the devices hold.

    **Arguments:**

    - `faces`, `targets`: as of `gather_batch`.
    - `rows`: int32 [B], or [K, B] for K updates.

    **Returns:** the next state and the metrics, with a leading axis [K] for K updates.
    """

    def one(state: TrainState, rows: jax.Array) -> Any:
        return train_step(experiment, state, gather_batch(faces, targets, rows))

    return lax.scan(one, state, rows) if rows.ndim == 2 else one(state, rows)


def gather_batch(faces: jax.Array, targets: dict[str, jax.Array], rows: jax.Array) -> dict:
    """Inside a step: this device's share of a batch, its faces fetched from wherever they lie.

    Each device looks up which of the batch's faces it holds, and puts zeros for the others; the
    sum over devices is the batch, and each device keeps its share of it.

    **Arguments:**

    - `faces`: uint8 [n, S, S, 3], this device's.
    - `targets`: of the whole split.
    - `rows`: int32 [B], of the global batch; no padding.

    **Returns:** as `batch.take_rows`, with `image`: [b, ...].
    """
    device, devices = lax.axis_index(AXIS), lax.axis_size(AXIS)
    place = rows - device * len(faces)
    held = (place >= 0) & (place < len(faces))
    found = faces[jnp.where(held, place, 0)]
    found = jnp.where(held[:, None, None, None], found, jnp.uint8(0))
    image = lax.psum_scatter(found, AXIS, tiled=True)
    mine = lax.dynamic_slice_in_dim(rows, device * (len(rows) // devices), len(rows) // devices)
    taken = {name: array[mine] for name, array in targets.items()}
    batch = {"image": image, "index": mine, "valid": jnp.ones(len(mine), bool), **taken}
    return lax.optimization_barrier(batch)  # fused into the step it would change its last bits
