"""Layers that linen lacks: per-example dropout, response normalisation, pooling, initialisers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from affect_jax.core.materialization import materialize_on_cpu
from affect_jax.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD

Initializer = Callable[..., jax.Array]


def uniform_fan_in() -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for weights of convolutions and linear layers.

    It equals Kaiming uniform with a = sqrt(5): variance 1 / (3 fan_in).
    """
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def uniform_bias(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for the biases of the same layers."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dropout(values: jax.Array, keys: jax.Array | None, *, rate: float, layer: int) -> jax.Array:
    """Dropout with one key per example, so masks are the same on any number of devices.

    **Arguments:**

    - `values`: [b, ...].
    - `keys`: typed keys [b]; None in evaluation, where the values are unchanged.
    - `rate`: share of activations set to zero; the others are divided by 1 - rate.
    - `layer`: a number that is unique among the dropout layers of a network.
    """
    if keys is None or rate == 0:
        return values

    def sample_mask(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, values.shape[1:])

    return jnp.where(jax.vmap(sample_mask)(keys), values / (1 - rate), jnp.zeros((), values.dtype))


def stochastic_depth(
    values: jax.Array, keys: jax.Array | None, *, rate: float, layer: int
) -> jax.Array:
    """Drops the whole branch of an example with probability `rate` (Huang et al. 2016, section 3).

    **Arguments:** as for `dropout`. The branches that are kept are divided by 1 - rate, as in timm.
    """
    if keys is None or rate == 0:
        return values
    ones = jnp.ones((values.shape[0],) + (1,) * (values.ndim - 1), values.dtype)
    return values * dropout(ones, keys, rate=rate, layer=layer)


def layer_norm(x: jax.Array, dtype: Any, name: str) -> jax.Array:
    """Normalises each token, with epsilon 1e-6; creates the layer `name` of a module."""
    return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=dtype, name=name)(x)


def dense(x: jax.Array, features: int, dtype: Any, name: str) -> jax.Array:
    """A linear layer of a transformer, normal with standard deviation 0.02, as in timm."""
    kernel_init = nn.initializers.normal(0.02)
    return nn.Dense(features, kernel_init=kernel_init, dtype=dtype, name=name)(x)


class Embedding(nn.Module):
    """A linear layer on positions and channels, as PyTorch's: [..., h, w, C] -> [..., features]."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", uniform_fan_in(), (*x.shape[-3:], self.features))
        kernel = kernel.astype(self.dtype).reshape(-1, self.features)
        bias = self.param("bias", uniform_bias(kernel.shape[0]), (self.features,))
        return x.reshape(*x.shape[:-3], kernel.shape[0]) @ kernel + bias.astype(self.dtype)


def to_signed_range(images: jax.Array) -> jax.Array:
    """Images with ImageNet's normalisation -> x / 127.5 - 1, in [-1, 1], of pixels x."""
    scale, shift = 2 * np.array(IMAGENET_STD), 2 * np.array(IMAGENET_MEAN) - 1
    return images * scale.astype(images.dtype) + shift.astype(images.dtype)


def local_response_normalisation(values: jax.Array) -> jax.Array:
    """Computes x_i / (2 + 1e-4 * sum of x_j^2 over the five channels around i)^0.75.

    The formula and its constants are those of Krizhevsky et al. 2012, section 3.3. (Caffe and
    PyTorch divide 1e-4 by five.) The computation is in float32.

    **Arguments:** `values`: [..., channels].
    """
    window_sums: Any = _sum_five_channels(jnp.square(values.astype(jnp.float32)))
    inverse_root = lax.rsqrt(2.0 + 1e-4 * window_sums)
    # Two square roots: a power takes three times as long on a CPU.
    return materialize_gradient(values * (inverse_root * jnp.sqrt(inverse_root))).astype(
        values.dtype
    )


@jax.custom_vjp
def _sum_five_channels(values: jax.Array) -> jax.Array:
    """Sums each channel with the two before and the two after it.

    The gradient has the same form; JAX would pad each slice, which is three times as slow on a CPU.
    """
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(2, 2)])
    return functools.reduce(jnp.add, (padded[..., i : i + values.shape[-1]] for i in range(5)))


_sum_five_channels.defvjp(
    lambda values: (_sum_five_channels(values), None),
    lambda _, gradient: (_sum_five_channels(gradient),),
)


