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
    `size`.) The sum is taken in float32.

    **Arguments:**

    - `values`: [..., channels].
    """
    half = size // 2
    squares = jnp.square(values.astype(jnp.float32))
    # On a CPU five times as fast as adding shifted slices.
    window, strides = (1,) * (values.ndim - 1) + (size,), (1,) * values.ndim
    pad = [(0, 0)] * (values.ndim - 1) + [(half, size - 1 - half)]
    total = lax.reduce_window(squares, 0.0, lax.add, window, strides, pad)
    return (values * (bias + alpha * total) ** -beta).astype(values.dtype)


def grouped_convolution(
    inputs: jax.Array, kernel: jax.Array, *arguments: Any, feature_group_count: int, **options: Any
) -> jax.Array:
    """`lax.conv_general_dilated` of channels last, each group a convolution of its own.

    XLA's CPU code for grouped convolutions and their gradients is naive: split, AlexNet's second
    layer trains nine times as fast.
    """
    pairs = zip(
        jnp.split(inputs, feature_group_count, axis=-1),
        jnp.split(kernel, feature_group_count, axis=-1),
        strict=True,
    )
    parts = [lax.conv_general_dilated(*pair, *arguments, **options) for pair in pairs]
    return jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def max_pool(values: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over windows; padding counts as minus infinity."""
    pad = ((padding, padding), (padding, padding))
    return nn.max_pool(values, (size, size), (stride, stride), pad)  # pyright: ignore  # not only str
