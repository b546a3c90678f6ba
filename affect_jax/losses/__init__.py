"""The objective: a weighted sum of terms, each the loss of one head.

A term has two halves. `sums(outputs, batch)` reduces the examples of one device to a few numbers;
the step adds these over all devices; `value(sums)` divides, once, by global counts. So masks,
class weights and correlations mean the same on 1 and on 1,000 devices. Nothing else divides.

Masked examples enter neither sums nor gradients, whatever stands in their place, NaN included. A
term without any valid example is 0, and so is its gradient.

To add a term: a new file in this folder, a subclass of `Term`, `@LOSSES.register("name")`.
To mix losses (squared error and CCC, say) list both in `config.losses`, with their weights.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import load_all
from affect_jax.losses.action_units import ACTIVE, unit_frequencies
from affect_jax.losses.base import LEARNED, LOSSES, Sums, Term

__all__ = ["ACTIVE", "LEARNED", "LOSSES", "Loss", "Term", "create_loss", "unit_frequencies"]

load_all(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """A run's objective: named terms and their weights.

    A learned weight is that of homoscedastic uncertainty (Kendall et al. 2018, section 3.2): the
    term enters as `exp(-s) L + s`, s = log sigma^2 a trained scalar. It is their regression form
    times 2, used for terms of every kind; at the best s the term adds `1 + log L`, so terms of
    any size pull with comparable force.
    """

    terms: Mapping[str, Term]

    @property
    def names(self) -> tuple[str, ...]:
        """The terms' unique names, in the config's order."""
        return tuple(self.terms)

    def init(self) -> dict[str, jax.Array]:
        """The trained s of each term with a learned weight, at 0 (weight 1); often empty."""
        learned = [name for name, term in self.terms.items() if term.weight == LEARNED]
        return {name: jnp.zeros((), jnp.float32) for name in learned}

    def sums(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, Sums]:
        """One device's sums by term; to be added over devices."""
        return {name: term.sums(outputs, batch) for name, term in self.terms.items()}

    def values(self, sums: Mapping[str, Sums]) -> dict[str, jax.Array]:
        """Each term's value [], not yet weighted, from the sums of all devices."""
        return {name: term.value(sums[name]) for name, term in self.terms.items()}

    def total(self, values: Mapping[str, jax.Array], params: Mapping[str, jax.Array]) -> jax.Array:
        """The objective [].

        **Arguments:**

        - `values`: from `values`.
        - `params`: the trained part, shaped as `init` returns it.
        """
        weighted = [self._weighted(name, value, params) for name, value in values.items()]
        return sum(weighted[1:], start=weighted[0])

    def _weighted(self, name: str, value: jax.Array, params: Mapping[str, jax.Array]) -> jax.Array:
        weight = self.terms[name].weight
        if not isinstance(weight, str):  # the one text is LEARNED
            return weight * value
        # A value of exactly 0 has no examples behind it: its s must stay where it is.
        s = params[name]
        return jnp.where(value == 0, 0.0, jnp.exp(-s) * value + s)


def create_loss(
    terms: Sequence[Mapping[str, Any]],
    class_counts: np.ndarray | None = None,
    unit_frequencies: np.ndarray | None = None,
) -> Loss:
    """The objective that a config's `losses` describes.

    **Arguments:**

    - `terms`: specs `{"name": ..., "head": ..., "weight": 1.0 | "learned", option: value, ...}`.
    - `class_counts`: int [C], faces of each class in the training split; None without expressions.
    - `unit_frequencies`: float [A], see the function; None without action units.

    **Returns:**

    A loss whose terms are named by their entry, or `<entry>_<head>` where an entry is used twice.

    **Raises:** `UserError` for unknown names, impossible options, a head that the term cannot
    judge, and counts from which no weight follows.
    """
    if not terms:
        raise UserError("losses: empty; a run needs at least one term")
    uses = collections.Counter(spec["name"] for spec in terms if "name" in spec)
    named: dict[str, Term] = {}
    for i, spec in enumerate(terms):
        try:
            term = LOSSES.create(spec, class_counts=class_counts, unit_frequencies=unit_frequencies)
        except UserError as error:
            entry = f" ({spec['name']})" if "name" in spec else ""
            raise UserError(f"losses[{i}]{entry}: {error}") from None
        name = spec["name"] if uses[spec["name"]] == 1 else f"{spec['name']}_{term.head}"
        if name in named:
            raise UserError(
                f"losses[{i}] ({spec['name']}): head {term.head!r} has this term already; keep one "
                "and add the weights"
            )
        named[name] = term
    return Loss(named)
