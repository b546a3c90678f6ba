"""The prediction step: uint8 faces in, predictions in the units of the labels out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from affect_jax.data import preprocessing
from affect_jax.models.network import Network


def predict_step(network: Network, variables: dict, batch: dict, *, mirror: bool = False) -> dict:
    """Predictions in the units of the labels, for every row of the batch, padding included.

    **Arguments:**

    - `variables`: `{"params": ..., "batch_stats": ...}` of the network.
    - `mirror`: average with the predictions for the mirrored faces.

    **Returns:**

    float32, as many as there are heads: `expression` [b, C] probabilities, `valence_arousal`
    [b, 2] in [-1, 1], `action_units` [b, A] probabilities.
    """
    images = preprocessing.evaluate(
        batch["image"], crop_size=network.crop_size, dtype=network.dtype
    )
    outputs = probabilities(network.model.apply(variables, images, train=False))
    if mirror:
        other = probabilities(network.model.apply(variables, lax.rev(images, (2,)), train=False))
        outputs = jax.tree.map(lambda a, b: (a + b) / 2, outputs, other)
    return outputs


def probabilities(outputs: dict) -> dict:
    """The heads' raw outputs as probabilities, or clipped to the range of their labels."""
    ranges = {
        "expression": lambda logits: jax.nn.softmax(logits, axis=-1),
        "valence_arousal": lambda values: jnp.clip(values, -1, 1),
        "action_units": jax.nn.sigmoid,
    }
    return {head: ranges[head](values) for head, values in outputs.items()}
