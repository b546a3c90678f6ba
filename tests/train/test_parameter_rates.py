"""Learning rates of parts of a network: `rates`, `layer_decay`, frozen parts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax import models
from affect_jax.core.errors import UserError
from affect_jax.models.base import TORCH_MAPPINGS
from affect_jax.train import optimizers
from tests.trained_runs import packaged_trunks, small_trunk

pytestmark = pytest.mark.usefixtures("short_trunks")


def create_optimizer(spec: dict, rate: float = 0.1) -> optax.GradientTransformation:
    return optimizers.OPTIMIZERS.create(spec, schedule=optax.constant_schedule(rate))


NETWORK = {
    "model": {
        "trunk": {"stem": {"kernel": 1.0}, "stage1": {"kernel": 1.0, "bias": 1.0}},
        "expression": {"kernel": 1.0},
    },
    "loss": {"expression": 1.0},
}


def distances_moved(rates: dict[str, float]) -> dict[str, float]:
    """Returns the distance that each parameter moves at rate 1 and gradient 1."""
    params = jax.tree.map(jnp.asarray, NETWORK)
    optimizer = create_optimizer({"name": "sgd", "momentum": 0.0, "rates": rates}, rate=1.0)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    paths = jax.tree_util.tree_leaves_with_path(updates)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): -float(u) for p, u in paths}


PARTS = ("trunk", "trunk/stem", "trunk/stage", "trunk/stage1/bias", "expression", "loss")


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from(PARTS), st.sampled_from([0.0, 0.1, 0.5, 2.0])))
def test_longest_matching_prefix_determines_the_rate(rates):
    for name, distance in distances_moved(rates).items():
        name = name.removeprefix("model/")
        matching = sorted((key for key in rates if name.startswith(key)), key=len)
        expected = rates[matching[-1]] if matching else 1.0
        np.testing.assert_allclose(distance, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("rates", "frozen"),
    [
        ({}, False),
        ({"trunk": 0.1}, False),
        ({"expression": 0.0}, False),
        ({"trunk/stem": 0.0}, False),
        ({"trunk": 0.0, "trunk/stem": 0.1}, False),
        ({"trunk": 0.0}, True),
        ({"trunk": 0, "trunk/stem": 0, "expression": 0.1}, True),
    ],
)
def test_is_frozen_follows_the_rates(rates, frozen):
    assert optimizers.is_frozen({"name": "sgd", "rates": rates}, "trunk") == frozen
    moved = [d for name, d in distances_moved(rates).items() if name.startswith("model/trunk")]
    assert frozen == (not any(moved))


def move_each_parameter(trunk: str, **options) -> dict[str, float]:
    """Returns the distance that each parameter of a network moves at rate 1 and gradient 1."""
    model = models.model_from_spec(small_trunk(trunk), ("expression",))
    images = jnp.zeros((1, 64, 64, 3))
    shapes: Any = jax.eval_shape(model.init, jax.random.key(0), images)
    params: Any = {"model": shapes["params"]}
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
    optimizer = optimizers.OPTIMIZERS.create(
        {"name": "sgd", "momentum": 0.0, **options},
        schedule=optax.constant_schedule(1.0),
        trunk=model.trunk,
    )
    updates: Any = optimizer.update(params, optimizer.init(params), params)[0]
    paths = jax.tree_util.tree_leaves_with_path(updates["model"])
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): -float(u.ravel()[0]) for p, u in paths
    }


def get_layer_id_for_vit(name: str, num_layers: int) -> int:
    """The layer of a parameter in MAE's and BEiT's fine-tuning, by its name in PyTorch."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else num_layers


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_layer_decay_of_a_vit_equals_that_of_mae(pooling, monkeypatch):
    """`util/lr_decay.py` of MAE: the scale of layer i is `layer_decay ** (num_layers - i)`."""
    monkeypatch.setattr(models.TRUNKS["vit_small"], "pooling", pooling)
    to_torch_name = TORCH_MAPPINGS["vit_small"].to_torch_name
    num_layers = 2 + 1  # blocks of the small network, and the embedding
    for name, distance in move_each_parameter("vit_small", layer_decay=0.65).items():
        part, _, rest = name.replace("/", ".").partition(".")
        torch_name = to_torch_name(rest) if part == "trunk" else "head.weight"
        expected = 0.65 ** (num_layers - get_layer_id_for_vit(torch_name, num_layers))
        np.testing.assert_allclose(distance, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        n if n in ("resnet18", "vit_small") else pytest.param(n, marks=pytest.mark.slow)
        for n in packaged_trunks()
        if hasattr(models.TRUNKS[n], "layers")
    ],
)
def test_layer_decay_grows_from_the_input_to_the_head_of_every_trunk(name):
    moved = move_each_parameter(name, layer_decay=0.5)
    trunk = models.TRUNKS.create(small_trunk(name))
    layers = trunk.layers()
    for i, prefixes in enumerate(layers):
        for prefix in prefixes:
            names = [n for n in moved if f"{n}/".startswith(f"trunk/{prefix}/")]
            assert names, f"no parameter of {prefix}"
            for parameter in names:
                assert moved[parameter] == 0.5 ** (len(layers) - i), parameter
    in_layers = [n for n, distance in moved.items() if distance < 1]
    assert len(in_layers) > 0.9 * (len(moved) - 2)
    assert moved["expression/kernel"] == moved["expression/bias"] == 1


