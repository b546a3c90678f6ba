"""Winograd's algorithm equals the definition in float64 and XLA's own convolution."""

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
ENOUGH = (64, 8, 8, winograd.MIN_CHANNELS), (3, 3, winograd.MIN_CHANNELS, winograd.MIN_CHANNELS)


def convolve_by_definition(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolves in float64 with stride 1 and padding 1."""
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = inputs.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )


def draw_arrays(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws inputs, a kernel and a gradient of the output for (b, h, w, C, K)."""
    random = np.random.default_rng(seed)
    *image, inputs, outputs = shape
    sizes = ((*image, inputs), (3, 3, inputs, outputs), (*image, outputs))
    return tuple(random.normal(size=size).astype(np.float32) for size in sizes)


def xla_convolution(inputs, kernel):
    return jax.lax.conv_general_dilated(
        inputs, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=NAMES
    )


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_equals_the_definition(shape, seed):
    inputs, kernel, _ = draw_arrays(shape, seed)
    outputs = winograd.convolution(inputs, kernel)
    np.testing.assert_allclose(
        outputs, convolve_by_definition(inputs, kernel), rtol=1e-4, atol=2e-5
    )


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_gradients_equal_xla(shape, seed):
    inputs, kernel, gradient = draw_arrays(shape, seed)
    gradients, xla_gradients = (
        jax.vjp(function, inputs, kernel)[1](gradient)
        for function in (winograd.convolution, xla_convolution)
    )
    for our_gradient, xla_gradient in zip(gradients, xla_gradients, strict=True):
        np.testing.assert_allclose(our_gradient, xla_gradient, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("shape", [(2, 14, 14, 128, 128), (4, 7, 7, 256, 128), (2, 13, 13, 64, 96)])
def test_rounding_error_is_close_to_xla(shape):
    inputs, kernel, _ = draw_arrays(shape)
    exact = convolve_by_definition(inputs, kernel)
    our_error, xla_error = (
        np.abs(f(inputs, kernel) - exact).max() for f in (winograd.convolution, xla_convolution)
    )
    assert our_error < 4 * xla_error


def test_unequal_sides_use_all_rows_and_columns():
    inputs, kernel, _ = draw_arrays((1, 5, 8, 1, 1))
    for position in ((0, 0), (4, 0), (0, 7), (4, 7), (2, 3)):
        impulse = np.zeros_like(inputs)
        impulse[0, *position, 0] = 1
        outputs = winograd.convolution(impulse, kernel)
        np.testing.assert_allclose(outputs, convolve_by_definition(impulse, kernel), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "kernel", "expected"),
    [
        (*ENOUGH, True),
        ((1, 8, 8, 256), (3, 3, 256, 256), False),  # few tiles
        ((64, 8, 8, 64), (3, 3, 64, 256), False),  # few channels in
        ((64, 8, 8, 256), (3, 3, 256, 64), False),  # few channels out
    ],
)
def test_is_faster_needs_many_tiles_and_channels(inputs, kernel, expected):
    assert winograd.is_faster(inputs, kernel) is expected


def trace_operations(inputs, kernel, stride=1, padding=1, dtype=jnp.float32) -> str:
    """Returns the operations of `convolutions.convolution` for these shapes as text."""
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in (inputs, kernel)]

    def function(inputs, kernel):
        return convolutions.convolution(
            inputs, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=NAMES
        )

    return str(jax.make_jaxpr(function)(*shapes))


def test_large_convolution_on_a_cpu_has_16_products():
    program = trace_operations(*ENOUGH)
    assert "conv_general_dilated" not in program and program.count("dot_general") == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (5, 5, 128, 128), "padding": 2},
        {"stride": 2},
        {"padding": 0},
        {"dtype": jnp.float16},  # bfloat16 is converted to float32 before
        {"inputs": (1, 8, 8, 128)},
        {"inputs": (*export.symbolic_shape("b"), 8, 8, 128)},  # the batch size of an export
    ],
    ids=lambda changes: "-".join(changes),
)
def test_other_arguments_use_xla(changes):
    arguments = {"inputs": ENOUGH[0], "kernel": ENOUGH[1]} | changes
    assert "conv_general_dilated" in trace_operations(**arguments)


def test_other_backends_use_xla(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in trace_operations(*ENOUGH)
