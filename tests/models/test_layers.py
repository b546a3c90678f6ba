"""Layers that linen lacks: equal to PyTorch and to their definitions."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from affect_jax.data import preprocessing
from affect_jax.models import layers
from affect_jax.models.kernels import convolutions


def random_values(*shape: int, scale: float = 30.0) -> np.ndarray:
    """Values so large that the sum of squares is not negligible beside the bias."""
    return (scale * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


def test_response_normalisation_and_its_gradient_equal_torch():
    torch = pytest.importorskip("torch")
    values, weights = random_values(2, 3, 4, 9), random_values(2, 3, 4, 9, scale=1.0)
    normalise = layers.local_response_normalisation
    # PyTorch divides alpha by the size of the window, the paper does not.
    torch_layer = torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    tensor = torch.tensor(values, requires_grad=True)
    expected = torch_layer(tensor.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    (expected * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(normalise(values), expected.detach(), rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda values: jnp.sum(normalise(values) * weights)))(values)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-4, atol=1e-5)


def test_response_normalisation_has_published_constants():
    values = random_values(7, scale=100.0).astype(np.float64)
    expected = [
        x
        / (2 + 1e-4 * sum(values[j] ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))) ** 0.75
        for i, x in enumerate(values)
    ]
    normalised = layers.local_response_normalisation(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(normalised, expected, rtol=1e-5)


def test_response_normalisation_sums_in_float32():
    values = jnp.asarray(random_values(4, 64), jnp.bfloat16)
    normalised = layers.local_response_normalisation(values)
    assert normalised.dtype == jnp.bfloat16
    exact = layers.local_response_normalisation(values.astype(jnp.float32))
    np.testing.assert_array_equal(normalised, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 3, 0)])
def test_pooling_and_its_gradient_equal_torch(size, stride, padding, ties):
    """Windows that cover the sides and windows that do not; ties go to the first value.

    All values are negative or 0, so padding with zeros would be seen.
    """
    torch = pytest.importorskip("torch")
    values = -np.abs(random_values(2, 13, 10, 3, scale=1.0))
    values = np.minimum(np.round(values), -1) if ties else values
    tensor = torch.tensor(values, requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(tensor.permute(0, 3, 1, 2), size, stride, padding)
    expected = pooled.permute(0, 2, 3, 1)
    weights = random_values(*expected.shape, scale=1.0)
    (expected * torch.tensor(weights)).sum().backward()

    @jax.jit
    def pool_and_gradient(values, weights):
        outputs, vjp = jax.vjp(lambda x: layers.max_pool(x, size, stride, padding), values)
        return outputs, vjp(weights)[0]

    outputs, gradient = pool_and_gradient(values, weights)
    np.testing.assert_array_equal(outputs, expected.detach())
    np.testing.assert_allclose(gradient, tensor.grad, atol=1e-6)
    evaluated = layers.max_pool(jnp.asarray(values), size, stride, padding)
    np.testing.assert_array_equal(evaluated, expected.detach())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_pooling_gradient_is_materialized_on_cpus(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def total(values):
        return jnp.sum(layers.max_pool(values, 3, 2))

    program = str(jax.make_jaxpr(jax.grad(total))(jnp.zeros((2, 9, 9, 3))))
    assert ("optimization_barrier" in program) is (backend == "cpu")


FINITE = arrays(
    np.float32,
    16,
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
)


@pytest.mark.parametrize("layer", [layers.materialize, layers.materialize_gradient])
@given(FINITE)
def test_materialized_values_are_bit_exact(layer, values):
    """The gradient is exact as well, including signs of zeros."""
    for materialized in compute_in_training(layer, values):
        np.testing.assert_array_equal(
            np.asarray(materialized).view(np.int32), values.view(np.int32)
        )


@functools.partial(jax.jit, static_argnums=0)
def compute_in_training(layer, values):
    """Values in training, and the gradient if the output's gradient has the same values."""
    outputs, vjp = jax.vjp(layer, values)
    return outputs, *vjp(values)


