"""Each algorithm for convolutions equals XLA's own, and is used for the shapes that it is for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from affect_jax import models
from affect_jax.models import kernels
from affect_jax.models.kernels import convolutions

LAYOUT = ("NHWC", "HWIO", "NHWC")


def random_values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def xla_convolution(*arguments: Any, **options: Any) -> jax.Array:
    return lax.conv_general_dilated(*arguments, dimension_numbers=LAYOUT, **options)


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "padding"),
    [
        ((2, 2), (3, 3), 1, ((1, 1), (1, 1))),  # the last layers of ResNet18 at crops of 64 pixels
        ((7, 5), (3, 4), 2, ((1, 0), (2, 1))),
        ((9, 8), (2, 1), 3, ((0, 0), (0, 3))),
        ((1, 6), (1, 6), 4, ((0, 0), (0, 0))),
    ],
)
def test_im2col_and_its_gradients_equal_xla(image, kernel, stride, padding):
    arrays = random_values(2, *image, 3), random_values(*kernel, 3, 4)

    def output_and_gradients(convolve):
        outputs, vjp = jax.vjp(lambda *pair: convolve(*pair, (stride, stride), padding), *arrays)
        return outputs, *vjp(jnp.asarray(random_values(*outputs.shape)))

    actual = output_and_gradients(convolutions.im2col_convolution)
    for ours, expected in zip(actual, output_and_gradients(xla_convolution), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 3), (2, 1)])
def test_im2col_with_unequal_strides_equals_xla(strides):
    """Without gradients, as XLA's CPU compiler aborts on those of some of these shapes."""
    arguments = random_values(2, 5, 6, 3), random_values(3, 4, 3, 2), strides, [(1, 0), (2, 1)]
    outputs = convolutions.im2col_convolution(*arguments)
    np.testing.assert_allclose(outputs, xla_convolution(*arguments), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [2, 3])
def test_grouped_convolution_equals_xla(groups):
    arguments = (
        random_values(2, 9, 9, 12),
        random_values(3, 3, 12 // groups, 6),
        (2, 2),
        [(1, 1)] * 2,
    )
    outputs = kernels.convolution(*arguments, feature_group_count=groups, dimension_numbers=LAYOUT)
    expected = xla_convolution(*arguments, feature_group_count=groups)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "kernel", "strides", "padding", "channels"),
    [
        ((9, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), 16),
        pytest.param((8, 7), (5, 5), (2, 2), ((1, 2), (2, 2)), 16, marks=pytest.mark.slow),
        pytest.param(  # more channels than a block has values
            (14, 14), (7, 7), (1, 1), ((3, 3), (3, 3)), 1100, marks=pytest.mark.slow
        ),
        ((8, 11), (3, 4), (2, 1), ((0, 1), (1, 2)), 5),
        ((12, 9), (2, 7), (3, 2), ((0, 0), (3, 3)), 3),
    ],
)
def test_depthwise_convolution_and_its_gradients_equal_xla(
    image, kernel, strides, padding, channels
):
    arrays = random_values(2, *image, channels), random_values(*kernel, 1, channels)

    def output_and_gradients(convolve):
        options = {"feature_group_count": channels, "dimension_numbers": LAYOUT}
        outputs, vjp = jax.vjp(lambda *pair: convolve(*pair, strides, padding, **options), *arrays)
        return outputs, *vjp(jnp.asarray(random_values(*outputs.shape)))

    actual = output_and_gradients(kernels.convolution)
    for ours, expected in zip(actual, output_and_gradients(lax.conv_general_dilated), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(("backend", "is_xla"), [("cpu", False), ("gpu", True)])
def test_depthwise_convolutions_are_one_grouped_convolution_on_a_gpu(backend, is_xla, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    arguments = random_values(2, 5, 5, 6), random_values(3, 3, 1, 6), (1, 1), [(1, 1)] * 2
    program = jax.make_jaxpr(
        lambda *arrays: kernels.convolution(
            *arrays, *arguments[2:], feature_group_count=6, dimension_numbers=LAYOUT
        )
    )(*arguments[:2])
    assert ("feature_group_count=6" in str(program)) == is_xla


@pytest.mark.parametrize("dilation", ["lhs_dilation", "rhs_dilation"])
def test_dilated_convolutions_do_not_use_im2col(dilation):
    arguments = random_values(2, 5, 5, 3), random_values(3, 3, 3, 4), (2, 2), [(0, 0)] * 2
    options: dict = {dilation: (2, 2)}
    outputs = kernels.convolution(*arguments, dimension_numbers=LAYOUT, **options)
    expected = xla_convolution(*arguments, **options)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_on_a_cpu_is_computed_in_float32(monkeypatch):
    """The result stays float32 up to the next weights; other backends keep the input's dtype."""
    images = jnp.asarray(random_values(2, 9, 9, 4), jnp.bfloat16)
    kernel = jnp.asarray(random_values(3, 3, 2, 6), jnp.bfloat16)
    options: dict = {"feature_group_count": 2, "dimension_numbers": LAYOUT}

    def convolve(images, kernel):
        return kernels.convolution(images, kernel, (1, 1), [(1, 1), (1, 1)], **options)

    outputs = convolve(images, kernel)
    assert outputs.dtype == jnp.float32
    exact = convolve(images.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_array_equal(outputs, exact)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "f32" not in str(jax.make_jaxpr(lambda *arrays: convolve(*arrays))(images, kernel))


@pytest.mark.parametrize(
    ("crop_size", "backend", "fewer"),
    [(224, "cpu", 0), (64, "cpu", 4), (32, "cpu", 8), (32, "gpu", 0)],
)
def test_kernels_with_few_positions_use_im2col_on_cpus(crop_size, backend, fewer, monkeypatch):
    """In ResNet18 these are the 3 x 3 convolutions with fewer than 3 x 3 output pixels, of 20."""
    original, calls = lax.conv_general_dilated, []

    def record_and_convolve(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(lax, "conv_general_dilated", record_and_convolve)
    model: Any = models.model_from_spec({"name": "resnet18", "width": 16}, ("expression",))
    images = jax.ShapeDtypeStruct((2, crop_size, crop_size, 3), jnp.float32)
    jax.eval_shape(model.init, jax.random.key(0), images)
    assert len(calls) == 20 - fewer


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["alexnet", "resnet18"])
def test_networks_with_xla_convolutions_compute_the_same(trunk, monkeypatch):
    """The folder can be deleted: logits and gradients with `lax.conv_general_dilated` are equal."""
    model: Any = models.model_from_spec({"name": trunk, "width": 16}, ("expression",))
    images = jnp.asarray(random_values(2, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def loss(params):
        logits = model.apply({**variables, "params": params}, images)["expression"]
        return jnp.sum(jnp.square(logits)), logits

    def gradients_and_logits():
        return jax.tree.leaves(jax.jit(jax.grad(loss, has_aux=True))(variables["params"]))

    ours = gradients_and_logits()
    monkeypatch.setattr(kernels, "convolution", lax.conv_general_dilated)
    for actual, expected in zip(ours, gradients_and_logits(), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)
