from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from affect_jax.metrics import ranking

# Scores of few values have many ties, with positives, negatives or both in them.
FACES = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2)


@given(FACES)
def test_areas_equal_scikit_learn_with_ties_and_weights(faces):
    scores, positive, weights = (np.array(column) for column in zip(*faces, strict=True))
    auc, average = ranking.areas(scores / 4, positive)(weights[None].astype(float))
    some, others = weights[positive].sum(), weights[~positive].sum()
    if some:
        wanted = peer.average_precision_score(positive, scores, sample_weight=weights)
        assert average[0] == pytest.approx(wanted, abs=1e-12)
    else:
        assert np.isnan(average[0])
    if some and others:
        wanted = peer.roc_auc_score(positive, scores, sample_weight=weights)
        assert auc[0] == pytest.approx(wanted, abs=1e-12)
    else:
        assert np.isnan(auc[0])


@given(FACES)
def test_auc_is_the_share_of_pairs_ranked_rightly(faces):
    scores, positive, _ = (np.array(column) for column in zip(*faces, strict=True))
    auc, _ = ranking.areas(scores, positive)(np.ones((1, len(scores))))
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auc[0] == pytest.approx(np.mean(pairs) if pairs else np.nan, abs=1e-12, nan_ok=True)


def test_variants_do_not_touch_one_another():
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 9, 50), random.random(50) < 0.3
    weights = random.integers(0, 3, (4, 50)).astype(float)
    area = ranking.areas(scores, positive)
    together = area(weights)
    for row in range(4):
        alone = area(weights[row : row + 1])
        assert [a[row] for a in together] == [a[0] for a in alone]


@given(FACES)
def test_precision_recall_curve_equals_scikit_learn(faces):
    scores, positive, _ = (np.array(column) for column in zip(*faces, strict=True))
    curve = ranking.precision_recall(scores, positive)
    if not positive.any():
        assert np.isnan(curve.recall).all()
        return
    precision, recall, thresholds = peer.precision_recall_curve(positive, scores)
    np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
    np.testing.assert_allclose(curve.precision, precision[:-1][::-1], atol=1e-12)
    np.testing.assert_allclose(curve.recall, recall[:-1][::-1], atol=1e-12)


def test_the_curve_adds_up_to_the_area():
    random = np.random.default_rng(0)
    scores, positive = np.round(random.random(200), 1), random.random(200) < 0.3
    curve = ranking.precision_recall(scores, positive)
    _, average = ranking.areas(scores, positive)(np.ones((1, 200)))
    gained = np.diff(np.r_[0, curve.recall])
    assert np.sum(gained * curve.precision) == pytest.approx(average[0], abs=1e-12)
