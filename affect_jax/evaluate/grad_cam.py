"""Grad-CAM heat maps of predictions (Selvaraju et al. 2017, equations 1 and 2).

    importance of channel k = mean over positions of d logit / d A_k,
    heat = max(0, sum over k of importance_k A_k),

where `A` is the last feature map of the trunk, after its ReLU. A trunk with a signed feature map
(`SIGNED_FEATURE_MAP`) has no such ReLU.
"""

from __future__ import annotations

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
    class_indices: np.ndarray,
    *,
    crop_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes heat maps of faces, uint8 [N, S, S, 3], for one class of each, int [N].

    **Returns:** the cropped faces that the network sees, uint8 [N, c, c, 3] with c = `crop_size`,
    and their heat maps, float32 [N, c, c] in [0, 1]. The maximum of each map is 1. A map is 0
    everywhere if no position increases the logit.
    """

    @jax.jit
    def compute_heat_maps(variables, images, class_indices):
        inputs = preprocessing.preprocess_for_evaluation(images, crop_size=crop_size)
        feature_map, gradient = feature_maps.compute_gradients(
            model, variables, inputs, "expression", class_indices
        )
        is_signed = getattr(model.trunk, "SIGNED_FEATURE_MAP", False)
        # The feature map may be the input of its ReLU.
        active = feature_map if is_signed else jnp.maximum(feature_map, 0)
        importance = gradient.mean(axis=(1, 2))
        heat = jnp.maximum(jnp.einsum("bhwc,bc->bhw", active, importance), 0)
        size = (len(heat), crop_size, crop_size)
        heat = jnp.clip(jax.image.resize(heat, size, "bilinear"), 0)
        maximum = heat.max(axis=(1, 2), keepdims=True)
        return heat / jnp.where(maximum > 0, maximum, 1)

    margin = (images.shape[1] - crop_size) // 2
    faces = images[:, margin : margin + crop_size, margin : margin + crop_size]
    return faces, np.asarray(compute_heat_maps(variables, images, class_indices))
