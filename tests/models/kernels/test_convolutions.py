"""Each way to compute a convolution, against XLA's own; which shapes each is for."""

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
def cases(draw: st.DrawFn, least_stride: int) -> tuple[tuple, tuple, tuple, tuple]:
    """Shapes of images and of a kernel that fits into them, strides and padding."""
    stride = draw(st.integers(least_stride, 4))
    size = draw(st.tuples(*[st.integers(1, 6)] * 2))
    padding = tuple(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in size)
    sides = (
        draw(st.integers(max(1, length - sum(around)), 12))
        for length, around in zip(size, padding, strict=True)
    )
    channels = draw(st.integers(1, 4))
    images = (draw(st.integers(1, 3)), *sides, channels)
    return images, (*size, channels, draw(st.integers(1, 4))), (stride, stride), padding


@pytest.mark.parametrize(
    ("way", "least_stride"), [(convolutions.of_windows, 1), (convolutions.of_blocks, 2)]
)
@settings(max_examples=50)
@given(st.data())
def test_every_way_and_its_gradients_equal_xlas(way, least_stride, data):
    images, kernel, strides, padding = data.draw(cases(least_stride))
    options = {} if way is convolutions.of_windows else {"dimension_numbers": LAYOUT}
    ours = functools.partial(way, strides=strides, padding=padding, **options)
    arrays = random_values(*images), random_values(*kernel)

    def xlas(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=LAYOUT)

    (found, pull), (expected, their) = (jax.vjp(way, *arrays) for way in (ours, xlas))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    weights = jnp.asarray(random_values(*expected.shape))
    for gradient, other in zip(pull(weights), their(weights), strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 3), (2, 1)])
def test_windows_of_unequal_strides_equal_xlas(strides):
    """Without gradients: those of some such shapes abort XLA's own compiler for a CPU."""
    values, kernel, padding = random_values(2, 5, 6, 3), random_values(3, 4, 3, 2), [(1, 0), (2, 1)]
    expected = lax.conv_general_dilated(values, kernel, strides, padding, dimension_numbers=LAYOUT)
    found = convolutions.of_windows(values, kernel, strides, padding)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_convolution_equals_xlas(groups):
    values, kernel = random_values(2, 9, 9, 12), random_values(3, 3, 12 // groups, 6)
    options = dict(
        window_strides=(2, 2),
        padding=[(1, 1), (1, 1)],
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )
    expected = lax.conv_general_dilated(values, kernel, **options)
    found = convolutions.convolution(
        values, kernel, options.pop("window_strides"), options.pop("padding"), **options
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_bfloat16_on_a_cpu_is_computed_in_float32(groups, monkeypatch):
    """And its results stay that, up to the next weights; elsewhere they are what came in."""
    images = jnp.asarray(random_values(2, 9, 9, 4), jnp.bfloat16)
    kernel = jnp.asarray(random_values(3, 3, 4 // groups, 6), jnp.bfloat16)
    options: dict = {"feature_group_count": groups, "dimension_numbers": LAYOUT}

    def convolved(images, kernel):
        return convolutions.convolution(images, kernel, (1, 1), [(1, 1), (1, 1)], **options)

    found = convolved(images, kernel)
    assert found.dtype == jnp.float32
    exact = convolved(images.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_array_equal(found, exact)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "f32" not in str(jax.make_jaxpr(lambda *pair: convolved(*pair))(images, kernel))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("dilation", ["lhs_dilation", "rhs_dilation"])
def test_what_is_dilated_is_left_to_xla(dilation, backend, monkeypatch):
    """Shapes that would be of few places, or of few channels, without."""
    values, kernel = random_values(2, 5, 5, 3), random_values(3, 3, 3, 4)
    options: dict = {"dimension_numbers": LAYOUT, dilation: (2, 2)}
    expected = lax.conv_general_dilated(values, kernel, (2, 2), [(0, 0)] * 2, **options)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    found = convolutions.convolution(values, kernel, (2, 2), [(0, 0)] * 2, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_blocks_of_bfloat16_equal_those_of_float32_but_for_rounding():
    values, kernel = random_values(2, 31, 31, 3), random_values(7, 7, 3, 4)
    given = {"strides": (2, 2), "padding": [(3, 3)] * 2, "dimension_numbers": LAYOUT}
    exact = convolutions.of_blocks(values, kernel, **given)
    found = convolutions.of_blocks(
        jnp.asarray(values, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16), **given
    )
    assert found.dtype == jnp.bfloat16
    scale = np.abs(exact).max()
    np.testing.assert_allclose(np.float32(found) / scale, exact / scale, atol=0.02)


@pytest.fixture
def by_xla(monkeypatch):
    """`(trunk, crop_size)`: shapes of images and kernels that XLA's own way computes for it."""
    xlas = lax.conv_general_dilated

    def shapes(trunk: str, crop_size: int) -> list[tuple[tuple, tuple]]:
        found = []

        def recorded(inputs, kernel, *rest, **options):
            found.append((inputs.shape, kernel.shape))
            return xlas(inputs, kernel, *rest, **options)

        monkeypatch.setattr(lax, "conv_general_dilated", recorded)
        model: Any = models.model_from_spec({"name": trunk, "width": 16}, ("expression",))
        images = jax.ShapeDtypeStruct((2, crop_size, crop_size, 3), jnp.float32)
        jax.eval_shape(model.init, jax.random.key(0), images)
        return found

    return shapes


@pytest.mark.parametrize(("crop_size", "fewer"), [(224, 0), (64, 4), (32, 8)])
def test_few_places_on_a_cpu_are_a_product_of_matrices(crop_size, fewer, by_xla):
    """Of ResNet18's 20 convolutions those of 3 x 3 that leave fewer than 3 x 3 pixels."""
    assert len(by_xla("resnet18", crop_size)) == 20 - fewer


@pytest.mark.parametrize(
    ("trunk", "first"),
    [
        ("alexnet", ((2, 57, 57, 48), (3, 3, 48, 96))),
        ("alexnet_one_tower", ((2, 57, 57, 48), (3, 3, 48, 64))),
        ("resnet18", ((2, 115, 115, 16), (4, 4, 16, 16))),
    ],
)
def test_a_gpu_sees_an_image_as_blocks(trunk, first, by_xla, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = by_xla(trunk, 224)
    assert found[0] == first
    assert all(images[-1] > convolutions.FEW for images, _ in found)
