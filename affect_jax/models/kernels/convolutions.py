"""Chooses the fastest algorithm for a convolution by its shape and the backend.

XLA's own algorithm is the fastest for most shapes. The alternatives are im2col for kernels
with few positions on CPUs, Winograd's algorithm for many channels on CPUs (module `winograd`), and
space-to-depth for images on GPUs (off by default).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from affect_jax.models import layers
from affect_jax.models.kernels import winograd

SPACE_TO_DEPTH = False
"""Compute the first convolution of a network by `space_to_depth_convolution` on GPUs.

Off by default as it has not been measured on a GPU; `benchmarks.gpu` measures it beside the
default. It is read when a network is traced.
"""

Padding = Sequence[tuple[int, int]]
MAX_IMAGE_CHANNELS = 4  # inputs with more channels are feature maps
CHANNEL_ALIGNMENT = 8  # tensor cores process channels in groups of 8 in bfloat16


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

    Shapes are [b, h, w, C] and [k, l, C / groups, K].

    Each group becomes a separate convolution, as XLA's CPU code for grouped convolutions and their
    gradients is slow. AlexNet's second layer then trains nine times as fast on a CPU, and its step
    is 1.4 times as fast on an H200. On a CPU the result for bfloat16 inputs is float32 (see
    `layers.compute_in_float32`), and so are the values up to the next layer with weights.
    """
    dilations = (options.get(name) or () for name in ("lhs_dilation", "rhs_dilation"))
    if any(step != 1 for steps in dilations for step in steps):
        options["feature_group_count"] = feature_group_count
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **options)
    if layers.compute_in_float32(inputs):
        inputs, kernel = inputs.astype(jnp.float32), kernel.astype(jnp.float32)

    def convolve_group(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        arguments = (inputs, kernel, strides, padding)
        if winograd.use_winograd(*arguments):
            return winograd.convolution(inputs, kernel)
        if use_im2col(*arguments):
            return im2col_convolution(*arguments)
        if use_space_to_depth(inputs, kernel, strides):
            return space_to_depth_convolution(*arguments, **options)
        return lax.conv_general_dilated(
            layers.materialize(inputs), kernel, strides, padding, **options
        )

    if feature_group_count == 1:
        return convolve_group(inputs, kernel)
    group_arrays = (jnp.split(array, feature_group_count, axis=-1) for array in (inputs, kernel))
    return jnp.concatenate(
        [convolve_group(*arrays) for arrays in zip(*group_arrays, strict=True)], axis=-1
    )


def use_im2col(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> bool:
    """Whether the output is smaller than the kernel on a CPU, where XLA's code for that is slow.

    A 3 x 3 kernel on 2 x 2 pixels of 512 channels took 25 times as long as on 4 x 4 pixels, and a
    step of ResNet18 with crops of 64 pixels four times as long as with crops of 112.
    """
    if jax.default_backend() != "cpu" or not isinstance(inputs.shape[0], int):
        return False
    axes = list(zip(inputs.shape[1:3], kernel.shape, strides, padding, strict=False))
    positions = [output_size(*axis) for axis in axes]
    has_few_positions = any(
        count < size for count, (_, size, *_) in zip(positions, axes, strict=True)
    )
    return has_few_positions and min(positions) > 0  # the trunk reports an image that is too small


def output_size(side: int, size: int, stride: int, padding: Sequence[int]) -> int:
    """Number of positions of a kernel of length `size` along a side."""
    return (side + sum(padding) - size) // stride + 1


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


def use_space_to_depth(inputs: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> bool:
    """Whether the input is an image on a GPU and `SPACE_TO_DEPTH` is on.

    Three channels leave tensor cores idle: the first layer took a third of AlexNet's step on an
    H200. Space-to-depth has not been measured there, so it is off by default.
    """
    if not SPACE_TO_DEPTH:
        return False
    has_equal_strides = 1 < strides[0] == strides[1] < min(kernel.shape[:2])
    on_gpu = jax.default_backend() == "gpu" and isinstance(inputs.shape[0], int)
    return on_gpu and has_equal_strides and inputs.shape[-1] <= MAX_IMAGE_CHANNELS


def space_to_depth_convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    **options: Any,
) -> jax.Array:
    """Computes a strided convolution as one with stride 1 on blocks of stride x stride pixels.

    The pixels of a block become its channels: 3 channels become 48 in AlexNet, and 12 plus 4 of
    zeros in ResNet.
    """
    stride, no_padding = strides[0], (0, 0, 0)
    image_padding, kernel_padding = [], []
    for side, size, (before, after) in zip(inputs.shape[1:3], kernel.shape, padding, strict=False):
        num_blocks = -(-size // stride)  # blocks that the kernel covers
        padded_side = stride * (output_size(side, size, stride, (before, after)) - 1 + num_blocks)
        image_padding.append((before, padded_side - side - before, 0))
        kernel_padding.append((0, stride * num_blocks - size, 0))
    images = lax.pad(inputs, jnp.zeros((), inputs.dtype), [no_padding, *image_padding, no_padding])
    weights = lax.pad(
        kernel, jnp.zeros((), kernel.dtype), [*kernel_padding, no_padding, no_padding]
    )
    return lax.conv_general_dilated(
        _space_to_depth(images, 1, stride),
        _space_to_depth(weights, 0, stride),
        (1, 1),
        "VALID",
        **options,
    )


def _space_to_depth(array: jax.Array, axis: int, size: int) -> jax.Array:
    """[.., h, w, C, ..] -> [.., h / size, w / size, size^2 C plus zeros, ..]; h is at `axis`."""
    height, width, channels = array.shape[axis : axis + 3]
    leading, trailing = array.shape[:axis], array.shape[axis + 3 :]
    rows, columns = height // size, width // size
    split = array.reshape(*leading, rows, size, columns, size, channels, *trailing)
    merged = size**2 * channels
    blocks = split.swapaxes(axis + 1, axis + 2).reshape(*leading, rows, columns, merged, *trailing)
    channel_padding = [(0, 0)] * blocks.ndim
    channel_padding[axis + 2] = (0, -merged % CHANNEL_ALIGNMENT)
    return jnp.pad(blocks, channel_padding)
