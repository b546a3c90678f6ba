"""The last feature map of a trunk and the gradient of an output with respect to it, for Grad-CAM.

The last feature map is the last value [b, h, w, C] that a module of the trunk returns: of `conv5`
in `alexnet`, of the last block in a ResNet, of the patches that enter the last block in a ViT.
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

    def run(path: tuple[str, ...] = (), offset: jax.Array | float = 0.0) -> tuple[Any, list]:
        """Returns the outputs and (path, feature map) of each module; adds an offset to one."""
        feature_maps = []

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            value, module = method(*args, **kwargs), context.module
            is_trunk_call = context.method_name == "__call__" and module.path[:1] == ("trunk",)
            if is_trunk_call and isinstance(value, jax.Array) and value.ndim == 4:
                feature_maps.append((module.path, value))
                value = value + offset if module.path == path else value
            return value

        with nn.intercept_methods(intercept):
            return model.apply(variables, images, train=False), feature_maps

    def output(offset: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sums over images, which are independent of each other in evaluation."""
        outputs, feature_maps = run(path, offset)
        selected = jnp.take_along_axis(outputs[head], output_index[:, None], axis=1)
        return selected.sum(), dict(feature_maps)[path]

    shapes: list = []
    jax.eval_shape(lambda: shapes.extend(run()[1]))  # computes nothing
    if not shapes:
        raise UserError(f"trunk {type(model.trunk).__name__}: no module returns a feature map")
    path, last = shapes[-1]
    gradient, feature_map = jax.grad(output, has_aux=True)(jnp.zeros(last.shape, last.dtype))
    return feature_map.astype(jnp.float32), gradient.astype(jnp.float32)
