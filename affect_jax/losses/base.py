"""The base class of loss terms: sums on each device, and one division by their totals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import (
    NOT_NEGATIVE,
    Registry,
    Requirement,
    describe_unknown_name,
    require_option,
)

Sums = dict[str, jax.Array]

LOSSES = Registry("loss")
LEARNED = "learned"  # value of `weight` if the weight is trained with the network

CAP: Requirement = (lambda v: v == 0 or v >= 1, "1 or more, or 0 for no cap")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LossTerm:
    """A loss term: the mean of per-example losses over the valid examples.

    **Arguments:**

    - `head`: the head whose outputs enter the term.
    - `weight`: factor in the objective, 0 (only logged) or more; or `"learned"`.

    A subclass with a field `class_counts` or `unit_frequencies` receives the counts of the training
    split, see `create_loss`. Its class attributes are `heads`, the heads that it supports, and
    `requirements` of numeric options.
    """

    head: str
    weight: float | str = 1.0

    heads: ClassVar[tuple[str, ...]] = ()
    requirements: ClassVar[Mapping[str, Requirement]] = {}

    def __post_init__(self) -> None:
        if self.head not in self.heads:
            raise UserError(f"head = {describe_unknown_name(self.head, self.heads)}")
        if self.weight != LEARNED:
            require_option("weight", self.weight, NOT_NEGATIVE[0], f"0 or more, or {LEARNED!r}")
        for option, requirement in self.requirements.items():
            require_option(option, getattr(self, option), *requirement)

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """The loss of each example, or of each of its units, in the shape of the mask.

        A subclass overrides this method, or `sums` and `value`.
        """
        raise NotImplementedError

    def example_weights(self, losses: jax.Array, targets: jax.Array) -> jax.Array:
        """The weight of each loss in the mean, in the shape of the mask: 1 unless overridden."""
        return jnp.ones_like(losses)

    def sums(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Sums:
        """Reduces the examples of this device.

        **Arguments:**

        - `outputs`: float32 [b, ...] by head.
        - `batch`: see `affect_jax.core.batch`; the term reads the targets and the mask of `head`.
          If it has a distribution over classes, each loss is the expectation over its classes.

        **Returns:** scalars to be added over devices.
        """
        predicted, targets, mask = zero_masked(self.head, outputs, batch)
        distribution = batch.get(f"{self.head}_distribution")
        if distribution is None:
            total, weight = self.weigh(predicted, targets)
        else:
            classes = jnp.arange(distribution.shape[-1], dtype=targets.dtype)[:, None]
            classes = jnp.broadcast_to(classes, (len(classes), len(targets)))
            values = jax.vmap(self.weigh, in_axes=(None, 0))(predicted, classes)
            total, weight = (jnp.sum(distribution.T * value, axis=0) for value in values)
        return {"total": jnp.sum(total, where=mask), "weight": jnp.sum(weight, where=mask)}

    def weigh(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The weighted losses and their contributions to the mean's denominator."""
        losses = self.per_example(outputs, targets)
        weights = self.example_weights(losses, targets)
        return weights * losses, weights

    def value(self, sums: Sums) -> jax.Array:
        """The value [] of the term from the sums of all devices; 0 without valid examples."""
        empty = sums["weight"] == 0
        return jnp.where(empty, 0.0, sums["total"] / jnp.where(empty, 1.0, sums["weight"]))


def zero_masked(
    head: str, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns outputs, targets and mask of a head, with masked outputs and targets set to zero.

    Zeroing the inputs instead of the losses keeps a masked NaN out of the gradient: the derivative
    of `where(mask, f(x), 0)` is 0 times f'(NaN), which is NaN.
    """
    mask = batch[f"{head}_mask"]

    def zero(values: jax.Array) -> jax.Array:
        row_mask = jnp.reshape(mask, mask.shape + (1,) * (values.ndim - mask.ndim))
        return jnp.where(row_mask, values, jnp.zeros_like(values))

    return zero(outputs[head]), zero(batch[head]), mask


def cap_weights(weights: np.ndarray, max_weight: float) -> np.ndarray:
    """Caps weights at `max_weight` times the smallest weight; 0 means no cap."""
    return np.minimum(weights, max_weight * np.nanmin(weights)) if max_weight else weights