@jax.custom_vjp
def materialize(values: jax.Array) -> jax.Array:
    """Materializes a value so that XLA does not recompute it for every consumer (CPU only).

    In AlexNet XLA computed a pooling inside the transposition for a weight gradient: each value
    nine times, with cache misses, a tenth of the step. This function acts only under
    differentiation and does not change finite values.
    """
    return values


@jax.custom_vjp
def materialize_gradient(values: jax.Array) -> jax.Array:
    """Materializes the gradient of a value (CPU only), see `materialize`."""
    return values


materialize.defvjp(
    lambda values: (materialize_on_cpu(values), None), lambda _, gradient: (gradient,)
)
materialize_gradient.defvjp(
    lambda values: (values, None), lambda _, gradient: (materialize_on_cpu(gradient),)
)


def runs_on_this_cpu(values: jax.Array) -> bool:
    """Whether the program is for this CPU; a symbolic batch size belongs to an export."""
    return jax.default_backend() == "cpu" and isinstance(values.shape[0], int)


def compute_in_float32(values: jax.Array) -> bool:
    """Whether a layer computes bfloat16 values in float32: on a CPU, where XLA's bfloat16 is slow.

    In float32 the one-tower AlexNet trains 1.8 times as fast, a step of ResNet18 in seconds.
    """
    return runs_on_this_cpu(values) and values.dtype == jnp.bfloat16


def max_pool(values: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over windows of [b, h, w, C]; padding counts as minus infinity.

    The gradient goes to the first of a window's largest values, as in PyTorch. XLA's own gradient
    is a scatter, which takes 5 to 16 times as long on a CPU. The gradient of the output is
    materialized: rounding it to bfloat16 for every position of a window took six times as long.
    """
    inputs = values.astype(jnp.float32) if compute_in_float32(values) else values
    pooled: Any = _max_pool(inputs, size, stride, padding)
    return materialize_gradient(pooled).astype(values.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(values: jax.Array, size: int, stride: int, padding: int) -> jax.Array:
    # Pads explicitly, with keyword arguments: jax2onnx 0.17.1 ignores the padding of a pooling.
    padded = _pad_with_infinity(values, padding)
    return nn.max_pool(padded, window_shape=(size, size), strides=(stride, stride), padding="VALID")


def _pad_with_infinity(values: jax.Array, padding: int) -> jax.Array:
    pad_width = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jnp.pad(values, pad_width, constant_values=-jnp.inf)


@jax.named_scope("max_pool")  # the name in a profile
def _max_pool_forward(
    values: jax.Array, size: int, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, tuple[int, ...]]]:
    """Returns the maxima and the position of each in its window (uint8)."""
    padded = _pad_with_infinity(values, padding)
    spans = [stride * ((side - size) // stride) + 1 for side in padded.shape[1:3]]
    maxima, argmax = padded[:, : spans[0] : stride, : spans[1] : stride], jnp.zeros((), jnp.uint8)
    for position in range(1, size**2):
        row, column = divmod(position, size)
        candidates = padded[:, row : row + spans[0] : stride, column : column + spans[1] : stride]
        argmax = jnp.where(candidates > maxima, jnp.uint8(position), argmax)
        maxima = jnp.maximum(maxima, candidates)
    return maxima, (argmax, padded.shape)


@jax.named_scope("max_pool")
def _max_pool_backward(
    size: int,
    stride: int,
    padding: int,
    residuals: tuple[jax.Array, tuple[int, ...]],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    argmax, shape = residuals
    zero = jnp.zeros((), gradient.dtype)
    input_gradient = jnp.zeros(shape, gradient.dtype)
    spans = [stride * (side - 1) + 1 for side in gradient.shape[1:3]]
    for position in range(size**2):
        starts = divmod(position, size)
        padding_config = [
            (a, n - a - end, stride - 1)
            for a, n, end in zip(starts, shape[1:3], spans, strict=True)
        ]
        share = jnp.where(argmax == position, gradient, zero)
        input_gradient += lax.pad(share, zero, [(0, 0, 0), *padding_config, (0, 0, 0)])
    height, width = (side - padding for side in shape[1:3])
    input_gradient = input_gradient[:, padding:height, padding:width]
    if jax.default_backend() == "cpu":  # or XLA fuses it into every operation that reads it
        input_gradient = lax.optimization_barrier(input_gradient)
    return (input_gradient,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
