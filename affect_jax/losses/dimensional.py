"""Losses of the dimensional model: outputs and targets [b, 2], valence and arousal in [-1, 1]."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect_jax.core.errors import UserError
from affect_jax.losses.base import LOSSES, LossTerm, Sums, zero_masked

EPSILON = 1e-8  # in the denominator of CCC, which is 0 if nothing varies


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DimensionalTerm(LossTerm):
    """A term with a weight for each of valence and arousal.

    **Arguments:** `axis_weights`: weights of valence and arousal; only their ratio matters. (1, 0)
    trains only valence.
    """

    axis_weights: Sequence[float] = (1.0, 1.0)
    heads = ("valence_arousal",)

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = np.array(self.axis_weights, float)
        if weights.shape != (2,) or (weights < 0).any() or not 0 < weights.sum() < np.inf:
            raise UserError(
                f"axis_weights = {self.axis_weights!r}: must be two numbers (valence, arousal), "
                "0 or more, not both 0"
            )

    def normalized_weights(self, dtype: Any) -> jax.Array:
        """The weights [2], scaled to sum 1."""
        weights = np.array(self.axis_weights, float)
        return jnp.asarray(weights / sum(weights), dtype)


@LOSSES.register("squared_error")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SquaredError(DimensionalTerm):
    """Squared error, averaged over examples and (weighted) over valence and arousal.

    With equal weights it is the paper's Euclidean loss, which its framework defines as
    `sum ||prediction - target||^2 / (2 N)` (Mollahosseini et al. 2017).

    **Arguments:** `axis_weights`: see `DimensionalTerm`.
    """

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        weights = self.normalized_weights(outputs.dtype)
        return jnp.sum(optax.squared_error(outputs, targets) * weights[None, :], axis=-1)


@LOSSES.register("ccc")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Concordance(DimensionalTerm):
    """1 - CCC (concordance correlation coefficient, Lin 1989), a weighted mean over the two axes.

    The coefficient is computed over the whole batch, on all devices. With population moments,
    `CCC = 2 cov / (var_x + var_y + (mean_x - mean_y)^2)`. The denominator equals
    `E[(x - y)^2] + 2 cov`, so `1 - CCC = E[(x - y)^2] / (E[(x - y)^2] + 2 cov)`. This form has no
    cancellation near CCC = 1 (relative error in float32: 2e-7 for a spread of 0.3, 7e-5 for 0.05
    around 0.9).

    If neither predictions nor targets vary (as with one example), CCC is 0 and the loss is 1, or 0
    if they are equal.

    **Arguments:** `axis_weights`: see `DimensionalTerm`.
    """

    def sums(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Sums:
        x, y, mask = zero_masked(self.head, outputs, batch)
        return {  # `n` is [], the others [2], one per axis; masked rows add 0
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
        weights = self.normalized_weights(error.dtype)
        # As CCC >= -1, the denominator is at least half the error; rounding could make it smaller.
        denominator = jnp.maximum(error + 2 * covariance, error / 2)
        return jnp.sum(weights * error / (denominator + EPSILON))
