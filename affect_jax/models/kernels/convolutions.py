"""Convolutions in the way that suits the machine at hand; the sums are always the same.

XLA's own way is the best for most shapes. The others, each with the shapes it is for: here those of
GPUs and of few places, in `winograd` those of many channels.
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

Padding = Sequence[tuple[int, int]]
FEW = 4  # channels of an image, at most
ALIGNED = 8  # channels that tensor cores take at once, in bfloat16


def convolution(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` as linen calls it: [b, h, w, C], [k, l, C / groups, K].

    Each group is a convolution of its own: XLA's CPU code for groups and their gradients is naive;
    split, AlexNet's second layer trains nine times as fast there, and its step 1.4 times as fast on
    an H200. Of bfloat16 a CPU's results are float32, see `layers.widens`: so is what follows, up to
    the next layer that has weights.
    """
    dilations = (options.get(name) or () for name in ("lhs_dilation", "rhs_dilation"))
    if any(step != 1 for steps in dilations for step in steps):
        options["feature_group_count"] = feature_group_count
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **options)
    if layers.widens(inputs):
        inputs, kernel = inputs.astype(jnp.float32), kernel.astype(jnp.float32)

    def one(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        given = (inputs, kernel, strides, padding)
        if winograd.fits(*given):
            return winograd.convolution(inputs, kernel)
        if _few_places(*given):
            return of_windows(*given)
        if _few_channels(inputs, kernel, strides):
            return of_blocks(*given, **options)
        return lax.conv_general_dilated(layers.keep(inputs), kernel, strides, padding, **options)

    if feature_group_count == 1:
        return one(inputs, kernel)
    parts = (jnp.split(array, feature_group_count, axis=-1) for array in (inputs, kernel))
    return jnp.concatenate([one(*pair) for pair in zip(*parts, strict=True)], axis=-1)


def _few_places(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> bool:
    """Whether a kernel has fewer places than it is long: on a CPU XLA's code for that is naive.

    3 x 3 on 2 x 2 pixels of 512 channels took 25 times as long as on 4 x 4, and a step of ResNet18
    with crops of 64 pixels four times as long as with crops of 112.
    """
    if jax.default_backend() != "cpu" or not isinstance(inputs.shape[0], int):
        return False
    lines = list(zip(inputs.shape[1:3], kernel.shape, strides, padding, strict=False))
    counts = [places(*line) for line in lines]
    few = any(count < size for count, (_, size, *_) in zip(counts, lines, strict=True))
    return few and min(counts) > 0  # an image that is too small is told of elsewhere


def places(side: int, size: int, stride: int, around: Sequence[int]) -> int:
    """How many places a kernel has along a side."""
    return (side + sum(around) - size) // stride + 1


@jax.named_scope("windows")  # so that a profile tells what it is
def of_windows(
    inputs: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> jax.Array:
    """One product of matrices: what each of the kernel's places covers, times the kernel."""
    padded = jnp.pad(inputs, [(0, 0), *padding, (0, 0)])
    tall, wide = kernel.shape[:2]
    height, width = padded.shape[1] - tall + 1, padded.shape[2] - wide + 1
    covered = [
        padded[:, row : row + height : strides[0], column : column + width : strides[1]]
        for row, column in itertools.product(range(tall), range(wide))
    ]
    return jnp.concatenate(covered, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _few_channels(inputs: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> bool:
    """Whether a GPU's tensor cores would idle: first layers took a third of AlexNet's step.

    Whether blocks are faster there has not been measured.
    """
    steps = 1 < strides[0] == strides[1] < min(kernel.shape[:2])
    on_gpu = jax.default_backend() == "gpu" and isinstance(inputs.shape[0], int)
    return on_gpu and steps and inputs.shape[-1] <= FEW


def of_blocks(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    **options: Any,
) -> jax.Array:
    """With a stride of 1 over blocks of stride x stride pixels, whose channels are many.

    3 become 48 in AlexNet, and 12 in ResNet, with 4 of zeros.
    """
    stride, none = strides[0], (0, 0, 0)
    around, more = [], []
    for side, size, (before, after) in zip(inputs.shape[1:3], kernel.shape, padding, strict=False):
        count = -(-size // stride)  # blocks that the kernel covers
        whole = stride * (places(side, size, stride, (before, after)) - 1 + count)
        around.append((before, whole - side - before, 0))
        more.append((0, stride * count - size, 0))
    images = lax.pad(inputs, jnp.zeros((), inputs.dtype), [none, *around, none])
    weights = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*more, none, none])
    return lax.conv_general_dilated(
        _blocks(images, 1, stride), _blocks(weights, 0, stride), (1, 1), "VALID", **options
    )


def _blocks(array: jax.Array, axis: int, size: int) -> jax.Array:
    """[..., h, w, C, ...] -> [..., h / size, w / size, size^2 C and zeros, ...]; h is at `axis`."""
    height, width, channels = array.shape[axis : axis + 3]
    front, back = array.shape[:axis], array.shape[axis + 3 :]
    rows, columns = height // size, width // size
    cut = array.reshape(*front, rows, size, columns, size, channels, *back)
    merged = size**2 * channels
    blocks = cut.swapaxes(axis + 1, axis + 2).reshape(*front, rows, columns, merged, *back)
    more = [(0, 0)] * blocks.ndim
    more[axis + 2] = (0, -merged % ALIGNED)
    return jnp.pad(blocks, more)
