"""Training metrics gathered inside the step: clu metrics, merged over devices and steps.

They are what the log and TensorBoard show between evaluations; the protocol's scores are computed
from predictions by this package's other modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics


def collection(terms: Sequence[str], heads: Sequence[str]) -> type[metrics.Collection]:
    """The collection of a run, as a clu class.

    **Arguments:**

    - `terms`: the objective's terms; each is shown as `loss_<term>`.
    - `heads`: the model's heads; with `expression` among them, top-1 `accuracy` is shown.

    **Returns:**

    A class whose `gather_from_model_output(axis_name="batch", **step_outputs(...))` runs inside
    the step. Means are over steps, `accuracy` is over annotated faces.
    """
    averages = ["loss", "gradient_norm", *(f"loss_{term}" for term in terms)]
    members: dict[str, Any] = {name: metrics.Average.from_output(name) for name in averages}
    if "expression" in heads:
        members["accuracy"] = metrics.Average.from_fun(_expression_hits)
    return metrics.Collection.create(**members)


def step_outputs(loss: Any, values: dict, gradient_norm: Any, outputs: dict, batch: dict) -> dict:
    """What a step hands to the collection: scalars, and outputs with the batch they belong to."""
    terms = {f"loss_{name}": value for name, value in values.items()}
    return dict(loss=loss, gradient_norm=gradient_norm, outputs=outputs, batch=batch, **terms)


def one_a_step(collections: Sequence[Any]) -> list[Any]:
    """Collections on the host, one a step: those of several steps, whose arrays have a leading
    axis, are taken apart."""
    found = []
    for collection in collections:
        leaves = jax.tree.leaves(collection)
        if np.ndim(leaves[0]) == 0:
            found.append(collection)
        else:
            for step in range(len(leaves[0])):
                found.append(jax.tree.map(lambda array, step=step: array[step], collection))
    return found


def _expression_hits(outputs: Any, batch: Any, **_: Any) -> dict[str, jax.Array]:
    hits = jnp.argmax(outputs["expression"], axis=-1) == batch["expression"]
    # clu forwards a mask of the wrong length as no mask: this one has the hits' own shape.
    return {"values": hits.astype(jnp.float32), "mask": batch["expression_mask"]}
