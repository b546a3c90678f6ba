"""The last feature map of a trunk and the gradient of an output with respect to it, for Grad-CAM.

The last feature map is the last value [b, h, w, C] that a module of the trunk returns, so a trunk
needs no code for it. It comes from `conv5` in `alexnet` and from the last block in `resnet18`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.core.errors import UserError


def compute_gradients(
    model: Any, variables: dict[str, Any], images: jax.Array, head: str, output_index: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes the last feature map and the gradient of one output per image with respect to it.

    **Arguments:**

    - `model`: `models.Model`.
    - `images`: float [b, c, c, 3], normalised.
    - `head`: name of the head; its output is `[b, size]`.
    - `output_index`: int [b], the index in [0, size) of the output to differentiate.

    **Returns:** (feature map, gradient), both float32 [b, h, w, C].

    **Raises:** `UserError` if no module of the trunk returns a feature map.
    """
    path, shape, dtype = _locate_last_feature_map(model, variables, images)

    def output(offset: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sums over images, which are independent of each other in evaluation."""
        captured: list[jax.Array] = []

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            value = method(*args, **kwargs)
            if context.module.path == path and context.method_name == "__call__":
                captured.append(value)
                value = value + offset
            return value

        with nn.intercept_methods(intercept):
            outputs = model.apply(variables, images, train=False)
        selected = jnp.take_along_axis(outputs[head], output_index[:, None], axis=1)
        return selected.sum(), captured[-1]

    gradient, feature_map = jax.grad(output, has_aux=True)(jnp.zeros(shape, dtype))
    return feature_map.astype(jnp.float32), gradient.astype(jnp.float32)


def _locate_last_feature_map(
    model: Any, variables: dict[str, Any], images: jax.Array
) -> tuple[tuple[str, ...], tuple[int, ...], Any]:
    """Returns path, shape and dtype of the trunk's last feature map without computing it."""
    candidates = []

    def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        value = method(*args, **kwargs)
        path = context.module.path
        is_trunk_call = context.method_name == "__call__" and path[:1] == ("trunk",)
        if is_trunk_call and isinstance(value, jax.Array) and value.ndim == 4:
            candidates.append((path, value.shape, value.dtype))
        return value

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda: model.apply(variables, images, train=False))
    if not candidates:
        raise UserError(f"trunk {type(model.trunk).__name__}: no module returns a feature map")
    return candidates[-1]
