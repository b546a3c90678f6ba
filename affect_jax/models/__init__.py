"""Networks: a trunk with heads. The only room that imports linen.

To add a trunk: a new file in this folder with a linen module and `@TRUNKS.register("name")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.models.base import TRUNKS
from affect_jax.models.heads import HEADS, Head
from affect_jax.registry import load_all

__all__ = ["HEADS", "TRUNKS", "Model", "create_model"]


class Model(nn.Module):
    """A trunk and the heads on its features.

    **Arguments:**

    - `trunk`: an entry of `TRUNKS`, created.
    - `sizes`: (head, number of outputs), in the order of the config.
    - `frozen_trunk`: the trunk computes as in evaluation in training too: by running statistics,
      which stay, without dropout; and nothing is computed backwards through it.
    """

    trunk: nn.Module
    sizes: tuple[tuple[str, int], ...]
    dtype: Any
    frozen_trunk: bool = False

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """**Arguments:**

        - `images`: float [b, c, c, 3], normalised.
        - `train`: batch statistics of this batch, over the axis "batch", and dropout by `keys`.
        - `keys`: typed keys [b], one an example; None in evaluation.

        **Returns:** `{head: float32 [b, size]}`.
        """
        frozen = train and self.frozen_trunk  # evaluation explains itself by gradients
        learning = train and not frozen
        features = self.trunk(images.astype(self.dtype), train=learning, keys=keys)  # type: ignore
        if frozen:
            features = jax.lax.stop_gradient(features)
        return {name: Head(size, self.dtype, name=name)(features) for name, size in self.sizes}


def create_model(
    trunk: Mapping[str, Any],
    heads: Sequence[str],
    *,
    num_classes: int = 8,
    dtype: str = "float32",
    frozen_trunk: bool = False,
) -> Model:
    """The network of a config.

    **Arguments:**

    - `trunk`: spec of `TRUNKS`.
    - `heads`: names of `HEADS`, also the keys of the outputs.
    - `dtype`: of the arithmetic, `float32` or `bfloat16`; parameters and outputs are float32.
    - `frozen_trunk`: train the heads alone, see `Model`.

    **Raises:** `UserError` for an unknown name or option.
    """
    compute = jnp.dtype(dtype)
    sizes = tuple((name, HEADS[name](num_classes)) for name in heads)
    return Model(TRUNKS.create(trunk, dtype=compute), sizes, compute, frozen_trunk)


load_all(__name__)
