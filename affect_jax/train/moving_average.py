"""The exponential moving average of parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax


def ema_update(ema: Any, params: Any, decay: float, step: jax.typing.ArrayLike) -> Any:
    """Updates the moving average of parameters for evaluation (Polyak and Juditsky 1992).

    Update number t+1 uses the decay `min(decay, (1 + t) / (10 + t))`, so that the average follows
    the parameters closely at first and soon forgets its arbitrary initial value.

    **Arguments:**

    - `ema`: the previous average, a tree shaped like `params`; an empty tree or None (averaging is
      off) is returned unchanged.
    - `params`: the parameters after the update.
    - `decay`: in [0, 1); 0.999 averages over about 1,000 updates.
    - `step`: int32 [], the number t of updates completed before this one.
    """
    if not ema:
        return ema
    t = jnp.asarray(step, jnp.float32)
    new_weight = 1.0 - jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return optax.incremental_update(params, ema, new_weight)
