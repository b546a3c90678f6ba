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

BLOCK_ROWS = 8  # rows of a block of `kernel_gradient` that are added in registers
BLOCK_VALUES = 16_384  # values of a block: it and its shifted inputs fit into the L1 or L2 cache


@jax.named_scope("depthwise")  # the name in a profile
def depthwise_convolution(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any
) -> jax.Array:
    """Convolves each channel with its own kernel: [b, h, w, C] and [k, l, 1, C].

    XLA would compute the padding again for each product, and the sum again for each use of it.
    """
    padded = lax.optimization_barrier(jnp.pad(inputs, [(0, 0), *padding, (0, 0)]))
    return lax.optimization_barrier(_convolve(padded, kernel, tuple(strides)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(padded: jax.Array, kernel: jax.Array, strides: tuple[int, ...]) -> Any:
    size = kernel.shape[:2]
    spans = [(n - k) // s * s + 1 for n, k, s in zip(padded.shape[1:3], size, strides, strict=True)]
    products = [
        padded[:, i : i + spans[0] : strides[0], j : j + spans[1] : strides[1]] * kernel[i, j]
        for i, j in itertools.product(*map(range, size))
    ]
    return functools.reduce(jnp.add, products)


def _convolve_backward(
    strides: tuple[int, ...], residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    padded, kernel = residuals
    edges = [
        (k - 1, n - (g - 1) * s - 1, s - 1)
        for k, n, g, s in zip(
            kernel.shape, padded.shape[1:3], gradient.shape[1:3], strides, strict=False
        )
    ]
    zero = jnp.zeros((), gradient.dtype)
    spread = lax.optimization_barrier(lax.pad(gradient, zero, [(0, 0, 0), *edges, (0, 0, 0)]))
    return (
        lax.optimization_barrier(_convolve(spread, kernel[::-1, ::-1], (1, 1))),
        kernel_gradient(padded, gradient, kernel.shape[:2], strides)[:, :, None],
    )


_convolve.defvjp(
    lambda padded, kernel, strides: (_convolve(padded, kernel, strides), (padded, kernel)),
    _convolve_backward,
)


def kernel_gradient(
    padded: jax.Array, gradient: jax.Array, size: tuple[int, ...], strides: tuple[int, ...]
) -> jax.Array:
    """Sums padded[b, s y + i, s x + j, c] * gradient[b, y, x, c] over b, y and x: [k, l, C].

    XLA's own sums over leading axes are not vectorized. So all axes but the channels become one:
    then each element of the kernel is a constant offset between the two arrays. Both are read in
    blocks, once for each element of the kernel while they are in the cache.
    """
    batch, *_, channels = padded.shape
    height, width = (-(-n // s) for n, s in zip(padded.shape[1:3], strides, strict=True))
    rows, columns = strides
    # With strides, inputs that are `s` apart become neighbours: [s, s, b, h, w, C].
    pad_width = [(0, height * rows - padded.shape[1]), (0, width * columns - padded.shape[2])]
    inputs = jnp.pad(padded, [(0, 0), *pad_width, (0, 0)])
    inputs = inputs.reshape(batch, height, rows, width, columns, channels)
    inputs = inputs.transpose(2, 4, 0, 1, 3, 5).reshape(-1, channels)
    pad_width = [(0, height - gradient.shape[1]), (0, width - gradient.shape[2])]
    gradient = jnp.pad(gradient, [(0, 0), *pad_width, (0, 0)]).reshape(-1, channels)
    offsets = [
        ((i % rows * columns + j % columns) * batch * height + i // rows) * width + j // columns
        for i, j in itertools.product(*map(range, size))
    ]
    step = max(1, BLOCK_VALUES // BLOCK_ROWS // channels)
    blocks = -(-len(gradient) // (step * BLOCK_ROWS))
    length = blocks * step * BLOCK_ROWS
    gradient = jnp.pad(gradient, [(0, length - len(gradient)), (0, 0)])
    inputs = jnp.pad(inputs, [(0, max(0, length + max(offsets) - len(inputs))), (0, 0)])

    def add_block(index: jax.Array, sums: jax.Array) -> jax.Array:
        block, element = index // len(offsets), index % len(offsets)
        products = [
            lax.dynamic_slice_in_dim(gradient, start, step)
            * lax.dynamic_slice_in_dim(inputs, start + jnp.asarray(offsets)[element], step)
            for start in (block * BLOCK_ROWS + np.arange(BLOCK_ROWS)) * step
        ]
        return sums.at[element].add(functools.reduce(jnp.add, products))

    sums = jnp.zeros((len(offsets), step, channels), gradient.dtype)
    sums = lax.fori_loop(0, blocks * len(offsets), add_block, sums)
    return jnp.sum(sums, 1).reshape(*size, channels)
