from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from affect_jax.core.labels import AXES, classes
from affect_jax.metrics.base import Scores, score_faces
from affect_jax.metrics.dimensional import METRICS, create_scorer

CLASSES = classes(8)


def score_dimensional(labels, *arguments) -> Scores:
    return score_faces(create_scorer(labels, *arguments), len(labels))


def random_faces(count=200, seed=0):
    random = np.random.default_rng(seed)
    labels = random.uniform(-1, 1, (count, 2))
    predicted = np.clip(0.6 * labels + random.normal(0, 0.3, (count, 2)), -1, 1)
    return labels, predicted, random.integers(-1, 7, count)


def edge_cases():
    """Edge cases by name; no face is labelled contempt and a few faces are unlabelled."""
    labels, predicted, expression = random_faces()
    far = labels.copy()
    far[0] = 1e3
    return {
        "random": (labels, predicted),
        "ties": (np.round(labels, 1), np.round(predicted, 1)),
        "zeros": (np.round(labels), np.round(predicted)),
        "perfect": (labels, labels.copy()),
        "opposite": (labels, -labels),
        "constant predictions": (labels, np.full_like(labels, 0.3)),
        "constant labels": (np.full_like(labels, -0.1), predicted),
        "both constant": (np.full_like(labels, -0.1), np.full_like(labels, 0.3)),
        "the same constant": (np.full_like(labels, 0.1), np.full_like(labels, 0.1)),
        "nearly constant": (0.7 + 1e-7 * labels, 0.7 + 1e-7 * predicted),
        "far from zero": (1e4 + labels, 1e4 + predicted),
        "outlier": (far, predicted),
        "one face": (labels[:1], predicted[:1]),
        "two faces": (labels[:2], predicted[:2]),
    }


def reference(label, predicted):
    """The five scores of one axis by scikit-learn and SciPy; NaN where SciPy returns NaN."""
    constant = len(label) < 2 or np.ptp(label) == 0 or np.ptp(predicted) == 0
    covariance = np.cov(label, predicted, ddof=0)
    spread = covariance[0, 0] + covariance[1, 1] + (label.mean() - predicted.mean()) ** 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ccc = 2 * covariance[0, 1] / spread if not np.array_equal(label, predicted) else 1.0
    if constant:
        same = np.ptp(label) == np.ptp(predicted) == 0 and label[0] == predicted[0]
        ccc = np.nan if same else 0.0
    return {
        "rmse": sklearn_metrics.root_mean_squared_error(label, predicted),
        "mae": sklearn_metrics.mean_absolute_error(label, predicted),
        "corr": np.nan if constant else stats.pearsonr(label, predicted).statistic,
        "sagr": sklearn_metrics.accuracy_score(np.sign(label), np.sign(predicted)),
        "ccc": ccc,
    }


@pytest.mark.parametrize("name", edge_cases())
def test_scores_equal_scipy_and_scikit_learn(name):
    labels, predicted = edge_cases()[name]
    scores = score_dimensional(labels, predicted, None, CLASSES)
    axis_scores = [reference(labels[:, i], predicted[:, i]) for i in range(2)]
    for metric in METRICS:
        for axis, expected in zip(AXES, axis_scores, strict=True):
            value = scores.values[f"{axis}.{metric}"]
            assert value == pytest.approx(expected[metric], abs=1e-9, nan_ok=True), (axis, metric)
        mean = np.mean([part[metric] for part in axis_scores])
        assert scores.values[f"mean.{metric}"] == pytest.approx(mean, abs=1e-9, nan_ok=True)
    assert {n for n, v in scores.values.items() if np.isnan(v)} == scores.reasons.keys()


def test_scores_per_expression_equal_scores_of_its_faces():
    labels, predicted, expression = random_faces()
    scores = score_dimensional(labels, predicted, expression, CLASSES)
    for i, class_name in enumerate(CLASSES[:7]):
        rows = expression == i
        subset_scores = score_dimensional(labels[rows], predicted[rows], None, CLASSES)
        for name, value in subset_scores.values.items():
            assert scores.values[f"{name}.{class_name}"] == pytest.approx(value, abs=1e-12)
            assert scores.counts.get(f"{name}.{class_name}") == subset_scores.counts.get(name)
    assert np.isnan(scores.values["valence.ccc.contempt"])
    assert scores.reasons["mean.rmse.contempt"] == "no face is labelled so"


@pytest.mark.parametrize("expression", [None, np.full(200, -1)])
def test_no_scores_per_expression_without_expressions(expression):
    labels, predicted, _ = random_faces()
    names = score_dimensional(labels, predicted, expression, CLASSES).values.keys()
    assert names == {f"{axis}.{metric}" for axis in (*AXES, "mean") for metric in METRICS}


def test_reasons_of_constant_labels_and_predictions():
    labels, predicted = edge_cases()["the same constant"]
    scores = score_dimensional(labels, predicted, None, CLASSES)
    assert scores.reasons["valence.corr"] == "labels or predictions do not vary"
    assert scores.reasons["mean.ccc"] == "labels and predictions are the same constant"


def test_mean_over_one_axis_has_a_count():
    labels, predicted, _ = random_faces()
    predicted[:, 1] = 0.0
    scores = score_dimensional(labels, predicted, None, CLASSES)
    assert scores.counts["mean.corr"] == (1, 2) and scores.counts["mean.rmse"] == (2, 2)
    assert scores.values["mean.corr"] == scores.values["valence.corr"]


def test_sign_of_zero_differs_from_positive():
    scores = score_dimensional(np.array([[0.0, 0.0]]), np.array([[0.0, 0.1]]), None, CLASSES).values
    assert (scores["valence.sagr"], scores["arousal.sagr"]) == (1, 0)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_integer_weights_equal_repeated_faces(seed, repeats):
    labels, predicted, expression = random_faces(12, seed)
    repeats = np.array(repeats)
    if not repeats.any():
        repeats[0] = 1
    weighted = create_scorer(labels, predicted, expression, CLASSES)(repeats[None].astype(float))
    repeated_faces = (
        np.repeat(array, repeats, axis=0) for array in (labels, predicted, expression)
    )
    repeated = score_dimensional(*repeated_faces, CLASSES).values
    for name, value in repeated.items():
        np.testing.assert_allclose(weighted[name][0], value, atol=1e-9, err_msg=name)


def test_one_repeated_face_has_zero_variance():
    """Rounding errors must not count as variance; samples of small classes are like this."""
    labels, predicted, _ = random_faces(40)
    weights = np.eye(40) * np.arange(3, 43)
    scores = create_scorer(labels, predicted, None, CLASSES)(weights)
    for axis in AXES:
        assert np.isnan(scores[f"{axis}.corr"]).all()
        np.testing.assert_allclose(scores[f"{axis}.ccc"], 0, atol=1e-9)


def test_class_names_may_contain_dots():
    labels = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    scores = score_dimensional(labels, 0.9 * labels, np.array([0, 0, 0, 0, 1]), ("a", "b.1", "c.2"))
    assert scores.values["valence.rmse.b.1"] == pytest.approx(0.1 * abs(labels[4, 0]))
    assert scores.reasons["valence.corr.b.1"] == "labels or predictions do not vary"
    assert scores.reasons["valence.rmse.c.2"] == "no face is labelled so"
