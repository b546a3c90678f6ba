"""Properties of every loss term in the registry, including new ones."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from affect_jax import losses

COUNTS = np.array([70, 130, 25, 14, 6, 4, 25, 3])
FREQUENCIES = np.linspace(0.05, 0.7, 18)
SIZE = 8  # examples
WIDTH = 5  # features
OUTPUTS = {"expression": 8, "valence_arousal": 2, "action_units": 18}
TERMS = [
    {"name": name, "head": head}
    for name in losses.LOSSES.names()
    for head in losses.LOSSES[name].heads  # pyright: ignore[reportFunctionMemberAccess]
]
TERMS += [
    {"name": "weighted_cross_entropy", "head": "expression", "normalize_weights": False},
    {"name": "binary_cross_entropy", "head": "action_units", "frequency_weights": True},
]


def batch_of(seed: int, masked: float = 0.4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "features": random.normal(size=(SIZE, WIDTH)).astype(np.float32),
        "expression": random.integers(0, 8, SIZE).astype(np.int32),
        "valence_arousal": random.uniform(-1, 1, (SIZE, 2)).astype(np.float32),
        "action_units": random.uniform(0, 1, (SIZE, 18)).astype(np.float32),
        "expression_mask": random.uniform(size=SIZE) >= masked,
        "valence_arousal_mask": random.uniform(size=SIZE) >= masked,
        "action_units_mask": random.uniform(size=(SIZE, 18)) >= masked,
    }


def params_of(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {head: random.normal(size=(WIDTH, n)).astype(np.float32) for head, n in OUTPUTS.items()}


def loss_of(*specs: dict) -> losses.Loss:
    return losses.create_loss(specs, COUNTS, FREQUENCIES)


def objective(spec: dict):
    """(outputs, batch) -> total of the term on one device, and its gradient by the outputs."""
    return compiled_objective(tuple(spec.items()))


@functools.cache  # compilation takes most of the time of these tests
def compiled_objective(items: tuple):
    loss = loss_of(dict(items))

    def total(outputs: dict, batch: dict) -> jax.Array:
        return loss.total(loss.values(loss.sums(outputs, batch)), loss.init())

    return jax.jit(jax.value_and_grad(total))


def outputs_of(batch: dict) -> dict[str, np.ndarray]:
    return {head: batch["features"] @ kernel for head, kernel in params_of(1).items()}


def id_of(spec: dict) -> str:
    return " ".join(map(str, spec.values()))


@pytest.mark.parametrize("spec", TERMS, ids=id_of)
def test_masked_values_change_nothing(spec):
    total, head = objective(spec), spec["head"]
    batch = batch_of(0)
    outputs = {head: outputs_of(batch)[head]}
    value, gradient = total(outputs, batch)
    mask = batch[f"{head}_mask"]
    assert 0 < mask.sum() < mask.size
    for poison in (np.nan, np.inf, -np.inf, 1e30):
        masked = ~mask
        poisoned = outputs[head].copy()
        poisoned[masked] = poison
        target = batch[head].copy()
        target[masked] = -7 if head == "expression" else poison
        poisoned_value, poisoned_gradient = total({head: poisoned}, {**batch, head: target})
        np.testing.assert_array_equal(poisoned_value, value)
        np.testing.assert_array_equal(poisoned_gradient[head], gradient[head])
        assert not np.any(poisoned_gradient[head][masked])
    assert np.isfinite(value) and value > 0 and np.any(gradient[head])


LEARNED = {"name": "ccc", "head": "valence_arousal", "weight": "learned"}


@pytest.mark.parametrize("spec", [*TERMS, LEARNED], ids=id_of)
def test_term_without_examples_is_zero(spec):
    batch = batch_of(0, masked=1.1)
    outputs = {spec["head"]: np.full_like(outputs_of(batch)[spec["head"]], np.nan)}
    value, gradient = objective(spec)(outputs, batch)
    assert value == 0
    assert not np.any(gradient[spec["head"]])


def step_on(loss: losses.Loss, devices: int):
    """(params, batch) -> values and gradients as in the training step on `devices` devices."""

    def device(params: dict, batch: dict):
        def total(params: dict):
            outputs = {head: batch["features"] @ kernel for head, kernel in params.items()}
            values = loss.values(lax.psum(loss.sums(outputs, batch), "batch"))
            return loss.total(values, loss.init()), values

        (_, values), gradients = jax.value_and_grad(total, has_aux=True)(params)
        return values, lax.pmean(gradients, "batch")

    def split(leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(devices, SIZE // devices, *leaf.shape[1:])

    on_devices = jax.vmap(device, in_axes=(None, 0), out_axes=None, axis_name="batch")
    compiled = jax.jit(on_devices)

    def step(params: dict, batch: dict):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            return compiled(params, jax.tree.map(split, batch))

    return step


@pytest.mark.parametrize("spec", TERMS, ids=id_of)
def test_split_over_devices_changes_nothing(spec):
    loss, head = loss_of(spec), spec["head"]
    one_device_step, *split_steps = (step_on(loss, devices) for devices in (1, 4))
    for seed in range(2):
        params, batch = {head: params_of(seed)[head]}, batch_of(seed)
        batch[f"{head}_mask"][: SIZE // 4] = False  # one device of four has no valid example
        values, gradients = one_device_step(params, batch)
        for split_step in split_steps:
            split_values, split_gradients = split_step(params, batch)
            for name in loss.terms:
                np.testing.assert_allclose(split_values[name], values[name], rtol=1e-5)
            # float32 sums in another order
            np.testing.assert_allclose(split_gradients[head], gradients[head], atol=3e-6, rtol=1e-4)


def test_sums_of_shards_add_up_to_the_total():
    loss, batch = loss_of(*TERMS[:-2]), batch_of(5)
    outputs, sums = outputs_of(batch), jax.jit(loss.sums)
    whole = loss.values(sums(outputs, batch))
    for cut in (0, 3):  # shards of unequal size, an empty one among them

        def take_rows(tree: dict, rows: slice) -> dict:
            return {key: leaf[rows] for key, leaf in tree.items()}

        shards = [
            sums(take_rows(outputs, rows), take_rows(batch, rows))
            for rows in (slice(cut), slice(cut, None))
        ]
        values = loss.values(jax.tree.map(jnp.add, *shards))
        for name in loss.terms:
            np.testing.assert_allclose(values[name], whole[name], rtol=1e-5)


SOFT_TERMS = [spec for spec in TERMS if spec["head"] == "expression"]


@pytest.mark.parametrize("spec", SOFT_TERMS, ids=id_of)
def test_distribution_has_the_expected_loss_of_its_classes(spec):
    total, batch = objective(spec), batch_of(3)
    outputs = {"expression": outputs_of(batch)["expression"]}
    value, gradient = total(outputs, batch)
    one_hot = np.eye(8, dtype=np.float32)[batch["expression"]]
    soft_value, soft_gradient = total(outputs, {**batch, "expression_distribution": one_hot})
    np.testing.assert_allclose(soft_value, value, rtol=1e-5)
    np.testing.assert_allclose(soft_gradient["expression"], gradient["expression"], atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_a_distribution_equals_torch(smoothing):
    torch = pytest.importorskip("torch")
    batch = batch_of(3)
    random, mask = np.random.default_rng(4), batch["expression_mask"]
    distribution = random.dirichlet(np.ones(8), SIZE).astype(np.float32)
    outputs = outputs_of(batch)["expression"]
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(outputs[mask]), torch.tensor(distribution[mask]), label_smoothing=smoothing
    )
    distribution[~mask] = np.nan
    spec = {"name": "cross_entropy", "head": "expression", "label_smoothing": smoothing}
    value, gradient = objective(spec)(
        {"expression": outputs}, {**batch, "expression_distribution": distribution}
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(gradient["expression"]).all() and not gradient["expression"][~mask].any()


@pytest.mark.parametrize("spec", TERMS, ids=id_of)
def test_large_outputs_stay_finite(spec):
    batch, head, total = batch_of(2, masked=0.0), spec["head"], objective(spec)
    for size in (20.0, 100.0, 1e4):
        value, gradient = total({head: size * outputs_of(batch)[head]}, batch)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient[head]))


@pytest.mark.parametrize("size", [1, 2, 50])
def test_ccc_of_constant_values_is_finite(size):
    total = objective({"name": "ccc", "head": "valence_arousal"})
    for place in (0.0, 0.3, 10.0):
        batch = {
            "valence_arousal": np.full((size, 2), place, np.float32),
            "valence_arousal_mask": np.ones(size, bool),
        }
        for distance in (0.0, 1e-6, 1e-3, 0.5):
            outputs = {"valence_arousal": np.full((size, 2), place + distance, np.float32)}
            value, gradient = total(outputs, batch)
            assert 0 <= value <= 2
            assert np.all(np.isfinite(gradient["valence_arousal"]))
            if distance == 0:
                assert value == 0
            if distance == 0.5:  # CCC is 0 for constant values
                np.testing.assert_allclose(value, 1, atol=1e-4)


counts_of_classes = st.lists(st.integers(1, 200_000), min_size=2, max_size=11).map(np.array)


def class_weights(counts: np.ndarray, **options) -> np.ndarray:
    spec = {"name": "weighted_cross_entropy", "head": "expression", **options}
    (term,) = losses.create_loss([spec], counts).terms.values()
    return term.class_weights()  # pyright: ignore[reportAttributeAccessIssue]


@given(counts_of_classes)
def test_class_weights_follow_their_schemes(counts):
    paper = class_weights(counts, scheme="min_over")
    np.testing.assert_allclose(paper * counts, counts.min())
    inverse = class_weights(counts, scheme="inverse_frequency")
    np.testing.assert_allclose(inverse @ counts, counts.sum())
    np.testing.assert_allclose(inverse / inverse.max(), paper)
    effective = class_weights(counts, scheme="effective_number", beta=0.999)
    np.testing.assert_allclose(effective.sum(), len(counts))
    np.testing.assert_allclose(class_weights(counts, scheme="effective_number", beta=0), 1)


@given(counts_of_classes, st.sampled_from(["min_over", "inverse_frequency", "effective_number"]))
def test_class_weights_decrease_with_counts_up_to_the_cap(counts, scheme):
    weights = class_weights(counts, scheme=scheme)
    order = np.argsort(counts)
    assert np.all(np.diff(weights[order]) <= 1e-12)
    capped = class_weights(counts, scheme=scheme, max_weight=50)
    assert capped.max() <= 50 * capped.min() * (1 + 1e-12)
    np.testing.assert_array_equal(capped[weights <= 50 * weights.min()], capped[capped == weights])
    np.testing.assert_allclose(class_weights(counts, scheme=scheme, power=0), 1)
