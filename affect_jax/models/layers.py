"""Layers that linen does not have: dropout by example, response normalisation, initialisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Initializer = Callable[..., jax.Array]


def uniform_fan_in() -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for weights of convolutions and linear layers.

    Equal to Kaiming's uniform with a = sqrt(5): variance 1 / (3 fan_in).
    """
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def uniform_bias(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for the biases of the same layers."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Dropout(nn.Module):
    """Dropout whose mask belongs to the example: the same on any number of devices.

    **Arguments:**

    - `rate`: share of activations set to zero; the others are divided by 1 - rate.
    - `layer`: a number of its own for each dropout layer of a network.
    """

    rate: float
    layer: int

    def __call__(self, values: jax.Array, keys: jax.Array | None) -> jax.Array:
        """**Arguments:** `values`: [b, ...]; `keys`: typed keys [b], None in evaluation."""
        if keys is None or self.rate == 0:
            return values

        def one(key: jax.Array) -> jax.Array:
            kept = 1 - self.rate
            return jax.random.bernoulli(jax.random.fold_in(key, self.layer), kept, values.shape[1:])

        mask = jax.vmap(one)(keys)
        return jnp.where(mask, values / (1 - self.rate), jnp.zeros((), values.dtype))


def local_response_normalisation(
    values: jax.Array,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 2.0,
) -> jax.Array:
    """x_i / (bias + alpha * sum of x_j^2 over the `size` channels around i)^beta.

    Krizhevsky et al. 2012, section 3.3, with its constants. (Caffe and PyTorch divide alpha by
    `size`.) The sum is taken in float32; XLA fuses squares, sum and power.

    **Arguments:**

    - `values`: [..., channels].
    """
    half = size // 2
    squares = jnp.square(values.astype(jnp.float32))
    pad = [(0, 0)] * (values.ndim - 1) + [(half, size - 1 - half)]
    padded = jnp.pad(squares, pad)
    channels = values.shape[-1]
    total = sum(lax.slice_in_dim(padded, i, i + channels, axis=-1) for i in range(size))
    return (values * (bias + alpha * total) ** -beta).astype(values.dtype)


def max_pool(values: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over windows; padding counts as minus infinity."""
    pad = ((padding, padding), (padding, padding))
    return nn.max_pool(values, (size, size), (stride, stride), pad)  # pyright: ignore  # not only str
