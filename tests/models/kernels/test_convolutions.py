"""Each algorithm for convolutions equals XLA's own, and is used for the shapes that it is for."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from affect_jax import models
from affect_jax.models.kernels import convolutions

LAYOUT = ("NHWC", "HWIO", "NHWC")


def random_values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@st.composite
def convolution_shapes(draw: st.DrawFn, least_stride: int) -> tuple[tuple, tuple, tuple, tuple]:
    """Draws shapes of images and of a kernel that fits into them, strides and padding."""
    stride = draw(st.integers(least_stride, 4))
    size = draw(st.tuples(*[st.integers(1, 6)] * 2))
    padding = tuple(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in size)
    sides = (
        draw(st.integers(max(1, length - sum(side_padding)), 12))
        for length, side_padding in zip(size, padding, strict=True)
    )
    channels = draw(st.integers(1, 4))
    images = (draw(st.integers(1, 3)), *sides, channels)
    return images, (*size, channels, draw(st.integers(1, 4))), (stride, stride), padding


@pytest.mark.parametrize(
    ("algorithm", "least_stride"),
    [(convolutions.im2col_convolution, 1), (convolutions.space_to_depth_convolution, 2)],
)
@settings(max_examples=50)
@given(st.data())
def test_every_algorithm_and_its_gradients_equal_xla(algorithm, least_stride, data):
    images, kernel, strides, padding = data.draw(convolution_shapes(least_stride))
    options = {} if algorithm is convolutions.im2col_convolution else {"dimension_numbers": LAYOUT}
    our_convolution = functools.partial(algorithm, strides=strides, padding=padding, **options)
    arrays = random_values(*images), random_values(*kernel)

    def xla_convolution(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=LAYOUT)

    (outputs, vjp), (expected, xla_vjp) = (
        jax.vjp(algorithm, *arrays) for algorithm in (our_convolution, xla_convolution)
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    weights = jnp.asarray(random_values(*expected.shape))
    for gradient, xla_gradient in zip(vjp(weights), xla_vjp(weights), strict=True):
        np.testing.assert_allclose(gradient, xla_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 3), (2, 1)])
def test_im2col_with_unequal_strides_equals_xla(strides):
    """Without gradients, as XLA's CPU compiler aborts on those of some of these shapes."""
    values, kernel, padding = random_values(2, 5, 6, 3), random_values(3, 4, 3, 2), [(1, 0), (2, 1)]
    expected = lax.conv_general_dilated(values, kernel, strides, padding, dimension_numbers=LAYOUT)
    outputs = convolutions.im2col_convolution(values, kernel, strides, padding)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_convolution_equals_xla(groups):
    values, kernel = random_values(2, 9, 9, 12), random_values(3, 3, 12 // groups, 6)
    options = dict(
        window_strides=(2, 2),
        padding=[(1, 1), (1, 1)],
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )
    expected = lax.conv_general_dilated(values, kernel, **options)
    outputs = convolutions.convolution(
        values, kernel, options.pop("window_strides"), options.pop("padding"), **options
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_bfloat16_on_a_cpu_is_computed_in_float32(groups, monkeypatch):
    """The result stays float32 up to the next weights; other backends keep the input's dtype."""
    images = jnp.asarray(random_values(2, 9, 9, 4), jnp.bfloat16)
    kernel = jnp.asarray(random_values(3, 3, 4 // groups, 6), jnp.bfloat16)
    options: dict = {"feature_group_count": groups, "dimension_numbers": LAYOUT}

    def convolve(images, kernel):
        return convolutions.convolution(images, kernel, (1, 1), [(1, 1), (1, 1)], **options)

    outputs = convolve(images, kernel)
    assert outputs.dtype == jnp.float32
    exact = convolve(images.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_array_equal(outputs, exact)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "f32" not in str(jax.make_jaxpr(lambda *arrays: convolve(*arrays))(images, kernel))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("dilation", ["lhs_dilation", "rhs_dilation"])
def test_dilated_convolutions_use_xla(dilation, backend, monkeypatch):
    """Without dilation these shapes would use im2col or space-to-depth."""
    values, kernel = random_values(2, 5, 5, 3), random_values(3, 3, 3, 4)
    options: dict = {"dimension_numbers": LAYOUT, dilation: (2, 2)}
    expected = lax.conv_general_dilated(values, kernel, (2, 2), [(0, 0)] * 2, **options)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(convolutions, "SPACE_TO_DEPTH", True)
    outputs = convolutions.convolution(values, kernel, (2, 2), [(0, 0)] * 2, **options)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_space_to_depth_is_close_to_float32():
    values, kernel = random_values(2, 31, 31, 3), random_values(7, 7, 3, 4)
    arguments = {"strides": (2, 2), "padding": [(3, 3)] * 2, "dimension_numbers": LAYOUT}
    exact = convolutions.space_to_depth_convolution(values, kernel, **arguments)
    outputs = convolutions.space_to_depth_convolution(
        jnp.asarray(values, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16), **arguments
    )
    assert outputs.dtype == jnp.bfloat16
    scale = np.abs(exact).max()
    np.testing.assert_allclose(np.float32(outputs) / scale, exact / scale, atol=0.02)


@pytest.fixture
def record_xla_shapes(monkeypatch):
    """`(trunk, crop_size)`: shapes of inputs and kernels that XLA's own algorithm computes."""
    xla_convolution = lax.conv_general_dilated

    def record_shapes(trunk: str, crop_size: int) -> list[tuple[tuple, tuple]]:
        shapes = []

        def record_and_convolve(inputs, kernel, *rest, **options):
            shapes.append((inputs.shape, kernel.shape))
            return xla_convolution(inputs, kernel, *rest, **options)

        monkeypatch.setattr(lax, "conv_general_dilated", record_and_convolve)
        model: Any = models.model_from_spec({"name": trunk, "width": 16}, ("expression",))
        images = jax.ShapeDtypeStruct((2, crop_size, crop_size, 3), jnp.float32)
        jax.eval_shape(model.init, jax.random.key(0), images)
        return shapes

    return record_shapes


@pytest.mark.parametrize(("crop_size", "fewer"), [(224, 0), (64, 4), (32, 8)])
def test_kernels_with_few_positions_use_im2col_on_cpus(crop_size, fewer, record_xla_shapes):
    """In ResNet18 these are the 3 x 3 convolutions with fewer than 3 x 3 output pixels, of 20."""
    assert len(record_xla_shapes("resnet18", crop_size)) == 20 - fewer


@pytest.mark.parametrize(
    ("trunk", "first_shapes"),
    [
        ("alexnet", ((2, 57, 57, 48), (3, 3, 48, 96))),
        ("alexnet_one_tower", ((2, 57, 57, 48), (3, 3, 48, 64))),
        ("resnet18", ((2, 115, 115, 16), (4, 4, 16, 16))),
    ],
)
def test_switch_selects_space_to_depth_for_images_on_gpus(
    trunk, first_shapes, record_xla_shapes, monkeypatch
):
    monkeypatch.setattr(convolutions, "SPACE_TO_DEPTH", True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    shapes = record_xla_shapes(trunk, 224)
    assert shapes[0] == first_shapes
    assert all(inputs[-1] > convolutions.MAX_IMAGE_CHANNELS for inputs, _ in shapes)


@pytest.mark.parametrize(("backend", "switch"), [("gpu", False), ("cpu", True)])
@pytest.mark.parametrize("trunk", ["alexnet", "alexnet_one_tower", "resnet18"])
def test_space_to_depth_needs_the_switch_and_a_gpu(
    trunk, backend, switch, record_xla_shapes, monkeypatch
):
    monkeypatch.setattr(convolutions, "SPACE_TO_DEPTH", switch)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    inputs, _ = record_xla_shapes(trunk, 224)[0]
    assert inputs == (2, 224, 224, 3)
