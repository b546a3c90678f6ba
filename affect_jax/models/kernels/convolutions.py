"""Chooses the algorithm of a convolution by its shape and the backend.

XLA's own algorithm is the fastest for most shapes. The exceptions are groups on all backends, and
depthwise convolutions and outputs smaller than the kernel on CPUs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from affect_jax.models import layers
from affect_jax.models.kernels.depthwise import depthwise_convolution

Padding = Sequence[tuple[int, int]]


def convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """Computes `lax.conv_general_dilated` with the arguments that linen passes.

    Shapes are [b, h, w, C] and [k, l, C / groups, K]. Each group becomes a separate convolution,
    unless each channel is a group. On a CPU the result for bfloat16 inputs is float32 (see
    `layers.compute_in_float32`), and so are the values up to the next layer with weights.
    """
    if layers.compute_in_float32(inputs):
        inputs, kernel = inputs.astype(jnp.float32), kernel.astype(jnp.float32)
    dilations = (options.get(name) or () for name in ("lhs_dilation", "rhs_dilation"))
    specialize = layers.runs_on_this_cpu(inputs) and {*itertools.chain(*dilations)} <= {1}

    def convolve_group(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        if specialize and use_im2col(inputs, kernel, strides, padding):
            return im2col_convolution(inputs, kernel, strides, padding)
        inputs = layers.materialize(inputs)
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **options)

    if feature_group_count == 1:
        return convolve_group(inputs, kernel)
    if feature_group_count == inputs.shape[-1] == kernel.shape[-1]:
        if specialize:
            return depthwise_convolution(inputs, kernel, strides, padding)
        options |= {"feature_group_count": feature_group_count}
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **options)
    group_arrays = (jnp.split(array, feature_group_count, axis=-1) for array in (inputs, kernel))
    return jnp.concatenate(
        [convolve_group(*arrays) for arrays in zip(*group_arrays, strict=True)], axis=-1
    )


def use_im2col(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> bool:
    """Whether the output is smaller than the kernel, but not empty."""
    sides, sizes = np.array(inputs.shape[1:3]), np.array(kernel.shape[:2])
    positions = (sides + np.sum(padding, axis=1) - sizes) // strides + 1
    return bool((positions < sizes).any() and (positions > 0).all())


@jax.named_scope("im2col")  # the name in a profile
def im2col_convolution(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> jax.Array:
    """Computes a convolution as a matrix product of the patches of the image with the kernel."""
    padded = jnp.pad(inputs, [(0, 0), *padding, (0, 0)])
    kernel_height, kernel_width = kernel.shape[:2]
    height, width = padded.shape[1] - kernel_height + 1, padded.shape[2] - kernel_width + 1
    patches = [
        padded[:, row : row + height : strides[0], column : column + width : strides[1]]
        for row, column in itertools.product(range(kernel_height), range(kernel_width))
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
