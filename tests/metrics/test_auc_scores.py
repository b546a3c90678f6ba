from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from affect_jax.metrics import auc_scores

# Scores with few values have many ties, among positives, negatives or both.
FACES = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2)


@given(FACES)
def test_areas_equal_scikit_learn_with_ties_and_weights(faces):
    scores, positive, weights = (np.array(column) for column in zip(*faces, strict=True))
    auc, average = auc_scores.create_area_scorer(scores / 4, positive)(weights[None].astype(float))
    positive_weight, negative_weight = weights[positive].sum(), weights[~positive].sum()
    if positive_weight:
        expected = sklearn_metrics.average_precision_score(positive, scores, sample_weight=weights)
        assert average[0] == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(average[0])
    if positive_weight and negative_weight:
        expected = sklearn_metrics.roc_auc_score(positive, scores, sample_weight=weights)
        assert auc[0] == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(auc[0])


@given(FACES)
def test_auc_is_the_fraction_of_correctly_ranked_pairs(faces):
    scores, positive, _ = (np.array(column) for column in zip(*faces, strict=True))
    auc, _ = auc_scores.create_area_scorer(scores, positive)(np.ones((1, len(scores))))
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auc[0] == pytest.approx(np.mean(pairs) if pairs else np.nan, abs=1e-12, nan_ok=True)


def test_weight_variants_are_independent():
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 9, 50), random.random(50) < 0.3
    weights = random.integers(0, 3, (4, 50)).astype(float)
    area = auc_scores.create_area_scorer(scores, positive)
    together = area(weights)
    for row in range(4):
        alone = area(weights[row : row + 1])
        assert [a[row] for a in together] == [a[0] for a in alone]


@given(FACES)
def test_precision_recall_curve_equals_scikit_learn(faces):
    scores, positive, _ = (np.array(column) for column in zip(*faces, strict=True))
    thresholds, precision, recall = auc_scores.compute_precision_recall_curve(scores, positive)
    if not positive.any():
        assert np.isnan(recall).all()
        return
    expected = sklearn_metrics.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(precision, expected[0][:-1][::-1], atol=1e-12)
    np.testing.assert_allclose(recall, expected[1][:-1][::-1], atol=1e-12)
    np.testing.assert_array_equal(thresholds, expected[2][::-1])


def test_step_area_of_the_curve_is_average_precision():
    random = np.random.default_rng(0)
    scores, positive = np.round(random.random(200), 1), random.random(200) < 0.3
    _, precision, recall = auc_scores.compute_precision_recall_curve(scores, positive)
    _, average = auc_scores.create_area_scorer(scores, positive)(np.ones((1, 200)))
    gained = np.diff(np.r_[0, recall])
    assert np.sum(gained * precision) == pytest.approx(average[0], abs=1e-12)
