from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.metrics import skew_normalization

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


@given(LABELS, st.integers(0, 5))
def test_a_draw_has_the_rarest_class_number_of_each_class_once(labels, seed):
    """Without replacement: weights are 0 and 1. Classes without a face are no rarest class."""
    weights = skew_normalization.drawer(labels)(range(3), seed)
    _, counts = np.unique(labels, return_counts=True)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    for row in weights:
        drawn, number = np.unique(labels[row == 1], return_counts=True)
        assert set(number) == {counts.min()} and len(drawn) == len(counts)


def test_a_draw_is_made_by_its_number_and_the_seed():
    labels = np.arange(200) % 7 % 3
    draws = skew_normalization.drawer(labels)(range(20), 1)
    np.testing.assert_array_equal(skew_normalization.drawer(labels)(range(5, 9), 1), draws[5:9])
    assert len(np.unique(draws, axis=0)) == 20
    assert not (skew_normalization.drawer(labels)(range(20), 2) == draws).all(axis=1).any()


def test_every_face_of_a_class_is_drawn_as_often():
    labels = np.repeat([0, 1], [10, 40])
    times = skew_normalization.drawer(labels)(range(4000), 0).mean(axis=0)
    np.testing.assert_array_equal(times[:10], 1)
    np.testing.assert_allclose(times[10:], 0.25, atol=0.035)  # 5 standard deviations


@given(LABELS, st.integers(0, 5))
def test_balance_gives_every_class_the_rarest_ones_weight(labels, seed):
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(labels))).astype(float)
    for before, after in zip(weights, skew_normalization.balancer(labels)(weights), strict=True):
        totals = {c: before[labels == c].sum() for c in np.unique(labels)}
        rarest = min((total for total in totals.values() if total), default=0)
        for label, total in totals.items():
            wanted = rarest if total else 0
            assert after[labels == label].sum() == pytest.approx(wanted)
            if total:  # faces of a class keep their shares
                np.testing.assert_allclose(
                    after[labels == label] * total, before[labels == label] * wanted
                )


def test_balance_is_the_mean_draw():
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    mean = skew_normalization.drawer(labels)(range(4000), 0).mean(axis=0)
    np.testing.assert_allclose(
        skew_normalization.balancer(labels)(np.ones((1, 70)))[0], mean, atol=0.04
    )
