"""The layers that linen lacks, against PyTorch's and against their definitions."""

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

from affect_jax.models import layers
from affect_jax.models.kernels import convolutions


def random_values(*shape: int, scale: float = 30.0) -> np.ndarray:
    """Large enough that the sum of squares counts beside the bias."""
    return (scale * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_response_normalisation_and_its_gradient_equal_torch(size):
    torch = pytest.importorskip("torch")
    values, weights = random_values(2, 3, 4, 9), random_values(2, 3, 4, 9, scale=1.0)

    def ours(values):
        return layers.local_response_normalisation(values, size=size, alpha=1e-2)

    # PyTorch divides alpha by the size of the window, the paper does not.
    theirs = torch.nn.LocalResponseNorm(size, alpha=1e-2 * size, beta=0.75, k=2.0)
    tensor = torch.tensor(values, requires_grad=True)
    expected = theirs(tensor.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    (expected * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(ours(values), expected.detach(), rtol=1e-5)
    gradient = jax.grad(lambda values: jnp.sum(ours(values) * weights))(values)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-4, atol=1e-5)


def test_response_normalisation_has_the_papers_constants():
    values = random_values(7, scale=100.0).astype(np.float64)
    expected = [
        x
        / (2 + 1e-4 * sum(values[j] ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))) ** 0.75
        for i, x in enumerate(values)
    ]
    found = layers.local_response_normalisation(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_response_normalisation_adds_in_float32():
    values = jnp.asarray(random_values(4, 64), jnp.bfloat16)
    found = layers.local_response_normalisation(values)
    assert found.dtype == jnp.bfloat16
    exact = layers.local_response_normalisation(values.astype(jnp.float32))
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0)])
def test_pooling_equals_torch_on_negative_values_too(size, stride, padding):
    torch = pytest.importorskip("torch")
    values = -np.abs(random_values(2, 13, 10, 3))
    tensor = torch.tensor(values).permute(0, 3, 1, 2)
    expected = torch.nn.functional.max_pool2d(tensor, size, stride, padding)
    found = layers.max_pool(jnp.asarray(values), size, stride, padding)
    np.testing.assert_array_equal(found, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 0)]
)
def test_the_gradient_of_pooling_equals_torchs(size, stride, padding, ties):
    """Sides that the windows fill and sides that they do not; of equal values the first has it."""
    torch = pytest.importorskip("torch")
    for sides in ((13, 10), (12, 11)):
        values = random_values(2, *sides, 3, scale=1.0)
        values = np.maximum(values, 0) if ties else values
        tensor = torch.tensor(values, requires_grad=True)
        pooled = torch.nn.functional.max_pool2d(tensor.permute(0, 3, 1, 2), size, stride, padding)
        expected = pooled.permute(0, 2, 3, 1)
        weights = random_values(*expected.shape, scale=1.0)
        (expected * torch.tensor(weights)).sum().backward()
        found, pull = jax.vjp(lambda x: layers.max_pool(x, size, stride, padding), values)
        np.testing.assert_array_equal(found, expected.detach())
        np.testing.assert_allclose(pull(jnp.asarray(weights))[0], tensor.grad, atol=1e-6)


@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 2**31))
def test_pooling_and_its_gradient_equal_xlas(size, stride, padded, seed):
    padding = size // 2 if padded else 0
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(2, *draw.integers(size, size + 9, 2), 3)).astype(np.float32)

    def xlas(values):
        pad = ((padding, padding), (padding, padding))
        return nn.max_pool(values, (size, size), (stride, stride), pad)

    expected, theirs = jax.vjp(xlas, values)
    found, ours = jax.vjp(lambda x: layers.max_pool(x, size, stride, padding), values)
    np.testing.assert_array_equal(found, expected)
    weights = jnp.asarray(draw.normal(size=expected.shape), jnp.float32)
    np.testing.assert_allclose(ours(weights)[0], theirs(weights)[0], atol=1e-5)


def test_the_gradient_of_pooling_is_stored():
    def total(values):
        return jnp.sum(layers.max_pool(values, 3, 2))

    values = jnp.zeros((2, 9, 9, 3))
    assert "optimization_barrier" in str(jax.make_jaxpr(jax.grad(total))(values))


FINITE = arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
)