def test_pooling_is_not_recomputed_for_the_weight_gradient(monkeypatch):
    """No transposition of the compiled program computes maxima, as it would without the layer."""
    images, kernel = np.ones((4, 17, 17, 8), np.float32), np.ones((5, 5, 4, 8), np.float32)
    options: Any = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 2}

    def is_recomputed() -> bool:
        def loss(images, kernel):
            pooled = layers.max_pool(images, 3, 2)
            outputs = convolutions.convolution(pooled, kernel, (1, 1), [(2, 2)] * 2, **options)
            return jnp.sum(jnp.square(outputs))

        text = jax.jit(jax.grad(loss, (0, 1))).lower(images, kernel).compile().as_text()
        fused_computations = [
            computation
            for computation in text.split("\n\n")
            if computation.startswith("%fused_computation")
        ]
        return any(
            " transpose(" in computation and " maximum(" in computation
            for computation in fused_computations
        )

    assert not is_recomputed()
    monkeypatch.setattr(layers, "materialize", lambda values: values)
    if not is_recomputed():
        pytest.skip("this version of XLA does not recompute it without the layer either")


def test_bfloat16_pooling_on_a_cpu_is_exact():
    images = jnp.asarray(random_values(2, 9, 9, 4), jnp.bfloat16)
    pooled = layers.max_pool(images, 3, 2)
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled, nn.max_pool(images, (3, 3), (2, 2)))


def drop(rate: float, layer: int = 1, seed: int = 0, examples: int = 16) -> np.ndarray:
    keys = jax.random.split(jax.random.key(seed), examples)
    values = jnp.ones((examples, 500))
    return np.asarray(layers.dropout(values, keys, rate=rate, layer=layer))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_preserves_the_mean_and_has_its_rate(rate):
    values = drop(rate)
    is_nonzero = values != 0
    np.testing.assert_allclose(values[is_nonzero], 1 / (1 - rate), rtol=1e-5)
    # 8,000 draws: a p-value below 1e-6 does not happen by chance
    assert stats.binomtest(int(is_nonzero.sum()), is_nonzero.size, 1 - rate).pvalue > 1e-6


def test_dropout_differs_by_layer_and_example():
    first, other_layer = drop(0.5, layer=6), drop(0.5, layer=7)
    rows = np.concatenate([first, other_layer])
    assert len(np.unique(rows, axis=0)) == len(rows)
    np.testing.assert_array_equal(first, drop(0.5, layer=6))


@pytest.mark.parametrize(("rate", "keys"), [(0.5, None), (0.0, "given")])
def test_dropout_is_the_identity_in_evaluation_and_at_rate_0(rate, keys):
    values = jnp.asarray(random_values(3, 5))
    keys = jax.random.split(jax.random.key(0), 3) if keys else None
    assert layers.dropout(values, keys, rate=rate, layer=1) is values


def test_stochastic_depth_drops_whole_examples_at_its_rate():
    keys = jax.random.split(jax.random.key(0), 2000)
    values = layers.stochastic_depth(jnp.ones((2000, 3, 2)), keys, rate=0.3, layer=1)
    rows = np.asarray(values).reshape(2000, 6)
    assert (rows == rows[:, :1]).all()
    np.testing.assert_allclose(np.unique(rows), [0, 1 / 0.7], rtol=1e-6)
    assert stats.binomtest(int(rows[:, 0].astype(bool).sum()), 2000, 0.7).pvalue > 1e-6
    assert layers.stochastic_depth(values, None, rate=0.3, layer=1) is values


def test_signed_range_has_no_trace_of_the_normalisation():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3), np.uint8)
    signed = layers.to_signed_range(preprocessing.normalize(jnp.asarray(pixels)))
    np.testing.assert_allclose(signed, pixels / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (40, 30)], ids=["convolution", "linear"])
def test_initialisers_equal_torch_in_distribution(shape):
    torch = pytest.importorskip("torch")
    fan_in = int(np.prod(shape[:-1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if len(shape) == 4:
            torch_layer = torch.nn.Conv2d(shape[2], shape[3], shape[0])
        else:
            torch_layer = torch.nn.Linear(*shape)
    kernel = layers.uniform_fan_in()(jax.random.key(0), shape)
    bias = layers.uniform_bias(fan_in)(jax.random.key(1), (1000,))
    for values, torch_values in ((kernel, torch_layer.weight), (bias, torch_layer.bias)):
        values, reference = np.ravel(values), torch_values.detach().numpy().ravel()
        assert stats.ks_2samp(values, reference).pvalue > 1e-3
        assert np.abs(values).max() <= fan_in**-0.5
        assert np.abs(values).max() > 0.9 * fan_in**-0.5
