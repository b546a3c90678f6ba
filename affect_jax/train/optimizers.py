"""How parameters move: schedules of the learning rate, optimizers, and the moving average.

A schedule is a pure function of the step, `schedule(step) -> rate`: the optimizer reads it, so does
the log, and resuming needs nothing but the step. Optimizers are optax chains; their state holds
arrays only.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from affect_jax.config import to_steps
from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry, unknown

SCHEDULES = Registry("schedule")
OPTIMIZERS = Registry("optimizer")

Rates = Mapping[str, float]  # beginning of a parameter's name -> factor of the learning rate
Duration = Mapping[str, Any]  # {"epochs": 2.5} or {"steps": 10_000}, exactly one
PROTOCOL_INTERVAL: Duration = types.MappingProxyType({"steps": 10_000})


def create_schedule(
    spec: Mapping[str, Any], *, learning_rate: float, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """The learning rate over a run.

    **Arguments:**

    - `spec`: `{"name": ..., option: value, ...}`; durations are `{"epochs": n}` or `{"steps": n}`.
    - `learning_rate`: the base rate, which the schedule scales.
    - `steps_per_epoch`, `total_steps`: of the run at hand.

    **Returns:**

    A pure function from the number of updates done, an integer or int32 [], to the rate [] of the
    next one.

    **Raises:** `UserError` for unknown names and impossible options.
    """
    return SCHEDULES.create(
        spec, learning_rate=learning_rate, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )


def create_optimizer(
    spec: Mapping[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer that a config's `optimizer` describes, reading its rate from `schedule`.

    **Raises:** `UserError` for unknown names and impossible options.
    """
    return OPTIMIZERS.create(spec, schedule=schedule)


@SCHEDULES.register("constant")
def constant(
    *,
    learning_rate: float,
    steps_per_epoch: int,
    total_steps: int,
    warmup: Duration | None = None,
) -> optax.Schedule:
    """The base rate, from first to last.

    **Arguments:**

    - `warmup`: the rate first rises in a straight line over this duration: update k of n has k/n of
      it, so none is wasted on a rate of 0. None: no warmup.
    """
    return _warmed_up(
        optax.constant_schedule(learning_rate), _warmup_steps(warmup, steps_per_epoch)
    )


@SCHEDULES.register("step")
def step(
    *,
    learning_rate: float,
    steps_per_epoch: int,
    total_steps: int,
    decay: float = 0.1,
    interval: Duration = PROTOCOL_INTERVAL,
    warmup: Duration | None = None,
) -> optax.Schedule:
    """The rate times `decay` after every `interval`: the protocol's (Mollahosseini et al. 2017).

    The paper divides by 10 every 10,000 steps: decay 0.1, the default. Its 2018 summary writes
    "drops 10%", which to the letter is decay 0.9.

    **Arguments:**

    - `decay`: factor, in (0, 1].
    - `interval`: counted from step 0, warmup included.
    - `warmup`: see `constant`; it scales the rate that would hold without it.
    """
    _require("schedule", "decay", decay, lambda v: 0 < v <= 1, "in (0, 1]")
    every = _steps("interval", interval, steps_per_epoch)
    # An integer quotient: optax's staircase floors a float32 one, which XLA compiles to a product
    # with 1 / every. That is below 1 at step 141 for every = 141: the rate would drop late.
    decays = optax.exponential_decay(learning_rate, transition_steps=1, decay_rate=decay)
    return _warmed_up(
        lambda count: decays(jnp.floor_divide(count, every)),
        _warmup_steps(warmup, steps_per_epoch),
    )


