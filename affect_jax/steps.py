"""The training and prediction steps: pure, per device, aware only of the axis name "batch".

The same functions run under pmap, and under vmap in tests. Every division by a count happens
after the sums of all devices are added, so masks and weights are exact on any number of devices.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from affect_jax import optimizers
from affect_jax.data import preprocess
from affect_jax.facs import rig
from affect_jax.metrics import stream

if TYPE_CHECKING:  # state imports steps
    from affect_jax.program import Network, Program
    from affect_jax.state import TrainState

AXIS = "batch"


def key(seed: int, name: str, step: jax.typing.ArrayLike) -> jax.Array:
    """The random key of a purpose at a step: a pure function, so no key is ever saved."""
    purpose = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(purpose, step)


def example_keys(seed: int, name: str, step: jax.typing.ArrayLike, index: jax.Array) -> jax.Array:
    """One key an example, from its row in the split: the same whichever device it is on.

    **Arguments:**

    - `index`: int32 [b].

    **Returns:** keys [b].
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key(seed, name, step), index)


def train_step(program: Program, state: TrainState, batch: dict) -> tuple[TrainState, Any]:
    """One update.

    **Arguments:**

    - `batch`: see `affect_jax.batch`; `image` is [b, S, S, 3] uint8, b examples a device.

    **Returns:**

    The next state and a clu collection; every leaf of both is equal on all devices. Where the loss
    or the gradient is not finite the next state is this one, but for its `step`.
    """
    images, batch = augment(program, batch, state.step)
    dropout = example_keys(program.seed, "dropout", state.step, batch["index"])

    def objective(params: dict) -> tuple[jax.Array, tuple]:
        outputs, updates = program.model.apply(
            {"params": params["model"], "batch_stats": state.batch_stats},
            images,
            train=True,
            keys=dropout,
            mutable=["batch_stats"],
        )
        sums = lax.psum(program.loss.sums(outputs, batch), AXIS)
        values = program.loss.values(sums)
        total = program.loss.total(values, params["loss"])
        return total, (values, outputs, dict(updates).get("batch_stats", {}))

    (total, aux), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    values, outputs, batch_stats = aux
    # The transpose of psum is psum: each device holds D times its share of the gradient.
    grads, batch_stats = lax.pmean((grads, batch_stats), AXIS)
    updates, opt_state = program.optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    ema = state.ema
    if program.ema_decay:
        ema = optimizers.ema_update(ema, params["model"], program.ema_decay, state.step)
    norm = optax.tree.norm(grads)
    updated = state.replace(  # pyright: ignore[reportAttributeAccessIssue]
        params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    finite = jnp.isfinite(total) & jnp.isfinite(norm)
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
    result = stream.step_outputs(total, values, norm, outputs, batch)
    metrics = stream.collection(program.loss.names, program.heads)
    return (
        kept.replace(step=state.step + 1),
        metrics.gather_from_model_output(axis_name=AXIS, **result),
    )


def augment(program: Program, batch: dict, step: jax.typing.ArrayLike) -> tuple[jax.Array, dict]:
    """The batch's faces as the network takes them; its landmarks and sides are theirs.

    What nothing reads, XLA leaves out.
    """
    augmented = preprocess.train(
        batch["image"],
        example_keys(program.seed, "augment", step, batch["index"]),
        crop_size=program.crop_size,
        mirror=program.mirror,
        dtype=program.dtype,
    )
    moved = preprocess.move_points(batch["landmarks"], augmented, program.crop_size, rig.MIRROR)
    known = batch["landmarks_mask"][:, None, None]
    changed = {"landmarks": jnp.where(known, moved, 0)}
    for name in ("action_unit_sides", "action_unit_sides_mask"):
        changed[name] = preprocess.swap_sides(batch[name], augmented)
    return augmented.images, {**batch, **changed}


def predict_step(network: Network, variables: dict, batch: dict, *, mirror: bool = False) -> dict:
    """Predictions in the units of the labels, for every row of the batch, padding included.

    **Arguments:**

    - `variables`: `{"params": ..., "batch_stats": ...}` of the network.
    - `mirror`: average with the predictions for the mirrored faces.

    **Returns:**

    float32, as many as there are heads: `expression` [b, C] probabilities, `valence_arousal`
    [b, 2] in [-1, 1], `action_units` [b, A] probabilities.
    """
    images = preprocess.evaluate(batch["image"], crop_size=network.crop_size, dtype=network.dtype)
    outputs = probabilities(network.model.apply(variables, images, train=False))
    if mirror:
        other = probabilities(network.model.apply(variables, lax.rev(images, (2,)), train=False))
        outputs = jax.tree.map(lambda a, b: (a + b) / 2, outputs, other)
    return outputs


def probabilities(outputs: dict) -> dict:
    """The heads' raw outputs as probabilities, or clipped to the range of their labels."""
    ranges = {
        "expression": lambda logits: jax.nn.softmax(logits, axis=-1),
        "valence_arousal": lambda values: jnp.clip(values, -1, 1),
        "action_units": jax.nn.sigmoid,
    }
    return {head: ranges[head](values) for head, values in outputs.items()}
