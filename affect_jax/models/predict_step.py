"""The prediction step: from uint8 faces to predictions in the units of the labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from affect_jax.data import preprocessing
from affect_jax.models.network import Network


def predict_step(network: Network, variables: dict, batch: dict, *, mirror: bool = False) -> dict:
    """Predicts every row of the batch, padding included, in the units of the labels.

    **Arguments:**

    - `variables`: `{"params": ..., "batch_stats": ...}` of the network.
    - `mirror`: average the predictions with those for the mirrored faces.

    **Returns:**

    One float32 array per head: `expression` [b, C] probabilities, `valence_arousal` [b, 2] in
    [-1, 1], `action_units` [b, A] probabilities.
    """
    images = preprocessing.preprocess_for_evaluation(
        batch["image"], crop_size=network.crop_size, dtype=network.dtype
    )
    outputs = to_label_units(network.model.apply(variables, images, train=False))
    if mirror:
        mirrored_outputs = to_label_units(
            network.model.apply(variables, lax.rev(images, (2,)), train=False)
        )
        outputs = jax.tree.map(lambda a, b: (a + b) / 2, outputs, mirrored_outputs)
    return outputs


def to_label_units(outputs: dict) -> dict:
    """Converts raw outputs of the heads to probabilities, or clips them to the labels' range."""
    convert = {
        "expression": lambda logits: jax.nn.softmax(logits, axis=-1),
        "valence_arousal": lambda values: jnp.clip(values, -1, 1),
        "action_units": jax.nn.sigmoid,
    }
    return {head: convert[head](values) for head, values in outputs.items()}
