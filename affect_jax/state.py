"""What a training run is at a step: arrays only, so that saving it is saving the run."""

from __future__ import annotations

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect_jax import steps
from affect_jax.program import Program


@flax.struct.dataclass
class TrainState:
    step: jax.Array  # int32 []: updates done
    params: dict[str, Any]  # {"model": the network's, "loss": learned term weights, often empty}
    batch_stats: dict[str, Any]  # running mean and variance of batch normalisation, may be empty
    opt_state: optax.OptState
    ema: dict[str, Any]  # moving average of params["model"]; empty when off


def create(program: Program) -> TrainState:
    """A fresh state, equal for equal seeds on any number of devices."""
    return jax.jit(functools.partial(_init, program))()


def template(program: Program) -> TrainState:
    """Shapes and types of `create`'s state, without computing it."""
    return jax.eval_shape(functools.partial(_init, program))


def zeros(program: Program) -> TrainState:
    """A state of zeros on the host, to be filled."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template(program))


def _init(program: Program) -> TrainState:
    images = jnp.zeros((1, program.crop_size, program.crop_size, 3))
    variables = program.model.init(steps.key(program.seed, "init", 0), images)
    params = {"model": variables["params"], "loss": program.loss.init()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=dict(variables).get("batch_stats", {}),
        opt_state=program.optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params["model"]) if program.ema_decay else {},
    )


def variables(state: TrainState) -> dict[str, Any]:
    """What evaluation gives the network: the moving average's parameters where one is kept."""
    return {"params": state.ema or state.params["model"], "batch_stats": state.batch_stats}


def count(params: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
