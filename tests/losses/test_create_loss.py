"""Creating the objective from a config: names, weights and rejected options."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from affect_jax import losses
from affect_jax.core.errors import UserError

COUNTS = np.array([70, 130, 25, 14, 6, 4, 25, 3])
FREQUENCIES = np.linspace(0.05, 0.7, 18)
SQUARED = {"name": "squared_error", "head": "valence_arousal"}
CCC = {"name": "ccc", "head": "valence_arousal"}
BINARY = {"name": "binary_cross_entropy", "head": "action_units"}
WEIGHTED = {"name": "weighted_cross_entropy", "head": "expression"}


def test_names_are_entries_or_entries_with_heads():
    specs = [
        {"name": "focal", "head": "expression"},
        {"name": "ccc", "head": "valence_arousal"},
        {"name": "focal", "head": "action_units"},
    ]
    assert tuple(losses.create_loss(specs).terms) == (
        "focal_expression",
        "ccc",
        "focal_action_units",
    )


def test_config_dicts_are_specs():
    loss = losses.create_loss((ConfigDict({**WEIGHTED, "power": 0.5}),), COUNTS)
    assert tuple(loss.terms) == ("weighted_cross_entropy",)


def test_total_is_sum_of_weighted_values():
    loss = losses.create_loss([{**SQUARED, "weight": 0.25}, {**CCC, "weight": 2}, BINARY])
    values = {"squared_error": 4.0, "ccc": 0.5, "binary_cross_entropy": 3.0}
    assert loss.init() == {}
    total = loss.total({name: jnp.float32(value) for name, value in values.items()}, {})
    assert total == 0.25 * 4.0 + 2 * 0.5 + 3.0


@pytest.mark.parametrize(("value", "s"), [(0.02, -3.0), (0.7, 0.3), (90.0, 2.5)])
def test_learned_weight_equals_kendall_formula(value, s):
    loss = losses.create_loss([{**SQUARED, "weight": "learned"}, CCC])
    assert jax.tree.map(jnp.shape, loss.init()) == {"squared_error": ()}
    assert loss.init()["squared_error"] == 0

    def total(value: jax.Array, s: jax.Array) -> jax.Array:
        values = {"squared_error": value, "ccc": jnp.float32(0.5)}
        return loss.total(values, {"squared_error": s})

    result, (by_value, by_s) = jax.value_and_grad(total, argnums=(0, 1))(
        jnp.float32(value), jnp.float32(s)
    )
    np.testing.assert_allclose(result, np.exp(-s) * value + s + 0.5, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_value, np.exp(-s), rtol=1e-4)
    np.testing.assert_allclose(by_s, 1 - np.exp(-s) * value, rtol=1e-4, atol=1e-5)
    # At the optimum, s = log L, the weighted term is 1 for any value of L.
    _, best = jax.grad(total, argnums=(0, 1))(jnp.float32(value), jnp.float32(np.log(value)))
    np.testing.assert_allclose(best, 0, atol=1e-5)


def test_learned_weight_is_unchanged_without_examples():
    loss = losses.create_loss([{**SQUARED, "weight": "learned"}])
    gradient = jax.grad(lambda params: loss.total({"squared_error": jnp.float32(0)}, params))
    assert gradient({"squared_error": jnp.float32(0.7)}) == {"squared_error": 0}


REJECTED = [
    ([{"name": "wieghted_cross_entropy", "head": "expression"}], "did you mean 'weighted_cross"),
    ([{"head": "expression"}], "name = None: unknown"),
    ([{"name": "ccc"}], "head: missing"),
    ([{**CCC, "head": "expression"}], r"losses\[0\] \(ccc\): head = 'expression': unknown;"),
    ([SQUARED, {**CCC, "gamma": 2}], r"losses\[1\] \(ccc\).*gamma: ccc has no such option"),
    ([CCC, CCC], "valence_arousal already has this term"),
    ([{**CCC, "weight": -1}], "weight = -1: must be 0 or more, or 'learned'"),
    ([{**CCC, "weight": "learnt"}], "weight = 'learnt'"),
    ([{**CCC, "weight": True}], "weight = True"),
    ([{**CCC, "weight": float("nan")}], "weight = nan"),
    ([{**CCC, "axis_weights": (1,)}], "axis_weights = .*two numbers"),
    ([{**SQUARED, "axis_weights": (0, 0)}], "not both 0"),
    ([{**SQUARED, "axis_weights": (-1, 2)}], "0 or more"),
    ([{**CCC, "axis_weights": (float("nan"), 1)}], "two numbers"),
    ([{**CCC, "axis_weights": (float("inf"), 1)}], "two numbers"),
    ([{**WEIGHTED, "scheme": "min_ovre"}], "did you mean 'min_over'"),
    ([{**WEIGHTED, "beta": 1}], "beta = 1"),
    ([{**WEIGHTED, "power": -1}], "power = -1"),
    ([{**WEIGHTED, "max_weight": 0.5}], "max_weight = 0.5"),
    ([{**WEIGHTED, "label_smoothing": 1.0}], "label_smoothing = 1.0"),
    ([{"name": "balanced_softmax", "head": "expression", "tau": "1"}], "tau = '1'"),
    ([{"name": "focal", "head": "expression", "gamma": -1}], "gamma = -1"),
    ([{"name": "asymmetric", "head": "action_units", "clip": 1}], "clip = 1"),
    ([{"name": "asymmetric", "head": "action_units", "clip": 1e-9}], "clip = 1e-09"),
    ([{"name": "asymmetric", "head": "action_units", "gamma_neg": -1}], "gamma_neg = -1"),
    ([{**BINARY, "max_weight": -2}], "max_weight = -2"),
]


@pytest.mark.parametrize(("specs", "message"), REJECTED)
def test_invalid_terms_are_rejected(specs, message):
    with pytest.raises(UserError, match=message):
        losses.create_loss(specs, COUNTS, FREQUENCIES)


@pytest.mark.parametrize("name", ["weighted_cross_entropy", "balanced_softmax"])
def test_empty_class_is_rejected_with_advice(name):
    spec = {"name": name, "head": "expression"}
    with pytest.raises(UserError, match="class 2, 7 has no face.*use cross_entropy or focal"):
        losses.create_loss([spec], np.array([5, 4, 0, 3, 2, 1, 9, 0]))
    for counts in (None, np.zeros(8, int)):
        with pytest.raises(UserError, match="needs a training split with expressions"):
            losses.create_loss([spec], counts)


def test_unit_that_is_never_active_is_rejected_or_capped():
    spec = {**BINARY, "frequency_weights": True}
    for missing in (None, np.full(18, np.nan)):
        with pytest.raises(UserError, match="needs a training split with action units"):
            losses.create_loss([spec], None, missing)
    with pytest.raises(UserError, match="index 1, 3 is never active.*set max_weight"):
        losses.create_loss([spec], None, np.array([0.5, 0.0, 0.1, 0.0]))
    frequencies = np.array([0.5, 0.0, np.nan, 0.25])
    (term,) = losses.create_loss([{**spec, "max_weight": 10}], None, frequencies).terms.values()
    weights = term.unit_weights()  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(weights, np.array([1, 10, 0, 2]) * 3 / 13)


def test_registered_term_of_another_module_is_used():
    registry = losses.LOSSES

    class DoubledError(losses.LossTerm):
        heads = ("valence_arousal",)

        def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
            return 2 * jnp.sum(jnp.abs(outputs - targets), axis=-1)

    registry.register("doubled_for_a_test")(DoubledError)
    try:
        loss = losses.create_loss([{"name": "doubled_for_a_test", "head": "valence_arousal"}])
    finally:
        del registry._entries["doubled_for_a_test"]
    batch = {
        "valence_arousal": jnp.zeros((3, 2)),
        "valence_arousal_mask": jnp.array([True, True, False]),
    }
    sums = loss.sums({"valence_arousal": jnp.array([[1.0, 0.0], [0.5, 0.5], [9.0, 9.0]])}, batch)
    assert loss.values(sums) == {"doubled_for_a_test": 2.0}
