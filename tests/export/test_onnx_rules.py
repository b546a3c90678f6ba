"""Each rule alone against JAX, and what has none is said."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from affect_jax.errors import UserError
from affect_jax.export import onnx_model, onnx_rules
from affect_jax.models.layers import local_response_normalisation, max_pool

onnxruntime = pytest.importorskip("onnxruntime")
RANDOM = np.random.default_rng(3)
SIZE = (9, 7, 6)  # rows, columns, channels: all differ, so that none stands for another


def kernel(*shape):
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def convolution(x, **options):
    """6 channels in, 8 out."""
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    groups = options["feature_group_count"] if "feature_group_count" in options else 1
    return lax.conv_general_dilated(
        x, kernel(3, 3, 6 // groups, 8), dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


CASES = {
    "a convolution": convolution,
    "strides": lambda x: convolution(x, window_strides=(2, 3), padding=((1, 0), (2, 1))),
    "groups": lambda x: convolution(x, feature_group_count=2),
    "dilation": lambda x: convolution(x, rhs_dilation=(2, 1)),
    "a bias": lambda x: convolution(x) + kernel(8),
    "a constant taken away": lambda x: convolution(x) - kernel(1, 1, 1, 8),
    "a constant less a value": lambda x: kernel(8) - convolution(x),
    "relu": lambda x: jax.nn.relu(convolution(x)),
    "two orders of axes": lambda x: lax.slice_in_dim(convolution(x), 0, 6, axis=3) * x,
    "a pool": lambda x: max_pool(x, 3, 2, padding=1),
    "a pool after a convolution": lambda x: max_pool(convolution(x), 2, 2),
    "response normalisation": local_response_normalisation,
    "an even window of channels": lambda x: local_response_normalisation(x, size=4),
    "a mean over space": lambda x: jnp.mean(convolution(x), axis=(1, 2)),
    "a sum over rows": lambda x: jnp.sum(convolution(x), axis=1),
    "a maximum of channels": lambda x: jnp.max(convolution(x), axis=3),
    "a crop": lambda x: lax.slice_in_dim(convolution(x), 2, 6, axis=1),
    "every second column": lambda x: lax.slice_in_dim(x, 0, 7, 2, axis=2),
    "a mirror image": lambda x: jnp.flip(x, 2),
    "a mirror image after a convolution": lambda x: jnp.flip(convolution(x), 2),
    "channels parted": lambda x: jnp.split(convolution(x), 2, axis=3)[1],
    "channels joined": lambda x: jnp.concatenate([convolution(x), x], axis=3),
    "rows joined": lambda x: jnp.concatenate([convolution(x), convolution(x)], axis=1),
    "a flat layer": lambda x: convolution(x).reshape(x.shape[0], -1) @ kernel(9 * 7 * 8, 5),
    "softmax": lambda x: jax.nn.softmax(x.reshape(x.shape[0], -1)),
    "sigmoid": lambda x: jax.nn.sigmoid(convolution(x)),
    "a clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "a power": lambda x: (2 + jnp.square(x)) ** -0.75,
    "integers": lambda x: (x * 100).astype(jnp.int32).astype(jnp.float32),
    "a gradient that is stopped": lambda x: lax.stop_gradient(x) / 3,
    "what no image changes": lambda x: x + jnp.sqrt(jnp.arange(6.0)),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_rule_gives_what_jax_gives(name):
    def function(images):
        global RANDOM
        RANDOM = np.random.default_rng(3)  # the same constants whenever it is traced
        return {"result": CASES[name]((images.astype(jnp.float32) - 128) / 64)}

    model = onnx_model.convert(function, SIZE, name="case", about={"why": "a test"})
    assert [(one.key, one.value) for one in model.metadata_props] == [("why", "a test")]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for batch in (1, 3):
        images = np.random.default_rng(batch).integers(0, 256, (batch, *SIZE), np.uint8)
        (found,) = session.run(["result"], {"image": images})
        wanted = np.asarray(function(images)["result"])
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5)


def test_every_rule_is_used_by_a_case():
    used = set()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            used.add(equation.primitive.name)
            for value in equation.params.values():
                if hasattr(value, "jaxpr"):
                    walk(value.jaxpr)

    for case in CASES.values():
        walk(jax.make_jaxpr(case)(np.zeros((2, *SIZE), np.float32)).jaxpr)
    assert set(onnx_rules.RULES) <= used


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: jnp.cumsum(x, axis=1), "cumsum"),
        (lambda x: lax.broadcast_in_dim(x, (*x.shape, 2), (0, 1, 2, 3)), "broadcast_in_dim"),
        (lambda x: lax.dot_general(x, x, (((3,), (3,)), ((0,), (0,)))), "dot_general with"),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID"), "sum"),
        (lambda x: lax.conv_transpose(x, np.ones((3, 3, 6, 2), np.float32), (2, 2), "SAME"), "con"),
    ],
)
def test_what_has_no_rule_is_named(function, message):
    with pytest.raises(UserError, match=f"the network uses JAX's .*{message}.* has no rule in"):
        onnx_model.convert(
            lambda images: {"result": function(images.astype(jnp.float32))},
            SIZE,
            name="case",
            about={},
        )


def test_equal_weights_are_stored_once():
    weights = kernel(3, 3, 6, 64)

    def twice(images):
        x = images.astype(jnp.float32)
        options = {"window_strides": (1, 1), "padding": "SAME"}
        order = ("NHWC", "HWIO", "NHWC")
        one, other = (
            lax.conv_general_dilated(side, weights, dimension_numbers=order, **options)
            for side in (x, jnp.flip(x, 2))
        )
        return {"result": one + other}

    model = onnx_model.convert(twice, SIZE, name="case", about={})
    assert weights.nbytes <= model.ByteSize() < 1.5 * weights.nbytes
