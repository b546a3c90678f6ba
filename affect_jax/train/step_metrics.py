"""Training metrics computed inside the step: clu metrics, merged over devices and steps.

The log and TensorBoard show them between evaluations. `affect_jax.metrics` computes the scores of
the protocol from predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics


def create_collection(terms: Sequence[str], heads: Sequence[str]) -> type[metrics.Collection]:
    """Creates the metrics collection of a run, a clu class.

    **Arguments:**

    - `terms`: names of the loss terms; each is logged as `loss_<term>`.
    - `heads`: the heads of the model; if `expression` is one, top-1 `accuracy` is logged.

    **Returns:**

    A class whose `gather_from_model_output(axis_name="batch", ...)` runs inside the step. Means are
    over steps; `accuracy` is over annotated faces.
    """
    averages = ["loss", "gradient_norm", *(f"loss_{term}" for term in terms)]
    members: dict[str, Any] = {name: metrics.Average.from_output(name) for name in averages}
    if "expression" in heads:
        members["accuracy"] = metrics.Average.from_fun(_expression_is_correct)
    return metrics.Collection.create(**members)


def per_step_metrics(collections: Sequence[Any]) -> list[Any]:
    """Splits collections on the host that cover several steps (leading axis) into one per step."""
    per_step = []
    for collection in collections:
        steps = np.shape(collection.loss.total)  # () or (K,)
        for index in np.ndindex(steps):
            per_step.append(jax.tree.map(lambda array, index=index: array[index], collection))
    return per_step


def _expression_is_correct(outputs: Any, batch: Any, **_: Any) -> dict[str, jax.Array]:
    hits = jnp.argmax(outputs["expression"], axis=-1) == batch["expression"]
    # The mask has the same shape as the values: clu ignores a mask of another length.
    return {"values": hits.astype(jnp.float32), "mask": batch["expression_mask"]}
