"""The training step: a pure function per device that depends only on the axis name "batch".

The same function runs under pmap, and under vmap in tests. Every division by a count happens
after the sums of all devices are added, so masks and weights are exact on any number of devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from jax import lax

from affect_jax.core import parallel
from affect_jax.core.parallel import AXIS
from affect_jax.core.rng import example_keys
from affect_jax.data import preprocessing
from affect_jax.data.augment import apply_augmentations
from affect_jax.facs import rig
from affect_jax.train.experiment import Experiment
from affect_jax.train.state import TrainState, ema_update


def train_step(experiment: Experiment, state: TrainState, batch: dict) -> tuple[TrainState, Any]:
    """Performs one update.

    **Arguments:** `batch`: see `affect_jax.core.batch`; `image` is [b, S, S, 3] uint8, b examples
    per device.

    **Returns:** the next state and a clu collection of metrics, both equal on all devices. If the
    loss or the gradient is not finite, the next state differs from `state` only in `step`.
    """
    images, batch = augment_batch(experiment, batch, state.step)
    dropout_keys = example_keys(experiment.seed, "dropout", state.step, batch["index"])

    def objective(params: dict) -> tuple[jax.Array, tuple]:
        outputs, updates = experiment.model.apply(
            {"params": params["model"], "batch_stats": state.batch_stats},
            images,
            train=True,
            keys=dropout_keys,
            mutable=["batch_stats"],
        )
        sums = lax.psum(experiment.loss.sums(outputs, batch), AXIS)
        values = experiment.loss.values(sums)
        total = experiment.loss.total(values, params["loss"])
        return total, (values, outputs, dict(updates).get("batch_stats", {}))

    (total, auxiliary), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    values, outputs, batch_stats = auxiliary
    # The transpose of psum is psum: each device holds D times its share of the gradient.
    grads, batch_stats = lax.pmean((grads, batch_stats), AXIS)
    norms = [optax.tree.norm(grads)]

    def gradient_at(params: dict) -> dict:
        grads = lax.pmean(jax.grad(objective, has_aux=True)(params)[0], AXIS)
        norms.append(optax.tree.norm(grads))
        return grads

    optimizer = optax.with_extra_args_support(experiment.optimizer)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params, gradient_at=gradient_at
    )
    params: Any = optax.apply_updates(state.params, updates)
    ema = state.ema
    if experiment.ema_decay:
        ema = ema_update(ema, params["model"], experiment.ema_decay, state.step)
    updated = state.replace(  # pyright: ignore[reportAttributeAccessIssue]
        params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    finite = functools.reduce(jnp.logical_and, map(jnp.isfinite, (total, *norms)))
    next_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
    metrics = create_metrics(experiment)
    return next_state.replace(step=state.step + 1), metrics.gather_from_model_output(
        axis_name=AXIS,
        loss=total,
        gradient_norm=norms[0],
        outputs=outputs,
        batch=batch,
        **{f"loss_{name}": value for name, value in values.items()},
    )


def create_metrics(experiment: Experiment) -> type[clu_metrics.Collection]:
    """Creates the class of a step's metrics, which are merged over devices and steps: the means of
    `loss`, `gradient_norm` and each `loss_<term>`, and top-1 `accuracy` over annotated faces."""
    averages = ["loss", "gradient_norm", *(f"loss_{term}" for term in experiment.loss.terms)]
    members: dict[str, Any] = {name: clu_metrics.Average.from_output(name) for name in averages}
    if "expression" in experiment.heads:
        members["accuracy"] = clu_metrics.Average.from_fun(_expression_is_correct)
    return clu_metrics.Collection.create(**members)


def _expression_is_correct(outputs: Any, batch: Any, **_: Any) -> dict[str, jax.Array]:
    hits = jnp.argmax(outputs["expression"], axis=-1) == batch["expression"]
    # The mask has the same shape as the values: clu ignores a mask of another length.
    return {"values": hits.astype(jnp.float32), "mask": batch["expression_mask"]}


def augment_batch(
    experiment: Experiment, batch: dict, step: jax.typing.ArrayLike
) -> tuple[jax.Array, dict]:
    """Augments the faces of a batch and transforms its targets with them.

    **Returns:** images for the network, [b, c, c, 3], and the batch with transformed targets.
    """
    keys = example_keys(experiment.seed, "augment", step, batch["index"])
    cropped = preprocessing.crop_and_mirror(
        batch["image"], keys, crop_size=experiment.crop_size, mirror=experiment.mirror
    )
    landmarks = preprocessing.transform_points(
        batch["landmarks"], cropped, experiment.crop_size, rig.MIRROR
    )
    batch = {**batch, "landmarks": landmarks}
    for name in ("action_unit_sides", "action_unit_sides_mask"):
        batch[name] = preprocessing.swap_sides(batch[name], cropped)
    images, batch = apply_augmentations(experiment.augmentations, cropped.images, batch, keys)
    has_landmarks = batch["landmarks_mask"][:, None, None]
    landmarks = jnp.where(has_landmarks, batch["landmarks"], 0)
    images = preprocessing.normalize(images, experiment.dtype)
    return images, {**batch, "landmarks": landmarks}


def create_train_step(experiment: Experiment, *, resident: bool) -> Callable:
    """Creates the training step for all devices; the state is donated.

    **Returns:** `train_step` without its first argument, or `resident_train_step` if `resident`.
    """
    if resident:
        step = functools.partial(resident_train_step, experiment)
        return parallel.parallelize(step, in_axes=(None, 0, None, None))
    return parallel.parallelize(functools.partial(train_step, experiment))


def resident_train_step(
    experiment: Experiment, state: TrainState, faces: Any, targets: Any, rows: jax.Array
) -> tuple[TrainState, Any]:
    """Performs one update, or K updates in one dispatch, on faces in the devices' memory.

    **Arguments:** `rows`: int32 [B], or [K, B] for K updates; for the others see `gather_batch`.

    **Returns:** the next state and the metrics, with a leading axis [K] for K updates.
    """

    def step_once(state: TrainState, rows: jax.Array) -> Any:
        return train_step(experiment, state, gather_batch(faces, targets, rows))

    return lax.scan(step_once, state, rows) if rows.ndim == 2 else step_once(state, rows)


def gather_batch(faces: jax.Array, targets: dict[str, jax.Array], rows: jax.Array) -> dict:
    """Gathers this device's share of a batch inside a step, with faces from all devices.

    Each device looks up the faces of the batch that are in its memory and uses zeros for the
    others. The sum over devices is the batch, and each device receives its share.

    **Arguments:** `faces`: uint8 [n, S, S, 3], those in the memory of this device; `targets`: of
    the whole split; `rows`: int32 [B], of the global batch, without padding.

    **Returns:** the same as `batch.take_rows`, with `image`: [b, ...].
    """
    device, share = lax.axis_index(AXIS), len(rows) // lax.axis_size(AXIS)
    local_rows = rows - device * len(faces)
    is_local = (local_rows >= 0) & (local_rows < len(faces))
    local_faces = faces[jnp.where(is_local, local_rows, 0)]
    local_faces = jnp.where(is_local[:, None, None, None], local_faces, jnp.uint8(0))
    device_rows = lax.dynamic_slice_in_dim(rows, device * share, share)
    batch = {
        "image": lax.psum_scatter(local_faces, AXIS, tiled=True),
        "index": device_rows,
        "valid": jnp.ones(share, bool),
        **{name: array[device_rows] for name, array in targets.items()},
    }
    return lax.optimization_barrier(batch)  # fusion would change the last bits of the step
