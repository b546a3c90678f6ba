"""Grad-CAM: shapes, independence of the batch, and gradients against references."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from affect_jax import models
from affect_jax.core.errors import UserError
from affect_jax.data import preprocessing
from affect_jax.evaluate.grad_cam import grad_cam
from affect_jax.models import feature_maps
from tests.trained_runs import packaged_trunks, small_trunk

pytestmark = pytest.mark.usefixtures("short_trunks")

SIZE, CROP = 72, 64


@functools.cache
def network(trunk: str):
    spec = {**small_trunk(trunk), "width": 4 if trunk == "resnet18" else 32}
    model = models.model_from_spec(spec, ("expression",))
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, CROP, CROP, 3)))
    return model, variables


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


CLASSES = np.array([0, 3, 7, 3, 1])


@pytest.mark.parametrize(
    "trunk",
    [
        name if name in ("resnet18", "vit_small") else pytest.param(name, marks=pytest.mark.slow)
        for name in packaged_trunks()
    ],
)
def test_every_trunk_has_heat_maps(trunk, images):
    faces, heat = grad_cam(*network(trunk), images, CLASSES, crop_size=CROP)
    assert faces.shape == (5, CROP, CROP, 3) and heat.shape == (5, CROP, CROP)
    np.testing.assert_array_equal(faces, images[:, 4:68, 4:68])
    assert heat.min() >= 0 and np.isfinite(heat).all()
    assert set(heat.max(axis=(1, 2)).round(5).tolist()) <= {0.0, 1.0}


def test_heat_map_does_not_depend_on_the_batch(images):
    explain = functools.partial(grad_cam, *network("resnet18"), crop_size=CROP)
    _, heat = explain(images, CLASSES)
    _, reversed_heat = explain(images[::-1], CLASSES[::-1])
    np.testing.assert_allclose(reversed_heat[::-1], heat, atol=1e-4)


def compute_gradients(model, variables, inputs, class_indices):
    def compute(variables, inputs):
        return feature_maps.compute_gradients(model, variables, inputs, "expression", class_indices)

    return jax.jit(compute)(variables, inputs)


def test_mean_pooling_gives_the_class_activation_map(images):
    """With mean pooling, a channel's importance is its last-layer weight (Zhou et al. 2016)."""
    model, variables = network("resnet18")
    inputs = preprocessing.preprocess_for_evaluation(images, crop_size=CROP)
    apply = functools.partial(model.apply, capture_intermediates=True, mutable=["intermediates"])
    _, collections = jax.jit(apply)(variables, inputs)
    (last,) = collections["intermediates"]["trunk"]["stage4_block2"]["__call__"]
    weights = variables["params"]["expression"]["kernel"][:, CLASSES].T  # [b, C]
    feature_map, gradient = compute_gradients(model, variables, inputs, CLASSES)
    np.testing.assert_allclose(feature_map, last, rtol=1e-5)
    num_positions = last.shape[1] * last.shape[2]
    expected = np.broadcast_to(weights[:, None, None] / num_positions, last.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_patches_that_enter_the_last_block_are_the_feature_map_of_a_vit(images):
    """After that block no gradient reaches the patches, as only the class token is pooled."""
    model, variables = network("vit_small")
    inputs = preprocessing.preprocess_for_evaluation(images, crop_size=CROP)
    feature_map, gradient = compute_gradients(model, variables, inputs, CLASSES)
    model_of_one_block = dataclasses.replace(
        model, trunk=dataclasses.replace(model.trunk, depth=1), sizes=()
    )
    apply = functools.partial(model_of_one_block.apply, capture_intermediates=True)
    _, collections = jax.jit(functools.partial(apply, mutable=["intermediates"]))(variables, inputs)
    (tokens,) = collections["intermediates"]["trunk"]["block01"]["__call__"]
    np.testing.assert_allclose(feature_map.reshape(5, 16, 32), tokens[:, 1:], rtol=1e-5, atol=1e-6)
    assert feature_map.shape == gradient.shape == (5, 4, 4, 32)
    assert np.abs(gradient).max(axis=(1, 2, 3)).min() > 0
    # Negative activations count, as no ReLU follows.
    heat = np.maximum(np.einsum("bhwc,bc->bhw", feature_map, gradient.mean(axis=(1, 2))), 0)
    _, resized = grad_cam(model, variables, images, CLASSES, crop_size=CROP)
    corners, resized = (h[:, :: h.shape[1] - 1, :: h.shape[1] - 1] for h in (heat, resized))
    assert corners.any()  # those of a bilinear map are those of the coarse map, but for its scale
    np.testing.assert_allclose(
        resized * corners.max((1, 2), keepdims=True),
        corners * resized.max((1, 2), keepdims=True),
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.slow
def test_gradient_matches_finite_differences(images):
    """The slope of the logit along conv5's unit gradient is the norm of the gradient."""
    model, variables = network("alexnet_one_tower")
    inputs = preprocessing.preprocess_for_evaluation(images[:1], crop_size=CROP)
    _, gradient = compute_gradients(model, variables, inputs, CLASSES[:1])
    step = 1e-2 * gradient / jnp.linalg.norm(gradient)

    def logit(sign: float) -> float:
        def perturb(call, args, kwargs, context):
            value = call(*args, **kwargs)
            return value + sign * step if context.module.path == ("trunk", "conv5") else value

        with nn.intercept_methods(perturb):
            return float(model.apply(variables, inputs)["expression"][0, CLASSES[0]])

    slope = (logit(1) - logit(-1)) / 2e-2
    assert slope == pytest.approx(float(jnp.linalg.norm(gradient)), rel=0.02)


def test_trunk_without_a_feature_map_is_refused(images):
    class Flat(nn.Module):
        @nn.compact
        def __call__(self, images, train=False, keys=None):
            return nn.Dense(4)(images.reshape(len(images), -1))

    model = models.Model(Flat(), (("expression", 8),), jnp.dtype("float32"))
    inputs = preprocessing.preprocess_for_evaluation(images, crop_size=CROP)
    variables = model.init(jax.random.key(0), inputs)
    with pytest.raises(UserError, match="Flat: no module returns a feature map"):
        feature_maps.compute_gradients(model, variables, inputs, "expression", CLASSES)
