"""What a loss term is: sums on each device, one division after they are added.

Every term of this package is a `Term`, entered in `LOSSES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry, unknown

Sums = dict[str, jax.Array]

LOSSES = Registry("loss")
LEARNED = "learned"  # the `weight` of a term whose weight is trained with the network


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A mean of per-example losses over the valid examples; what every term is made from.

    **Arguments:**

    - `head`: the head whose outputs are judged.
    - `weight`: factor in the objective, 0 (only logged) or more; or `"learned"`.
    - `class_counts`: int [C], faces of each class in the training split as it lies on disk, before
      any down- or up-sampling. Supplied by code.
    - `unit_frequencies`: float [A], see the function of that name. Supplied by code.
    """

    head: str
    weight: float | str = 1.0
    class_counts: np.ndarray | None = None
    unit_frequencies: np.ndarray | None = None

    heads: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.head not in self.heads:
            raise UserError(f"head = {unknown(self.head, self.heads)}")
        if self.weight != LEARNED:
            self.require("weight", lambda v: v >= 0, f"0 or more, or {LEARNED!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise UserError(f"{field.name} = {value!r}: must be True or False")

    def require(self, option: str, holds: Callable[[Any], bool], wanted: str) -> None:
        """Raises `UserError` unless the option is a finite number for which `holds` is true."""
        value = getattr(self, option)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and holds(value)):
            raise UserError(f"{option} = {value!r}: must be {wanted}")

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """The loss of each example, or of each of its units: the mask's shape."""
        raise NotImplementedError

    def example_weights(self, losses: jax.Array, targets: jax.Array) -> jax.Array:
        """The weight of each loss in the mean, of the mask's shape: 1 unless overridden."""
        return jnp.ones_like(losses)

    def divisors(self, weights: jax.Array) -> jax.Array:
        """What each loss adds to the mean's denominator: its weight unless overridden."""
        return weights

    def sums(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Sums:
        """This device's share.

        **Arguments:**

        - `outputs`: float32 by head, [b, ...].
        - `batch`: see `affect_jax.core.batch`; targets and masks of `head` are read.

        **Returns:**

        Scalars to be added over devices.
        """
        predicted, targets, mask = masked(self.head, outputs, batch)
        losses = self.per_example(predicted, targets)
        weights = self.example_weights(losses, targets)
        return {
            "total": jnp.sum(weights * losses, where=mask),
            "weight": jnp.sum(self.divisors(weights), where=mask),
        }

    def value(self, sums: Sums) -> jax.Array:
        """The term's value [] from the sums of all devices; 0 without valid examples."""
        empty = sums["weight"] == 0
        return jnp.where(empty, 0.0, sums["total"] / jnp.where(empty, 1.0, sums["weight"]))


def masked(
    head: str, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Outputs, targets and mask of a head, with zeros in the place of what is masked.

    Zeroing inputs, and not only losses, keeps a masked NaN out of the gradient: the derivative of
    `where(mask, f(x), 0)` alone is 0 times f'(NaN).
    """
    mask = batch[f"{head}_mask"]

    def zeroed(values: jax.Array) -> jax.Array:
        rows = jnp.reshape(mask, mask.shape + (1,) * (values.ndim - mask.ndim))
        return jnp.where(rows, values, jnp.zeros_like(values))

    return zeroed(outputs[head]), zeroed(batch[head]), mask


def at_most(weights: np.ndarray, max_weight: float) -> np.ndarray:
    """Weights cut at `max_weight` times the smallest; 0: left as they are."""
    return np.minimum(weights, max_weight * np.nanmin(weights)) if max_weight else weights