def test_layer_decay_multiplies_rates():
    rates = {"trunk": 0.1, "trunk/stem": 0.0}
    moved = move_each_parameter("resnet18", layer_decay=0.5, rates=rates)
    alone = move_each_parameter("resnet18", layer_decay=0.5)
    for name, distance in moved.items():
        rate = optimizers.rate_for(name, rates)
        np.testing.assert_allclose(distance, rate * alone[name], rtol=1e-6, err_msg=name)
    assert not optimizers.is_frozen({"name": "sgd", "layer_decay": 0.5}, "trunk")


def test_wrappers_pass_the_layers_on():
    base = {"name": "sgd", "momentum": 0.0, "layer_decay": 0.5}
    trunk = models.TRUNKS.create({"name": "alexnet"})
    for wrapper in ({"name": "sam"}, {"name": "accumulate", "steps": 2}):
        with pytest.raises(UserError, match="AlexNet does not list its layers"):
            optimizers.OPTIMIZERS.create(
                {**wrapper, "base": base}, schedule=optax.constant_schedule(1.0), trunk=trunk
            )


def test_log_lists_the_rate_of_each_part():
    rates = {"trunk": 0.1, "trunk/stem": 0.0}
    expected = "learning rates of parts: trunk x 0.1, trunk/stem frozen"
    for spec in ({"name": "sgd", "rates": rates}, {"name": "sam", "base": {"rates": rates}}):
        assert optimizers.describe_rates(spec) == expected
    assert not optimizers.describe_rates({"name": "sgd"})
    text = optimizers.describe_rates({"name": "adamw", "layer_decay": 0.65})
    assert text.endswith(": each layer of the trunk x 0.65 of the next")


def test_without_rates_nothing_is_frozen():
    assert not optimizers.is_frozen({"name": "sgd"}, "trunk")
    assert not optimizers.is_frozen({"name": "sgd", "rates": None}, "trunk")


def test_frozen_parameters_have_no_optimizer_state():
    params = {"bias": jnp.ones(3), "kernel": jnp.ones((5, 3)), "scale": jnp.ones(())}
    sizes = {}
    for rates in ({"bias": 0.5}, {"kernel": 0.0}):
        optimizer = create_optimizer({"name": "adam", "rates": rates})
        state = optimizer.init(params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
        sizes[str(rates)] = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert sizes["{'bias': 0.5}"] - sizes["{'kernel': 0.0}"] == 2 * params["kernel"].size


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"trnk": 0.1}, "no parameter's name starts with 'trnk'"),
        ({"trunk/stage7": 0.1}, "no parameter's name starts with 'trunk/stage7'"),
        ({"trunk": -0.1}, r"optimizer.rates\['trunk'\] = -0.1: must be 0 or more"),
        ({"trunk": "slow"}, "rates = .* must be Mapping"),
    ],
)
def test_invalid_rates_are_rejected(rates, message):
    with pytest.raises(UserError, match=message):
        distances_moved(rates)
