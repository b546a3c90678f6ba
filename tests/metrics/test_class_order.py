"""Wrong orders of class columns are found; poor and random models raise no warning."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax.core.labels import classes
from affect_jax.metrics.class_order import describe_wrong_order
from affect_jax.metrics.predictions import Predictions

EIGHT = classes(8)


def create_table(labels: np.ndarray, logits: np.ndarray, names=EIGHT) -> Predictions:
    exponentials = np.exp(logits)
    return Predictions(
        id=np.arange(len(labels)).astype(str),
        classes=names,
        expression=labels,
        probabilities=exponentials / exponentials.sum(axis=1, keepdims=True),
    )


def simulate(random, count: int, skill: float, num_classes: int = 8):
    """Labels of skewed classes, and logits with a bias for some classes."""
    labels = random.choice(num_classes, count, p=random.dirichlet(np.full(num_classes, 1.5)))
    logits = random.normal(0, 1, (count, num_classes)) + random.normal(0, 1, num_classes)
    logits[np.arange(count), labels] += skill
    return labels, logits


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 3000), st.floats(0, 3), st.integers(2, 12))
def test_random_and_weak_models_raise_no_warning(seed, count, skill, num_classes):
    random = np.random.default_rng(seed)
    labels, logits = simulate(random, count, skill, num_classes)
    names = tuple(f"c{i}" for i in range(num_classes))
    assert describe_wrong_order(create_table(labels, logits, names)) is None


@pytest.mark.parametrize("count", [10, 1000])
def test_one_predicted_class_raises_no_warning(count):
    logits = np.tile(9 * np.eye(8)[1], (count, 1))
    assert describe_wrong_order(create_table(np.arange(count) % 8, logits)) is None


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 2**32))
def test_permutation_of_a_good_model_is_named(order, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(800) % 8
    logits = random.normal(0, 1, (800, 8))
    logits[np.arange(800), labels] += 2.5
    warning = describe_wrong_order(create_table(labels, logits[:, order]))
    expected = [(EIGHT[i], EIGHT[c]) for i, c in enumerate(order) if i != c]
    assert sorted(re.findall(r"(\w+) is (\w+)", warning or "")) == sorted(expected)


def test_alphabetical_columns_of_a_mediocre_model_are_found():
    random = np.random.default_rng(0)
    labels, logits = np.arange(400) % 8, random.normal(0, 1, (400, 8))
    logits[np.arange(400), labels] += 1.5
    warning = describe_wrong_order(create_table(labels, logits[:, np.argsort(EIGHT)]))
    assert warning and "neutral is anger, happiness is contempt" in warning