@SCHEDULES.register("cosine")
def cosine(
    *,
    learning_rate: float,
    steps_per_epoch: int,
    total_steps: int,
    final: float = 0.0,
    warmup: Duration | None = None,
) -> optax.Schedule:
    """Half a cosine from the base rate, after the warmup, to `final` of it at the run's end
    (Loshchilov and Hutter 2017, equation 5, without restarts).

    **Arguments:**

    - `final`: share of the base rate, in [0, 1].
    - `warmup`: see `constant`; shorter than the run.
    """
    _require("schedule", "final", final, lambda v: 0 <= v <= 1, "in [0, 1]")
    rising = _warmup_steps(warmup, steps_per_epoch)
    if rising >= total_steps:
        raise UserError(
            f"schedule.warmup = {rising} steps: must be shorter than the run's {total_steps}"
        )
    decays = optax.cosine_decay_schedule(learning_rate, total_steps - rising, alpha=final)
    return _warmed_up(lambda count: decays(jnp.maximum(count - rising, 0)), rising)


def _warmed_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    if not steps:
        return schedule
    share = optax.linear_schedule(1.0 / steps, 1.0, steps - 1)
    return lambda count: share(count) * schedule(count)


def _warmup_steps(warmup: Duration | None, steps_per_epoch: int) -> int:
    return 0 if warmup is None else _steps("warmup", warmup, steps_per_epoch)


def _steps(option: str, duration: Duration, steps_per_epoch: int) -> int:
    try:
        return to_steps(duration, steps_per_epoch)
    except UserError as error:
        raise UserError(f"schedule.{option}: {error}") from None


def _require(kind: str, option: str, value: Any, holds: Callable[[Any], bool], wanted: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and holds(value)):
        raise UserError(f"{kind}.{option} = {value!r}: must be {wanted}")


