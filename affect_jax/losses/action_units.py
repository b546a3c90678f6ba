"""Losses of the action-unit model: logits and targets [b, A].

A target is an intensity in [0, 1], interpreted as the probability that the unit is active.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect_jax.core.errors import UserError
from affect_jax.core.registry import NOT_NEGATIVE
from affect_jax.facs.action_units import ACTIVE_THRESHOLD
from affect_jax.losses.base import CAP, LOSSES, LossTerm, cap_weights


def unit_frequencies(action_units: np.ndarray) -> np.ndarray:
    """Computes, for each unit, the fraction of annotated faces with at least `ACTIVE_THRESHOLD`.

    **Arguments:** `action_units`: float [N, A], intensities in [0, 1], NaN if not annotated.

    **Returns:** float64 [A]; NaN for a unit that is annotated on no face.
    """
    active = np.sum(action_units >= ACTIVE_THRESHOLD, axis=0)  # NaN is not
    count = np.sum(~np.isnan(action_units), axis=0)
    return np.where(count > 0, active / np.maximum(count, 1), np.nan)


@LOSSES.register("binary_cross_entropy")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BinaryCrossEntropy(LossTerm):
    """Sigmoid cross entropy, averaged over annotated units; targets may be soft.

    **Arguments:**

    - `frequency_weights`: weight each unit by the inverse of its frequency, scaled to mean 1 over
      the units (as in Shao et al. 2018, JAA-Net), so that rare units count.
    - `max_weight`: maximum ratio of a unit's weight to the smallest weight; 0 means no cap.
    """

    frequency_weights: bool = False
    max_weight: float = 0.0
    unit_frequencies: np.ndarray | None
    heads = ("action_units",)
    requirements: ClassVar = {"max_weight": CAP}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequency_weights:
            self.unit_weights()

    def unit_weights(self) -> np.ndarray:
        """The weights of the units, float64 [A]; 0 for a unit that is never annotated."""
        if self.unit_frequencies is None or np.all(np.isnan(self.unit_frequencies)):
            raise UserError("frequency_weights needs a training split with action units")
        frequencies = np.asarray(self.unit_frequencies, np.float64)
        never = np.flatnonzero(frequencies == 0)
        if len(never) and not self.max_weight:
            raise UserError(
                f"frequency_weights: unit at index {', '.join(map(str, never))} is never active in "
                "the training split; set max_weight (10, say) or frequency_weights = False"
            )
        with np.errstate(divide="ignore"):  # max_weight caps 1 / 0
            weights = cap_weights(1.0 / frequencies, self.max_weight)
        return np.nan_to_num(weights / np.nanmean(weights), nan=0.0)

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(outputs, targets)

    def example_weights(self, losses: jax.Array, targets: jax.Array) -> jax.Array:
        weights = self.unit_weights() if self.frequency_weights else 1.0
        return jnp.broadcast_to(jnp.asarray(weights, losses.dtype), losses.shape)


@LOSSES.register("asymmetric")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Asymmetric(LossTerm):
    """The asymmetric loss of Ridnik et al. (2021, equation 7), averaged over annotated units.

    With p the sigmoid and `q = max(p - clip, 0)`, the loss is `-(1 - p)^gamma_pos log(p)` for an
    active unit and `-q^gamma_neg log(1 - q)` for an inactive one. A soft target mixes the two.

    **Arguments:**

    - `gamma_neg`, `gamma_pos`: focusing exponents of inactive and active units, 0 or more.
    - `clip`: probability below which an inactive unit has no loss: 0, or in [1e-6, 1).
    """

    gamma_neg: float = 4.0
    gamma_pos: float = 1.0
    clip: float = 0.05
    heads = ("action_units",)
    requirements: ClassVar = {
        "gamma_neg": NOT_NEGATIVE,
        "gamma_pos": NOT_NEGATIVE,
        # A smaller value would be lost in float32, where p may round to 1.
        "clip": (lambda v: v == 0 or 1e-6 <= v < 1, "0, or in [1e-6, 1)"),
    }

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        log_p, log_not_p = jax.nn.log_sigmoid(outputs), jax.nn.log_sigmoid(-outputs)
        present = jnp.exp(self.gamma_pos * log_not_p) * log_p
        if self.clip:
            shifted = jax.nn.sigmoid(outputs) - self.clip
            is_above_clip = shifted > 0  # a power of 0 may have no derivative, so it is avoided
            q = jnp.where(is_above_clip, shifted, 0.5)
            absent = jnp.where(is_above_clip, q**self.gamma_neg * jnp.log1p(-q), 0.0)
        else:  # q = p may round to 1, for which log1p(-q) is infinite
            absent = jnp.exp(self.gamma_neg * log_p) * log_not_p
        return -(targets * present + (1.0 - targets) * absent)
