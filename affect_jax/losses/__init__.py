"""The objective: a weighted sum of loss terms, each the loss of one head.

`sums(outputs, batch)` of a term reduces the examples of one device to a few numbers, which the step
adds over all devices; `value(sums)` then divides once. Masks, class weights and correlations are
therefore exact on any number of devices. Masked examples contribute to neither sums nor gradients,
even if their values are NaN. A term without valid examples is 0, and so is its gradient.

To add a term, add a file to this folder with a subclass of `LossTerm` and
`@LOSSES.register("name")`. To mix losses, list both in `config.losses` with their weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import import_submodules
from affect_jax.losses.action_units import unit_frequencies
from affect_jax.losses.base import LEARNED, LOSSES, LossTerm, Sums

__all__ = ["LEARNED", "LOSSES", "Loss", "LossTerm", "create_loss", "unit_frequencies"]

import_submodules(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """The objective of a run: named terms and their weights.

    A learned weight models homoscedastic uncertainty (Kendall et al. 2018, section 3.2): the term
    adds `exp(-s) L + s` to the objective, where s = log sigma^2 is a trained scalar. This is their
    regression form times 2, used for every kind of term. At the optimal s the term adds
    `1 + log L`, so terms of any magnitude have gradients of comparable size.
    """

    terms: Mapping[str, LossTerm]

    def init(self) -> dict[str, jax.Array]:
        """The initial s of each term with a learned weight: 0 (weight 1). Often empty."""
        return {n: jnp.float32(0) for n, term in self.terms.items() if term.weight == LEARNED}

    def sums(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, Sums]:
        """The sums of one device by term, to be added over devices."""
        return {name: term.sums(outputs, batch) for name, term in self.terms.items()}

    def values(self, sums: Mapping[str, Sums]) -> dict[str, jax.Array]:
        """The unweighted value [] of each term, from the sums of all devices."""
        return {name: term.value(sums[name]) for name, term in self.terms.items()}

    def total(self, values: Mapping[str, jax.Array], params: Mapping[str, jax.Array]) -> jax.Array:
        """The objective [].

        **Arguments:**

        - `values`: result of `values`.
        - `params`: the trained s of each term with a learned weight, as `init` returns them.
        """
        weighted = []
        for name, value in values.items():
            weight, s = self.terms[name].weight, params.get(name)
            # A value of exactly 0 means that there are no valid examples: s must not change.
            weighted.append(
                weight * value if s is None else jnp.where(value == 0, 0.0, jnp.exp(-s) * value + s)
            )
        return sum(weighted[1:], start=weighted[0])


def create_loss(
    specs: Sequence[Mapping[str, Any]],
    class_counts: np.ndarray | None = None,
    unit_frequencies: np.ndarray | None = None,
) -> Loss:
    """Creates the objective that a list of specs describes.

    **Arguments:**

    - `specs`: dicts `{"name": ..., "head": ..., "weight": 1.0 | "learned", option: value, ...}`.
    - `class_counts`: int [C], number of faces of each class in the training split; None without
      expressions.
    - `unit_frequencies`: float [A], see the function of that name; None without action units.

    **Returns:** a loss whose terms are named after their entry, or `<entry>_<head>` if an entry is
    used twice.

    **Raises:** `UserError` for invalid specs and counts that define no weights.
    """
    entries = [spec.get("name") for spec in specs]
    terms: dict[str, LossTerm] = {}
    for index, spec in enumerate(specs):
        try:
            term = LOSSES.create(spec, class_counts=class_counts, unit_frequencies=unit_frequencies)
        except UserError as error:
            raise UserError(f"losses[{index}] ({spec.get('name', '')}): {error}") from None
        name = spec["name"] if entries.count(spec["name"]) == 1 else f"{spec['name']}_{term.head}"
        if name in terms:
            raise UserError(f"losses[{index}] ({spec['name']}): {term.head} already has this term")
        terms[name] = term
    return Loss(terms)
