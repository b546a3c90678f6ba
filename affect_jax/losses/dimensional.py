"""Losses of the dimensional model: outputs and targets [b, 2], valence and arousal in [-1, 1]."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect_jax.core.errors import UserError
from affect_jax.losses.base import LOSSES, Sums, Term, masked


def checked_axis_weights(weights: Sequence[float]) -> np.ndarray:
    """Weights of valence and arousal, float64 [2] with sum 1."""
    given = tuple(weights) if isinstance(weights, Sequence | np.ndarray) else ()
    numbers = len(given) == 2 and all(
        isinstance(weight, Real) and not isinstance(weight, bool) and 0 <= weight < np.inf
        for weight in given
    )
    if not numbers or not any(given):
        raise UserError(
            f"axis_weights = {weights!r}: must be two numbers (valence, arousal), 0 or more, "
            "not both 0"
        )
    return np.array(given, float) / sum(given)


@LOSSES.register("squared_error")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SquaredError(Term):
    """Mean over examples of the weighted mean over the two axes of the squared error.

    With equal weights it is the paper's Euclidean loss, which its framework defines as
    `sum ||prediction - target||^2 / (2 N)` (Mollahosseini et al. 2017).

    **Arguments:**

    - `axis_weights`: of valence and arousal; only their ratio counts. (1, 0) trains valence alone.
    """

    axis_weights: Sequence[float] = (1.0, 1.0)
    heads = ("valence_arousal",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_axis_weights(self.axis_weights)

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        weights = jnp.asarray(checked_axis_weights(self.axis_weights), outputs.dtype)
        return jnp.sum(optax.squared_error(outputs, targets) * weights[None, :], axis=-1)


@LOSSES.register("ccc")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Concordance(Term):
    """1 - CCC, the concordance correlation coefficient (Lin 1989), weighted mean over the axes.

    The coefficient is that of the whole batch, over all devices. With population moments,
    `CCC = 2 cov / (var_x + var_y + (mean_x - mean_y)^2)`, and as the denominator is
    `E[(x - y)^2] + 2 cov`, `1 - CCC = E[(x - y)^2] / (E[(x - y)^2] + 2 cov)`. In this form
    nothing cancels near perfection, where the squared error, a sum of positive numbers, decides
    the value, and no variance is a difference of moments. Only `cov = E[xy] - E[x] E[y]` is: its
    float32 error is about 1e-7 |E[x] E[y]|, kept small by scales that have 0 in their middle
    (relative error of the loss: 2e-7 for spreads of 0.3, 7e-5 for 0.05 around 0.9).

    Where neither predictions nor targets vary (one example, say) CCC is 0, and the loss 1, or 0 if
    they are equal; `EPSILON` in the denominator keeps both finite.

    **Arguments:**

    - `axis_weights`: of valence and arousal; only their ratio counts.
    """

    axis_weights: Sequence[float] = (1.0, 1.0)
    heads = ("valence_arousal",)

    EPSILON: ClassVar[float] = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_axis_weights(self.axis_weights)

    def sums(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Sums:
        x, y, mask = masked(self.head, outputs, batch)
        return {  # masked rows are zeros in both, so they add nothing; [2] each, one an axis
            "n": jnp.sum(mask, dtype=x.dtype),
            "x": jnp.sum(x, axis=0),
            "y": jnp.sum(y, axis=0),
            "xy": jnp.sum(x * y, axis=0),
            "squared": jnp.sum(optax.squared_error(x, y), axis=0),
        }

    def value(self, sums: Sums) -> jax.Array:
        n = jnp.maximum(sums["n"], 1.0)
        covariance = sums["xy"] / n - (sums["x"] / n) * (sums["y"] / n)
        error = sums["squared"] / n
        weights = jnp.asarray(checked_axis_weights(self.axis_weights), error.dtype)
        # The denominator is at least half the error (CCC >= -1): so it stays when rounding is all
        # there is.
        whole = jnp.maximum(error + 2 * covariance, error / 2)
        return jnp.sum(weights * error / (whole + self.EPSILON))