@OPTIMIZERS.register("sgd")
def sgd(
    *,
    schedule: optax.Schedule,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    rates: Rates | None = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum, step for step `torch.optim.SGD`.

    The momentum buffer is of gradients, not of updates: a drop of the rate acts at once.

    **Arguments:**

    - `momentum`: in [0, 1).
    - `nesterov`: look ahead.
    - `weight_decay`: L2 penalty, its gradient added before momentum; of weights only: parameters
      with at most one axis (biases, batch normalisation, learned loss weights) are left alone.
    - `clip_norm`: gradients are scaled down to this global norm, before weight decay; 0: never.
    - `rates`: of parts of the network, for fine-tuning: `{"trunk": 0.1, "trunk/stage4": 0.5}`. A
      key is the beginning of a parameter's name, its value a factor of the learning rate, of weight
      decay's step too; the longest key that fits holds, 1 where none does. 0: the part is frozen,
      and has no share in `clip_norm`.
    """
    _require("optimizer", "momentum", momentum, lambda v: 0 <= v < 1, "in [0, 1)")
    return _by_part(
        rates,
        *_clip(clip_norm),
        *_weight_decay(weight_decay),
        optax.sgd(schedule, momentum or None, nesterov),
    )


@OPTIMIZERS.register("adam")
def adam(
    *,
    schedule: optax.Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    rates: Rates | None = None,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, algorithm 1), step for step `torch.optim.Adam`.

    **Arguments:**

    - `beta1`, `beta2`: decay of the first and second moments, in [0, 1).
    - `weight_decay`, `clip_norm`, `rates`: as for `sgd`; the penalty's gradient passes through the
      moments.
    """
    _require("optimizer", "beta1", beta1, lambda v: 0 <= v < 1, "in [0, 1)")
    _require("optimizer", "beta2", beta2, lambda v: 0 <= v < 1, "in [0, 1)")
    return _by_part(
        rates,
        *_clip(clip_norm),
        *_weight_decay(weight_decay),
        optax.adam(schedule, beta1, beta2),
    )


@OPTIMIZERS.register("adamw")
def adamw(
    *,
    schedule: optax.Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.01,
    clip_norm: float = 0.0,
    rates: Rates | None = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as `torch.optim.AdamW`.

    **Arguments:**

    - `beta1`, `beta2`, `clip_norm`, `rates`: as for `adam`.
    - `weight_decay`: share of each weight, times the rate, that a step takes away; of weights only,
      see `sgd`.
    """
    _require("optimizer", "beta1", beta1, lambda v: 0 <= v < 1, "in [0, 1)")
    _require("optimizer", "beta2", beta2, lambda v: 0 <= v < 1, "in [0, 1)")
    _require("optimizer", "weight_decay", weight_decay, lambda v: v >= 0, "0 or more")
    return _by_part(
        rates,
        *_clip(clip_norm),
        optax.adamw(schedule, beta1, beta2, weight_decay=weight_decay, mask=decayed),
    )


def decayed(params: Any) -> Any:
    """Which parameters weight decay acts on: those with more than one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _weight_decay(weight_decay: float) -> list[optax.GradientTransformation]:
    _require("optimizer", "weight_decay", weight_decay, lambda v: v >= 0, "0 or more")
    return [optax.add_decayed_weights(weight_decay, mask=decayed)] if weight_decay else []


def _clip(clip_norm: float) -> list[optax.GradientTransformation]:
    _require("optimizer", "clip_norm", clip_norm, lambda v: v >= 0, "positive, or 0 for never")
    return [optax.clip_by_global_norm(clip_norm)] if clip_norm else []


def _by_part(
    rates: Rates | None, *transformations: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The chain of transformations, its updates multiplied by each parameter's rate.

    Frozen parameters are kept out of the chain: they have no momentum to store.
    """
    whole = optax.chain(*transformations)
    if not rates:
        return whole
    for part, rate in rates.items():
        _require("optimizer", f"rates[{part!r}]", rate, lambda v: v >= 0, "0 or more")

    def scale(updates: Any, _: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, update: rate_of(_name(path), rates) * update, updates
        )

    def groups(params: Any) -> Any:
        _check_parts(rates, params)
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "moving" if rate_of(_name(path), rates) else "frozen", params
        )

    moving = optax.chain(whole, optax.stateless(scale))
    return optax.partition({"moving": moving, "frozen": optax.set_to_zero()}, groups)


def rate_of(name: str, rates: Rates) -> float:
    """The factor of a parameter's learning rate: of the longest key that its name begins with."""
    fitting = [part for part in rates if name.startswith(part)]
    return rates[max(fitting, key=len)] if fitting else 1.0


def freezes(spec: Mapping[str, Any], part: str) -> bool:
    """Whether an optimizer moves no parameter whose name begins with `part`."""
    rates = spec.get("rates") or {}
    inside = [rate for key, rate in rates.items() if key.startswith(part)]
    return rate_of(part, rates) == 0 and not any(inside)


def _name(path: tuple) -> str:
    """`trunk/stem/conv/kernel`: the network's parameters by their names in it."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("model/")


def _check_parts(rates: Rates, params: Any) -> None:
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for part in rates:
        if not any(name.startswith(part) for name in names):
            layers = [name.split("/")[:-1] for name in names]
            parts = {"/".join(layer[:depth]) for layer in layers for depth in (1, 2)}
            raise UserError(f"optimizer.rates: {unknown(part, sorted(parts - {''}))}")


def ema_update(ema: Any, params: Any, decay: float, step: jax.typing.ArrayLike) -> Any:
    """The moving average of parameters after an update, for evaluation (Polyak and Juditsky 1992).

    `decay` holds in the long run; update number t+1 uses `min(decay, (1 + t) / (10 + t))`, so that
    the average follows closely at first and its arbitrary start is soon forgotten.

    **Arguments:**

    - `ema`: the average so far, a tree shaped like `params`; an empty one or None (averaging
      is off) is returned as it is.
    - `params`: the parameters after the update.
    - `decay`: in [0, 1); 0.999 averages over about 1,000 updates.
    - `step`: int32 [], the updates done before this one, t.
    """
    if not ema:
        return ema
    t = jnp.asarray(step, jnp.float32)
    share = 1.0 - jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return optax.incremental_update(params, ema, share)
