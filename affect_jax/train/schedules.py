"""Learning-rate schedules: pure functions from the number of completed updates to the rate.

The number is an integer or int32 [], and the rate [] is that of the next update. The optimizer and
the log both call them, and resuming needs only the step.

An entry receives those that it has of `learning_rate`, the base rate; `steps_per_epoch` and
`total_steps`, the number of updates per epoch and in the whole run; and the options of the config's
spec, whose durations are `{"epochs": n}` or `{"steps": n}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from affect_jax.config import to_steps
from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry, require_option

SCHEDULES = Registry("schedule")

Duration = Mapping[str, Any]  # {"epochs": 2.5} or {"steps": 10_000}, exactly one


@SCHEDULES.register("constant")
def constant(
    *, learning_rate: float, steps_per_epoch: int, warmup: Duration | None = None
) -> optax.Schedule:
    """The base rate for the whole run.

    **Arguments:**

    - `warmup`: duration over which the rate rises linearly: update k of n has k/n of the rate, so
      no update has a rate of 0. None: no warmup.
    """
    schedule = optax.constant_schedule(learning_rate)
    return _with_warmup(schedule, _warmup_steps(warmup, steps_per_epoch))


@SCHEDULES.register("step")
def step(
    *,
    learning_rate: float,
    steps_per_epoch: int,
    decay: float = 0.1,
    interval: Duration | None = None,
    warmup: Duration | None = None,
) -> optax.Schedule:
    """Multiplies the rate by `decay` after every `interval`.

    This is the protocol of Mollahosseini et al. 2017. The paper divides the rate by 10 every 10,000
    steps, which is the default, decay 0.1. Its 2018 summary writes "drops 10%", which means decay
    0.9 if read literally.

    **Arguments:**

    - `decay`: factor, in (0, 1].
    - `interval`: duration between decays, counted from step 0, warmup included. None: 10,000 steps.
    - `warmup`: see `constant`; it scales the rate of the schedule without warmup.
    """
    require_option("schedule.decay", decay, lambda v: 0 < v <= 1, "in (0, 1]")
    interval = {"steps": 10_000} if interval is None else interval
    interval_steps = to_steps(interval, steps_per_epoch, "schedule.interval")
    # Divides integers: optax's staircase floors a float32 quotient, which XLA compiles to a product
    # with 1 / interval. For an interval of 141 the product is below 1 at step 141: a late drop.
    decays = optax.exponential_decay(learning_rate, transition_steps=1, decay_rate=decay)
    return _with_warmup(
        lambda count: decays(jnp.floor_divide(count, interval_steps)),
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
    """Half a cosine from the base rate (after the warmup) to `final` times that rate at the end
    (Loshchilov and Hutter 2017, equation 5, without restarts).

    **Arguments:**

    - `final`: share of the base rate at the end of the run, in [0, 1].
    - `warmup`: see `constant`; it must be shorter than the run.
    """
    require_option("schedule.final", final, lambda v: 0 <= v <= 1, "in [0, 1]")
    warmup_steps = _warmup_steps(warmup, steps_per_epoch)
    if warmup_steps >= total_steps:
        raise UserError(
            f"schedule.warmup = {warmup_steps} steps: must be shorter than the run's {total_steps}"
        )
    decays = optax.cosine_decay_schedule(learning_rate, total_steps - warmup_steps, alpha=final)
    return _with_warmup(lambda count: decays(jnp.maximum(count - warmup_steps, 0)), warmup_steps)


def _with_warmup(schedule: optax.Schedule, warmup_steps: int) -> optax.Schedule:
    if not warmup_steps:
        return schedule
    warmup_factor = optax.linear_schedule(1.0 / warmup_steps, 1.0, warmup_steps - 1)
    return lambda count: warmup_factor(count) * schedule(count)


def _warmup_steps(warmup: Duration | None, steps_per_epoch: int) -> int:
    return 0 if warmup is None else to_steps(warmup, steps_per_epoch, "schedule.warmup")
