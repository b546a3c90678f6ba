"""Winograd's algorithm for 3 x 3 convolutions on CPUs: 16 products where the definition has 36.

This is F(2 x 2, 3 x 3) (Lavin and Gray 2015, arXiv:1509.09308, section 4.1). The input is split
into tiles of 4 x 4 that overlap by 2. Tiles and kernels are transformed, multiplied position by
position as matrices over the channels, and the 4 x 4 products are transformed into 2 x 2 outputs.
All constants are 0, 1 and 1/2, so float32 loses no more precision than with the definition. The
gradients are the transposes of the same steps and share the transformed gradient of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Grid = Sequence[Sequence[jax.Array]]  # rows of arrays
LineTransform = Callable[..., tuple[jax.Array, ...]]  # transforms a row or column of a grid

MIN_CHANNELS = 128
"""With fewer channels, the transforms take as long as the products that they save."""
MIN_TILES = 256
"""With fewer tiles in a batch, the kernel's transform takes as long as the products it saves."""


def use_winograd(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> bool:
    """Whether `convolution` supports these arguments and is faster than XLA on this machine."""
    return (
        jax.default_backend() == "cpu"
        and inputs.dtype == jnp.float32
        and kernel.shape[:2] == (3, 3)
        and (*strides, *padding) == (1, 1, (1, 1), (1, 1))
        and is_faster(inputs.shape, kernel.shape)
    )


def is_faster(input_shape: Sequence[int], kernel_shape: Sequence[int]) -> bool:
    """Whether `convolution` is faster on a CPU than the definition for these shapes.

    **Arguments:**

    - `input_shape`: (b, h, w, C). A symbolic b belongs to an export for an unknown machine.
    - `kernel_shape`: (3, 3, C, K).
    """
    batch, height, width, _ = input_shape
    if not isinstance(batch, int) or min(kernel_shape[2:]) < MIN_CHANNELS:
        return False
    return batch * _count_tiles(height) * _count_tiles(width) >= MIN_TILES


@jax.custom_vjp
def convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and padding 1: [b, h, w, C], [3, 3, C, K] -> [b, h, w, K]."""
    return _forward(inputs, kernel)[0]


@jax.named_scope("winograd")
def _forward(inputs: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    pairs = zip(_transform_inputs(inputs), _transform_kernel(kernel), strict=True)
    products = _unflatten_tiles([tiles @ matrix for tiles, matrix in pairs], inputs)
    return _interleave(_transform_2d(_to_output, products), inputs), (inputs, kernel)


@jax.named_scope("winograd")
def _backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = residuals
    gradients = _flatten_tiles(_transform_2d(_from_output, _slice_tiles(_pad_to_even(gradient), 2)))
    tile_gradients = [
        output_gradient @ matrix.T
        for output_gradient, matrix in zip(gradients, _transform_kernel(kernel), strict=True)
    ]
    tiles = _transform_2d(_from_tile, _unflatten_tiles(tile_gradients, inputs))
    input_gradient = _transform_2d(
        lambda *line: _add_overlap(line, 1), tiles, lambda *line: _add_overlap(line, 2)
    )
    matrix_gradients = [
        tiles.T @ output_gradient
        for tiles, output_gradient in zip(_transform_inputs(inputs), gradients, strict=True)
    ]
    kernel_gradient = _transform_2d(_from_matrix, _to_4x4_grid(matrix_gradients))
    return _interleave(input_gradient, inputs), jnp.stack(
        [jnp.stack(row) for row in kernel_gradient]
    )


convolution.defvjp(_forward, _backward)


def _transform_2d(
    column_transform: LineTransform, grid: Grid, row_transform: LineTransform | None = None
) -> list[tuple[jax.Array, ...]]:
    """Transforms each column, then each row; `row_transform` defaults to `column_transform`."""
    columns = [column_transform(*column) for column in zip(*grid, strict=True)]
    return [(row_transform or column_transform)(*row) for row in zip(*columns, strict=True)]


# The three 1D transforms B^T, G and A^T of the paper, and their transposes.


def _to_tile(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
    return a - c, b + c, c - b, b - d


def _from_tile(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
    return a, b - c + d, b + c - a, -d


def _to_matrix(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _from_matrix(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d


def _to_output(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
    return a + b + c, b - c - d


def _from_output(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    return a, a + b, a - b, -b


# From images to transformed tiles and back.


def _transform_inputs(inputs: jax.Array) -> list[jax.Array]:
    """[b, h, w, C] -> 16 of [tiles, C]."""
    return _flatten_tiles(_transform_2d(_to_tile, _slice_tiles(_pad_to_even(inputs, margin=1), 4)))


def _transform_kernel(kernel: jax.Array) -> list[jax.Array]:
    """[3, 3, C, K] -> 16 of [C, K]."""
    rows = [[kernel[i, j] for j in range(3)] for i in range(3)]
    return [matrix for row in _transform_2d(_to_matrix, rows) for matrix in row]


def _count_tiles(side: int) -> int:
    """Number of tiles along a side of the output."""
    return -(-side // 2)


def _pad_to_even(values: jax.Array, margin: int = 0) -> jax.Array:
    """Pads with zeros to even sides, and by `margin` on each side."""
    pad_width = [(margin, margin + side % 2) for side in values.shape[1:3]]
    return jnp.pad(values, ((0, 0), *pad_width, (0, 0)))


def _slice_tiles(values: jax.Array, size: int) -> Grid:
    """Returns, for each position of a tile, its values in all tiles.

    Tiles are size x size and start at every second row and column.
    """
    height, width = (side - size + 1 for side in values.shape[1:3])
    return [
        [values[:, i : i + height : 2, j : j + width : 2] for j in range(size)] for i in range(size)
    ]


def _flatten_tiles(grid: Grid) -> list[jax.Array]:
    """Grid of [b, h / 2, w / 2, C] -> list of [tiles, C]."""
    return [matrix.reshape(-1, matrix.shape[-1]) for row in grid for matrix in row]


def _unflatten_tiles(matrices: Sequence[jax.Array], inputs: jax.Array) -> Grid:
    """16 of [tiles, C] -> 4 x 4 grid of [b, h / 2, w / 2, C]."""
    batch, height, width, _ = inputs.shape
    return _to_4x4_grid(
        [
            matrix.reshape(batch, _count_tiles(height), _count_tiles(width), -1)
            for matrix in matrices
        ]
    )


def _to_4x4_grid(matrices: Sequence[jax.Array]) -> Grid:
    return [matrices[i : i + 4] for i in range(0, 16, 4)]


def _add_overlap(line: Sequence[jax.Array], axis: int) -> tuple[jax.Array, jax.Array]:
    """Adds the outer gradients of the neighbouring tiles to the inner 2 of a tile's 4 gradients."""
    first, second, third, last = line
    count = first.shape[axis]
    zeros = jnp.zeros_like(lax.slice_in_dim(first, 0, 1, axis=axis))
    before = lax.concatenate([zeros, lax.slice_in_dim(last, 0, count - 1, axis=axis)], axis)
    after = lax.concatenate([lax.slice_in_dim(first, 1, count, axis=axis), zeros], axis)
    return second + before, third + after


def _interleave(grid: Grid, reference: jax.Array) -> jax.Array:
    """2 x 2 grid of [b, h / 2, w / 2, K] -> [b, h, w, K], cropped to the sides of `reference`."""
    batch, height, width, _ = reference.shape
    rows = jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)
    merged = rows.reshape(batch, 2 * _count_tiles(height), 2 * _count_tiles(width), -1)
    return merged[:, :height, :width]
