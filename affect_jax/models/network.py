"""A network: a trunk with heads, and what prediction needs beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.config import Config, to_dict
from affect_jax.models.base import TRUNKS
from affect_jax.models.heads import HEADS, Head


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


def model_from_spec(
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What prediction needs of a run; no data are needed to have it, see `create_network`."""

    model: Any  # linen module: images -> {head: outputs}
    heads: tuple[str, ...]
    crop_size: int  # side of the network's input, pixels
    dtype: Any  # of the images that enter the network


def create_network(config: Config) -> Network:
    """The network of a checked config, for prediction alone."""
    return Network(
        model=create_model(config),
        heads=tuple(config.heads),
        crop_size=config.data.crop_size,
        dtype=jnp.dtype(config.dtype),
    )


def create_model(config: Config, *, frozen_trunk: bool = False) -> Model:
    """The flax module of a checked config; see `model_from_spec`."""
    return model_from_spec(
        to_dict(config.trunk),
        tuple(config.heads),
        num_classes=config.data.num_classes,
        dtype=config.dtype,
        frozen_trunk=frozen_trunk,
    )
