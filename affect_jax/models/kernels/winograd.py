"""3 x 3 convolutions by 16 products where the definition has 36, for CPUs.

Winograd's F(2 x 2, 3 x 3) (Lavin and Gray 2015, arXiv:1509.09308, section 4.1): the input is cut
into tiles of 4 x 4 that overlap by 2; tiles and kernels are transformed, multiplied place by place
as matrices over the channels, and the 4 x 4 products transformed into 2 x 2 outputs. All constants
are 0, 1 and 1/2, so float32 loses no more than by the definition. The gradients are the transposes
of the same steps and share what the output's gradient becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Grid = Sequence[Sequence[jax.Array]]  # rows of arrays
Line = Callable[..., tuple[jax.Array, ...]]  # what becomes of a grid's row or column

CHANNELS = 128
"""With fewer, the transforms take as long as the products that they save."""
TILES = 256
"""With fewer in a batch, the kernels' transform takes as long as the products that it saves."""


def fits(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> bool:
    """Whether `convolution` computes this one, and on this machine faster than XLA does."""
    return (
        jax.default_backend() == "cpu"
        and inputs.dtype == jnp.float32
        and kernel.shape[:2] == (3, 3)
        and (*strides, *padding) == (1, 1, (1, 1), (1, 1))
        and pays(inputs.shape, kernel.shape)
    )


def pays(inputs: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether `convolution` is faster on a CPU than the definition, by the shapes.

    **Arguments:**

    - `inputs`: (b, h, w, C). No number for b: it is an export's, for a machine unknown.
    - `kernel`: (3, 3, C, K).
    """
    batch, height, width, _ = inputs
    if not isinstance(batch, int) or min(kernel[2:]) < CHANNELS:
        return False
    return batch * _half(height) * _half(width) >= TILES


@jax.custom_vjp
def convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """With stride 1 and padding 1: [b, h, w, C], [3, 3, C, K] -> [b, h, w, K]."""
    return _forward(inputs, kernel)[0]


@jax.named_scope("winograd")
def _forward(inputs: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    pairs = zip(_tiles(inputs), _matrices(kernel), strict=True)
    products = _grid([tiles @ matrix for tiles, matrix in pairs], inputs)
    return _interleave(_both(_to_output, products), inputs), (inputs, kernel)


@jax.named_scope("winograd")
def _backward(
    kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = kept
    gradients = _rows(_both(_from_output, _phases(_even(gradient), 2)))
    to_tiles = [part @ matrix.T for part, matrix in zip(gradients, _matrices(kernel), strict=True)]
    tiles = _both(_from_tile, _grid(to_tiles, inputs))
    to_inputs = _both(lambda *line: _overlap(line, 1), tiles, lambda *line: _overlap(line, 2))
    to_matrices = [tiles.T @ part for tiles, part in zip(_tiles(inputs), gradients, strict=True)]
    to_kernel = _both(_from_matrix, _in_rows(to_matrices))
    return _interleave(to_inputs, inputs), jnp.stack([jnp.stack(row) for row in to_kernel])


convolution.defvjp(_forward, _backward)


def _both(down: Line, grid: Grid, across: Line | None = None) -> list[tuple[jax.Array, ...]]:
    """`down` of each column, then `across`, or else `down`, of each row."""
    columns = [down(*column) for column in zip(*grid, strict=True)]
    return [(across or down)(*row) for row in zip(*columns, strict=True)]


# The three transforms of a line, B^T, G and A^T of the paper, and their transposes.


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


def _tiles(inputs: jax.Array) -> list[jax.Array]:
    """[b, h, w, C] -> 16 of [tiles, C]."""
    return _rows(_both(_to_tile, _phases(_even(inputs, around=1), 4)))


def _matrices(kernel: jax.Array) -> list[jax.Array]:
    """[3, 3, C, K] -> 16 of [C, K]."""
    rows = [[kernel[i, j] for j in range(3)] for i in range(3)]
    return [place for row in _both(_to_matrix, rows) for place in row]


def _half(side: int) -> int:
    """How many tiles a side of an output needs."""
    return -(-side // 2)


def _even(values: jax.Array, around: int = 0) -> jax.Array:
    """With zeros to even sides, and `around` more on each."""
    odd = [(around, around + side % 2) for side in values.shape[1:3]]
    return jnp.pad(values, ((0, 0), *odd, (0, 0)))


def _phases(values: jax.Array, size: int) -> Grid:
    """Place by place the tiles of size x size, which begin at every second row and column."""
    height, width = (side - size + 1 for side in values.shape[1:3])
    return [
        [values[:, i : i + height : 2, j : j + width : 2] for j in range(size)] for i in range(size)
    ]


def _rows(grid: Grid) -> list[jax.Array]:
    """A grid of [b, h / 2, w / 2, C] -> a list of [tiles, C]."""
    return [place.reshape(-1, place.shape[-1]) for row in grid for place in row]


def _grid(places: Sequence[jax.Array], inputs: jax.Array) -> Grid:
    """16 of [tiles, C] -> a grid of 4 x 4 of [b, h / 2, w / 2, C]."""
    batch, height, width, _ = inputs.shape
    return _in_rows([place.reshape(batch, _half(height), _half(width), -1) for place in places])


def _in_rows(places: Sequence[jax.Array]) -> Grid:
    return [places[i : i + 4] for i in range(0, 16, 4)]


def _overlap(line: Sequence[jax.Array], axis: int) -> tuple[jax.Array, jax.Array]:
    """Of a tile's 4 gradients the inner 2, to which its neighbours' outer ones are added."""
    first, second, third, last = line
    count = first.shape[axis]
    none = jnp.zeros_like(lax.slice_in_dim(first, 0, 1, axis=axis))
    before = lax.concatenate([none, lax.slice_in_dim(last, 0, count - 1, axis=axis)], axis)
    after = lax.concatenate([lax.slice_in_dim(first, 1, count, axis=axis), none], axis)
    return second + before, third + after


def _interleave(grid: Grid, like: jax.Array) -> jax.Array:
    """A grid of 2 x 2 of [b, h / 2, w / 2, K] -> [b, h, w, K], cut to the sides of `like`."""
    batch, height, width, _ = like.shape
    rows = jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)
    whole = rows.reshape(batch, 2 * _half(height), 2 * _half(width), -1)
    return whole[:, :height, :width]
