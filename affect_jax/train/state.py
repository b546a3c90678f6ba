"""The state of a training run at a step. It contains only arrays: a checkpoint holds all of it."""

from __future__ import annotations

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from affect_jax.core.rng import step_key
from affect_jax.train.experiment import Experiment


@flax.struct.dataclass
class TrainState:
    step: jax.Array  # int32 []: number of completed updates
    params: dict[str, Any]  # {"model": the network's, "loss": learned term weights, often empty}
    batch_stats: dict[str, Any]  # running mean and variance of batch normalisation, may be empty
    opt_state: optax.OptState
    ema: dict[str, Any]  # moving average of params["model"]; empty when off


def create_state(experiment: Experiment) -> TrainState:
    """Creates the initial state, which depends on the seed but not on the number of devices."""
    return jax.jit(functools.partial(_init_state, experiment))()


def state_template(experiment: Experiment) -> TrainState:
    """Returns the shapes and dtypes of `create_state`'s result without computing it."""
    return jax.eval_shape(functools.partial(_init_state, experiment))


def _init_state(experiment: Experiment) -> TrainState:
    images = jnp.zeros((1, experiment.crop_size, experiment.crop_size, 3))
    variables = experiment.model.init(step_key(experiment.seed, "init", 0), images)
    params = {"model": variables["params"], "loss": experiment.loss.init()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=dict(variables).get("batch_stats", {}),
        opt_state=experiment.optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params["model"]) if experiment.ema_decay else {},
    )


def ema_update(ema: Any, params: Any, decay: float, step: jax.typing.ArrayLike) -> Any:
    """Updates the moving average of parameters for evaluation (Polyak and Juditsky 1992).

    Update number t+1 uses the decay `min(decay, (1 + t) / (10 + t))`, so that the average follows
    the parameters closely at first and soon forgets its arbitrary initial value.

    **Arguments:** `ema`: the previous average; `params`: the parameters after the update; `decay`:
    in [0, 1), 0.999 averages over about 1,000 updates; `step`: int32 [], the number t.
    """
    t = jnp.asarray(step, jnp.float32)
    new_weight = 1.0 - jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return optax.incremental_update(params, ema, new_weight)


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables for evaluation: the moving average of the parameters if it is on."""
    return {"params": state.ema or state.params["model"], "batch_stats": state.batch_stats}
