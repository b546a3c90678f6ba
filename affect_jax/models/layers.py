"""Layers that linen does not have: dropout by example, response normalisation, initialisers."""

from __future__ import annotations

import functools
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
    values: jax.Array, *, size: int = 5, alpha: float = 1e-4, bias: float = 2.0
) -> jax.Array:
    """x_i / (bias + alpha * sum of x_j^2 over the `size` channels around i)^0.75.

    Krizhevsky et al. 2012, section 3.3, with its constants. (Caffe and PyTorch divide alpha by
    `size`.) Computed in float32.

    **Arguments:**

    - `values`: [..., channels].
    """
    squares = jnp.square(values.astype(jnp.float32))
    total: Any = _sum_around(squares, size // 2, size - 1 - size // 2)
    root = lax.rsqrt(bias + alpha * total)
    # By roots, as a power takes a CPU three times as long.
    return keep_gradient(values * (root * jnp.sqrt(root))).astype(values.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _sum_around(values: jax.Array, before: int, after: int) -> jax.Array:
    """Sums over each channel, the `before` ahead of it and the `after` behind it.

    As shifted slices, which a compiler fuses with what stands around them; so is the gradient, for
    which JAX itself would pad each slice: three times as slow on a CPU.
    """
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(before, after)])
    shifted = (padded[..., i : i + values.shape[-1]] for i in range(before + 1 + after))
    return functools.reduce(jnp.add, shifted)


def _sum_around_forward(values: jax.Array, before: int, after: int) -> tuple[jax.Array, None]:
    return _sum_around(values, before, after), None


def _sum_around_backward(before: int, after: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (_sum_around(gradient, after, before),)


_sum_around.defvjp(_sum_around_forward, _sum_around_backward)


@jax.custom_vjp
def keep(values: jax.Array) -> jax.Array:
    """The same values, which training on a CPU stores once for all that use them.

    XLA computes what it thinks cheap anew for every user, in the order of that one's results: a
    pooling inside of a transposition for a weight gradient, each value nine times and out of the
    cache, which was a tenth of AlexNet's step.
    """
    return values


@jax.custom_vjp
def keep_gradient(values: jax.Array) -> jax.Array:
    """The same values; it is their gradient that is stored, see `keep`."""
    return values


def _stored(values: jax.Array) -> jax.Array:
    """By a division, which XLA does not repeat: by 1, so that finite values stay what they are.

    An infinity becomes NaN; either is found where updates are checked.
    """
    return values / (1 + 0 * values) if jax.default_backend() == "cpu" else values


keep.defvjp(lambda values: (_stored(values), None), lambda _, gradient: (gradient,))
keep_gradient.defvjp(lambda values: (values, None), lambda _, gradient: (_stored(gradient),))


def widens(values: jax.Array) -> bool:
    """Whether a layer computes bfloat16 in float32: on a CPU, which has little code for bfloat16.

    AlexNet in one tower trains 1.8 times as fast then; a step of ResNet18 ends, which otherwise
    takes minutes. A batch without a number is an export's, for a machine unknown.
    """
    on_cpu = jax.default_backend() == "cpu" and isinstance(values.shape[0], int)
    return on_cpu and values.dtype == jnp.bfloat16


def max_pool(values: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over windows [b, h, w, C]; padding counts as minus infinity.

    The gradient goes to a window's first largest value, as PyTorch's does. It is written out, as
    XLA's own scatters, which alone takes a CPU 5 to 16 times as long. What arrives there is stored:
    rounded to bfloat16 for each of a window's places anew, it took six times as long.
    """
    wide = values.astype(jnp.float32) if widens(values) else values
    pooled: Any = _max_pool(wide, size, stride, padding)
    return keep_gradient(pooled).astype(values.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(values: jax.Array, size: int, stride: int, padding: int) -> jax.Array:
    # Padded before, and by names: jax2onnx 0.17.1 leaves the padding of a pooling out.
    if padding:
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        values = jnp.pad(values, around, constant_values=-jnp.inf)
    return nn.max_pool(values, window_shape=(size, size), strides=(stride, stride), padding="VALID")


@jax.named_scope("max_pool")  # so that a profile tells what it is
def _max_pool_forward(
    values: jax.Array, size: int, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, tuple[int, ...]]]:
    """The maxima, and at which place of its window each is: uint8."""
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(values, around, constant_values=-jnp.inf)
    ends = [stride * ((side - size) // stride) + 1 for side in padded.shape[1:3]]
    best, place = padded[:, : ends[0] : stride, : ends[1] : stride], jnp.zeros((), jnp.uint8)
    for number in range(1, size**2):
        row, column = divmod(number, size)
        other = padded[:, row : row + ends[0] : stride, column : column + ends[1] : stride]
        place = jnp.where(other > best, jnp.uint8(number), place)
        best = jnp.maximum(best, other)
    return best, (place, padded.shape)


@jax.named_scope("max_pool")
def _max_pool_backward(
    size: int,
    stride: int,
    padding: int,
    kept: tuple[jax.Array, tuple[int, ...]],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    place, shape = kept
    zero = jnp.zeros((), gradient.dtype)
    total = jnp.zeros(shape, gradient.dtype)
    ends = [stride * (side - 1) + 1 for side in gradient.shape[1:3]]
    for number in range(size**2):
        starts = divmod(number, size)
        where = [
            (a, n - a - end, stride - 1) for a, n, end in zip(starts, shape[1:3], ends, strict=True)
        ]
        part = jnp.where(place == number, gradient, zero)
        total += lax.pad(part, zero, [(0, 0, 0), *where, (0, 0, 0)])
    height, width = (side - padding for side in shape[1:3])
    # Stored: a GPU's compiler would put it inside of every kernel that reads it.
    return (lax.optimization_barrier(total[:, padding:height, padding:width]),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
