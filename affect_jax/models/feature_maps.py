"""A trunk's last feature map, and what the outputs owe to it: the network's part of Grad-CAM.

Any trunk has one, without doing anything for it: the last value [b, h, w, C] that a module of the
trunk returns. Of `alexnet` that is `conv5`, of `resnet18` the last block.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.core.errors import UserError

Place = tuple[str, ...]


def gradients(
    model: Any, variables: dict[str, Any], images: jax.Array, head: str, chosen: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The last feature map and the gradient of one output an image with respect to it.

    **Arguments:**

    - `model`: `models.Model`.
    - `images`: float [b, c, c, 3], normalised.
    - `head`: whose output, `[b, size]`.
    - `chosen`: int [b], which of its `size` numbers.

    **Returns:** both float32 [b, h, w, C].

    **Raises:** `UserError` where no module of the trunk returns a feature map.
    """
    place, shape, dtype = _last(model, variables, images)

    def output(nudge: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The sum over images is fine: in evaluation no image knows of another."""
        seen: list[jax.Array] = []

        def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            value = call(*args, **kwargs)
            if context.module.path == place and context.method_name == "__call__":
                seen.append(value)
                value = value + nudge
            return value

        with nn.intercept_methods(intercept):
            outputs = model.apply(variables, images, train=False)
        picked = jnp.take_along_axis(outputs[head], chosen[:, None], axis=1)
        return picked.sum(), seen[-1]

    gradient, feature_map = jax.grad(output, has_aux=True)(jnp.zeros(shape, dtype))
    return feature_map.astype(jnp.float32), gradient.astype(jnp.float32)


def _last(
    model: Any, variables: dict[str, Any], images: jax.Array
) -> tuple[Place, tuple[int, ...], Any]:
    """Path, shape and type of the trunk's last feature map; nothing is computed."""
    found: list[tuple[Place, tuple[int, ...], Any]] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        value = call(*args, **kwargs)
        path = context.module.path
        called = context.method_name == "__call__" and path[:1] == ("trunk",)
        if called and isinstance(value, jax.Array) and value.ndim == 4:
            found.append((path, value.shape, value.dtype))
        return value

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda: model.apply(variables, images, train=False))
    if not found:
        raise UserError(f"trunk {type(model.trunk).__name__}: no module returns a feature map")
    return found[-1]