@pytest.mark.parametrize("layer", [layers.keep, layers.keep_gradient])
@given(FINITE)
def test_what_is_kept_is_the_same_to_the_last_bit(layer, values):
    """And so is its gradient: signs of zeros too."""
    for found in (jax.jit(layer)(values), *kept(layer, values)):
        np.testing.assert_array_equal(np.asarray(found).view(np.int32), values.view(np.int32))


@functools.partial(jax.jit, static_argnums=0)
def kept(layer, values):
    """Values in training, and their gradient, which is given the same values."""
    found, pull = jax.vjp(layer, values)
    return found, *pull(values)


def test_a_pooling_is_not_repeated_for_the_weight_gradient(monkeypatch):
    """By the compiled program: whether a transposition computes maxima, as without `keep`."""
    images, kernel = np.ones((4, 17, 17, 8), np.float32), np.ones((5, 5, 4, 8), np.float32)
    options: Any = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 2}

    def repeated() -> bool:
        def loss(images, kernel):
            pooled = layers.max_pool(images, 3, 2)
            found = convolutions.convolution(pooled, kernel, (1, 1), [(2, 2)] * 2, **options)
            return jnp.sum(jnp.square(found))

        text = jax.jit(jax.grad(loss, (0, 1))).lower(images, kernel).compile().as_text()
        fused = [part for part in text.split("\n\n") if part.startswith("%fused_computation")]
        return any(" transpose(" in part and " maximum(" in part for part in fused)

    assert not repeated()
    monkeypatch.setattr(layers, "keep", lambda values: values)
    if not repeated():
        pytest.skip("this XLA repeats nothing without it either")


def test_pooling_of_bfloat16_on_a_cpu_is_that_of_bfloat16():
    images = jnp.asarray(random_values(2, 9, 9, 4), jnp.bfloat16)
    pooled = layers.max_pool(images, 3, 2)
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled, nn.max_pool(images, (3, 3), (2, 2)))


def dropped(rate: float, layer: int = 1, seed: int = 0, examples: int = 16) -> np.ndarray:
    keys = jax.random.split(jax.random.key(seed), examples)
    return np.asarray(layers.Dropout(rate, layer)(jnp.ones((examples, 500)), keys))


@given(st.floats(0.05, 0.95))
def test_dropout_keeps_the_mean_and_drops_its_share(rate):
    values = dropped(rate)
    kept = values != 0
    np.testing.assert_allclose(values[kept], 1 / (1 - rate), rtol=1e-5)
    # 8,000 draws: a p-value below 1e-6 does not happen by chance in 50 examples
    assert stats.binomtest(int(kept.sum()), kept.size, 1 - rate).pvalue > 1e-6


def test_dropout_differs_by_layer_and_example():
    first, other = dropped(0.5, layer=6), dropped(0.5, layer=7)
    rows = np.concatenate([first, other])
    assert len(np.unique(rows, axis=0)) == len(rows)
    np.testing.assert_array_equal(first, dropped(0.5, layer=6))


@pytest.mark.parametrize(("rate", "keys"), [(0.5, None), (0.0, "given")])
def test_dropout_is_nothing_in_evaluation_and_at_rate_0(rate, keys):
    values = jnp.asarray(random_values(3, 5))
    keys = jax.random.split(jax.random.key(0), 3) if keys else None
    assert layers.Dropout(rate, 1)(values, keys) is values


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (40, 30)], ids=["convolution", "linear"])
def test_initialisers_equal_torch_in_distribution(shape):
    torch = pytest.importorskip("torch")
    fan_in = int(np.prod(shape[:-1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if len(shape) == 4:
            theirs = torch.nn.Conv2d(shape[2], shape[3], shape[0])
        else:
            theirs = torch.nn.Linear(*shape)
    kernel = layers.uniform_fan_in()(jax.random.key(0), shape)
    bias = layers.uniform_bias(fan_in)(jax.random.key(1), (1000,))
    for ours, other in ((kernel, theirs.weight), (bias, theirs.bias)):
        values, reference = np.ravel(ours), other.detach().numpy().ravel()
        assert stats.ks_2samp(values, reference).pvalue > 1e-3
        assert np.abs(values).max() <= fan_in**-0.5
        assert np.abs(values).max() > 0.9 * fan_in**-0.5
