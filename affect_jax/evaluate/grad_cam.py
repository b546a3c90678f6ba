"""Where in a face a network saw its prediction: Grad-CAM (Selvaraju et al. 2017, equations 1, 2).

    importance of channel k = mean over places of d logit / d A_k,
    heat = max(0, sum over k of importance_k A_k),

`A` being the trunk's last feature map, after its ReLU.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.data import preprocessing
from affect_jax.models import feature_maps


def grad_cam(
    model: Any,
    variables: dict[str, Any],
    images: np.ndarray,
    chosen: np.ndarray,
    *,
    crop_size: int,
    head: str = "expression",
    batch_size: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Heat maps of some faces.

    **Arguments:**

    - `model`, `variables`: the network.
    - `images`: uint8 [N, S, S, 3].
    - `chosen`: int [N], the class to explain of each.
    - `crop_size`: c, side of the network's input.

    **Returns:** the faces as the network was given them, uint8 [N, c, c, 3], and their heat,
    float32 [N, c, c] in [0, 1]: the warmest place of each has 1, a face in which nothing speaks
    for the class has 0 everywhere.
    """
    one = jax.jit(functools.partial(_heat, model, crop_size=crop_size, head=head))
    parts = []
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, start + batch_size) % len(images)  # one compiled shape
        heat = np.asarray(one(variables, images[rows], chosen[rows]))
        parts.append(heat[: len(images) - start])
    margin = (images.shape[1] - crop_size) // 2
    faces = images[:, margin : margin + crop_size, margin : margin + crop_size]
    return faces, np.concatenate(parts)


def _heat(
    model: Any,
    variables: dict[str, Any],
    images: jax.Array,
    chosen: jax.Array,
    *,
    crop_size: int,
    head: str,
) -> jax.Array:
    """float32 [b, c, c]."""
    inputs = preprocessing.evaluate(images, crop_size=crop_size)
    feature_map, gradient = feature_maps.gradients(model, variables, inputs, head, chosen)
    # A convolution's values may be from before its ReLU: what is below 0 was not passed on.
    active = jnp.maximum(feature_map, 0)
    importance = gradient.mean(axis=(1, 2))
    heat = jnp.maximum(jnp.einsum("bhwc,bc->bhw", active, importance), 0)
    size = (len(heat), crop_size, crop_size)
    heat = jnp.clip(jax.image.resize(heat, size, "bilinear"), 0)
    warmest = heat.max(axis=(1, 2), keepdims=True)
    return heat / jnp.where(warmest > 0, warmest, 1)
