"""Depthwise convolutions as sums of shifted products, for CPUs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BLOCK_PARTS = 8  # products that `kernel_gradient` adds in registers
BLOCK_VALUES = 16_384  # values of a block: it and its shifted inputs stay in the cache


@jax.named_scope("depthwise")  # the name in a profile
def depthwise_convolution(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any
) -> jax.Array:
    """Convolves each channel with its own kernel: [b, h, w, C] and [k, l, 1, C].

    The barriers prevent that XLA pads again for each product and adds again for each use.
    """
    padded = lax.optimization_barrier(jnp.pad(inputs, [(0, 0), *padding, (0, 0)]))
    return lax.optimization_barrier(_convolve(padded, kernel, tuple(strides)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(padded: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> Any:
    rows, columns = (n - k + 1 for n, k in zip(padded.shape[1:3], kernel.shape, strict=False))
    products = [
        padded[:, i : i + rows : strides[0], j : j + columns : strides[1]] * kernel[i, j]
        for i, j in itertools.product(*map(range, kernel.shape[:2]))
    ]
    return functools.reduce(jnp.add, products)


def _convolve_backward(
    strides: tuple[int, ...], residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    padded, kernel = residuals
    sides = zip(padded.shape[1:3], gradient.shape[1:3], kernel.shape, strides, strict=False)
    edges = [(k - 1, n - (m - 1) * s - 1, s - 1) for n, m, k, s in sides]
    zero = jnp.zeros((), gradient.dtype)
    spread = lax.optimization_barrier(lax.pad(gradient, zero, [(0, 0, 0), *edges, (0, 0, 0)]))
    input_gradient = lax.optimization_barrier(_convolve(spread, kernel[::-1, ::-1], (1, 1)))
    spread = spread[:, kernel.shape[0] - 1 :, kernel.shape[1] - 1 :]
    return input_gradient, kernel_gradient(padded, spread, kernel.shape)


_convolve.defvjp(
    lambda padded, kernel, strides: (_convolve(padded, kernel, strides), (padded, kernel)),
    _convolve_backward,
)


def kernel_gradient(inputs: jax.Array, gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sums inputs[b, y + i, x + j, c] * gradient[b, y, x, c] over b, y and x: [k, l, 1, C].

    XLA's own sums over leading axes are not vectorized. So b, y and x become one axis, on which
    each element (i, j) of the kernel is an offset. It is read in blocks, once for each element.

    **Arguments:** `inputs`, `gradient`: [b, h, w, C]; the gradient is 0 where a sum would leave the
    image.
    """
    channels = shape[-1]
    offsets = [i * inputs.shape[2] + j for i, j in itertools.product(*map(range, shape[:2]))]
    inputs, gradient = inputs.reshape(-1, channels), gradient.reshape(-1, channels)
    step = max(1, BLOCK_VALUES // BLOCK_PARTS // channels)
    blocks = -(-len(gradient) // (step * BLOCK_PARTS))
    margin = blocks * step * BLOCK_PARTS - len(gradient)
    gradient = jnp.pad(gradient, [(0, margin), (0, 0)])
    inputs = jnp.pad(inputs, [(0, margin + max(offsets)), (0, 0)])

    def add_block(index: jax.Array, sums: jax.Array) -> jax.Array:
        block, element = index // len(offsets), index % len(offsets)
        offset = jnp.asarray(offsets)[element]
        products = [
            lax.dynamic_slice_in_dim(gradient, start, step)
            * lax.dynamic_slice_in_dim(inputs, start + offset, step)
            for start in (block * BLOCK_PARTS + np.arange(BLOCK_PARTS)) * step
        ]
        return sums.at[element].add(functools.reduce(jnp.add, products))

    sums = jnp.zeros((len(offsets), step, channels), gradient.dtype)
    sums = lax.fori_loop(0, blocks * len(offsets), add_block, sums)
    return jnp.sum(sums, 1).reshape(shape)
