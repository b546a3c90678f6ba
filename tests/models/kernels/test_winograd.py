"""Convolutions of fewer products, against their definition in float64 and against XLA's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from affect_jax.models.kernels import convolutions, winograd

NAMES = ("NHWC", "HWIO", "NHWC")
SHAPES = st.tuples(*(st.integers(1, most) for most in (3, 9, 9, 4, 4)))
ENOUGH = (64, 8, 8, winograd.CHANNELS), (3, 3, winograd.CHANNELS, winograd.CHANNELS)


def definition(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Float64, with stride 1 and padding 1."""
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = inputs.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )


def drawn(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, a kernel and a gradient of the output, for (b, h, w, C, K)."""
    random = np.random.default_rng(seed)
    *image, inputs, outputs = shape
    sizes = ((*image, inputs), (3, 3, inputs, outputs), (*image, outputs))
    return tuple(random.normal(size=size).astype(np.float32) for size in sizes)


def xlas(inputs, kernel):
    return jax.lax.conv_general_dilated(
        inputs, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=NAMES
    )


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_it_is_the_convolution(shape, seed):
    inputs, kernel, _ = drawn(shape, seed)
    found = winograd.convolution(inputs, kernel)
    np.testing.assert_allclose(found, definition(inputs, kernel), rtol=1e-4, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_its_gradients_are_the_convolutions(shape, seed):
    inputs, kernel, gradient = drawn(shape, seed)
    found, expected = (
        jax.vjp(function, inputs, kernel)[1](gradient) for function in (winograd.convolution, xlas)
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("shape", [(2, 14, 14, 128, 128), (4, 7, 7, 256, 128), (2, 13, 13, 64, 96)])
def test_it_rounds_hardly_more_than_xla(shape):
    inputs, kernel, _ = drawn(shape)
    exact = definition(inputs, kernel)
    ours, theirs = (np.abs(f(inputs, kernel) - exact).max() for f in (winograd.convolution, xlas))
    assert ours < 4 * theirs


def test_a_convolution_of_unequal_sides_takes_all_of_its_rows_and_columns():
    inputs, kernel, _ = drawn((1, 5, 8, 1, 1))
    for place in ((0, 0), (4, 0), (0, 7), (4, 7), (2, 3)):
        one = np.zeros_like(inputs)
        one[0, *place, 0] = 1
        found = winograd.convolution(one, kernel)
        np.testing.assert_allclose(found, definition(one, kernel), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "kernel", "expected"),
    [
        (*ENOUGH, True),
        ((1, 8, 8, 256), (3, 3, 256, 256), False),  # few tiles
        ((64, 8, 8, 64), (3, 3, 64, 256), False),  # few channels in
        ((64, 8, 8, 256), (3, 3, 256, 64), False),  # few channels out
    ],
)
def test_it_is_for_many_tiles_of_many_channels(inputs, kernel, expected):
    assert winograd.pays(inputs, kernel) is expected


def operations(inputs, kernel, stride=1, padding=1, dtype=jnp.float32) -> str:
    """What `convolutions.convolution` computes arrays of these shapes by."""
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (inputs, kernel)]

    def function(inputs, kernel):
        return convolutions.convolution(
            inputs, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=NAMES
        )

    return str(jax.make_jaxpr(function)(*shapes))


def test_a_large_convolution_on_a_cpu_has_fewer_products():
    found = operations(*ENOUGH)
    assert "conv_general_dilated" not in found and found.count("dot_general") == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (5, 5, 128, 128), "padding": 2},
        {"stride": 2},
        {"padding": 0},
        {"dtype": jnp.float16},  # bfloat16 is float32 by then
        {"inputs": (1, 8, 8, 128)},
        {"inputs": (*export.symbolic_shape("b"), 8, 8, 128)},  # an export's
    ],
    ids=lambda changes: "-".join(changes),
)
def test_others_are_xlas(changes):
    given = {"inputs": ENOUGH[0], "kernel": ENOUGH[1]} | changes
    assert "conv_general_dilated" in operations(**given)


def test_an_accelerator_has_its_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in operations(*ENOUGH)
