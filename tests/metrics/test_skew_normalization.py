from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.metrics import skew_normalization

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


@given(LABELS, st.integers(0, 5))
def test_draws_have_equal_class_counts_without_repetition(labels, seed):
    """Draws are without replacement, so weights are 0 and 1. Classes without faces are ignored."""
    weights = skew_normalization.subsample_classes(labels, range(3), seed)
    _, counts = np.unique(labels, return_counts=True)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    for row in weights:
        present, number = np.unique(labels[row == 1], return_counts=True)
        assert set(number) == {counts.min()} and len(present) == len(counts)


def test_draws_depend_on_number_and_seed():
    labels = np.arange(200) % 7 % 3
    draws = skew_normalization.subsample_classes(labels, range(20), 1)
    np.testing.assert_array_equal(
        skew_normalization.subsample_classes(labels, range(5, 9), 1), draws[5:9]
    )
    assert len(np.unique(draws, axis=0)) == 20
    assert (
        not (skew_normalization.subsample_classes(labels, range(20), 2) == draws).all(axis=1).any()
    )


def test_faces_of_a_class_are_drawn_uniformly():
    labels = np.repeat([0, 1], [10, 40])
    frequency = skew_normalization.subsample_classes(labels, range(4000), 0).mean(axis=0)
    np.testing.assert_array_equal(frequency[:10], 1)
    np.testing.assert_allclose(frequency[10:], 0.25, atol=0.035)  # 5 standard deviations


@given(LABELS, st.integers(0, 5))
def test_balanced_classes_have_the_weight_of_the_rarest(labels, seed):
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(labels))).astype(float)
    for before, after in zip(
        weights, skew_normalization.balance_weights(labels, weights), strict=True
    ):
        totals = {c: before[labels == c].sum() for c in np.unique(labels)}
        rarest = min((total for total in totals.values() if total), default=0)
        for label, total in totals.items():
            expected = rarest if total else 0
            assert after[labels == label].sum() == pytest.approx(expected)
            if total:  # relative weights within a class do not change
                np.testing.assert_allclose(
                    after[labels == label] * total, before[labels == label] * expected
                )


def test_balanced_weights_are_the_mean_draw():
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    mean = skew_normalization.subsample_classes(labels, range(4000), 0).mean(axis=0)
    np.testing.assert_allclose(
        skew_normalization.balance_weights(labels, np.ones((1, 70)))[0], mean, atol=0.04
    )
