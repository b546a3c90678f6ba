from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as peer

from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES, classes
from affect_jax.metrics.dimensional import NAMES, dimensional, scorer

CLASSES = classes(8)


def random_faces(count=200, seed=0):
    random = np.random.default_rng(seed)
    labels = random.uniform(-1, 1, (count, 2))
    predicted = np.clip(0.6 * labels + random.normal(0, 0.3, (count, 2)), -1, 1)
    return labels, predicted, random.integers(-1, 7, count)


def awkward():
    """Inputs by name; nobody is labelled contempt, and few are nothing."""
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
        "one far away": (far, predicted),
        "one face": (labels[:1], predicted[:1]),
        "two faces": (labels[:2], predicted[:2]),
    }


def reference(label, predicted):
    """The five scores of one axis by scikit-learn and SciPy; NaN where SciPy says undefined."""
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
        "rmse": peer.root_mean_squared_error(label, predicted),
        "mae": peer.mean_absolute_error(label, predicted),
        "corr": np.nan if constant else stats.pearsonr(label, predicted).statistic,
        "sagr": peer.accuracy_score(np.sign(label), np.sign(predicted)),
        "ccc": ccc,
    }


@pytest.mark.parametrize("name", awkward())
def test_scores_equal_scipy_and_scikit_learn(name):
    labels, predicted = awkward()[name]
    found = dimensional(labels, predicted, None, CLASSES)
    each = [reference(labels[:, i], predicted[:, i]) for i in range(2)]
    for kind in NAMES:
        for axis, wanted in zip(AXES, each, strict=True):
            value = found.values[f"{axis}.{kind}"]
            assert value == pytest.approx(wanted[kind], abs=1e-9, nan_ok=True), (axis, kind)
        mean = np.mean([one[kind] for one in each])
        assert found.values[f"mean.{kind}"] == pytest.approx(mean, abs=1e-9, nan_ok=True)
    assert {n for n, v in found.values.items() if np.isnan(v)} == found.reasons.keys()


def test_within_an_expression_are_the_scores_of_its_faces():
    labels, predicted, expression = random_faces()
    found = dimensional(labels, predicted, expression, CLASSES)
    for i, one in enumerate(CLASSES[:7]):
        rows = expression == i
        alone = dimensional(labels[rows], predicted[rows], None, CLASSES)
        for name, value in alone.values.items():
            assert found.values[f"{name}.{one}"] == pytest.approx(value, abs=1e-12)
            assert found.counts.get(f"{name}.{one}") == alone.counts.get(name)
    assert np.isnan(found.values["valence.ccc.contempt"])
    assert found.reasons["mean.rmse.contempt"] == "no face is labelled contempt"


@pytest.mark.parametrize("expression", [None, np.full(200, -1)])
def test_without_expressions_there_are_none_within(expression):
    labels, predicted, _ = random_faces()
    names = dimensional(labels, predicted, expression, CLASSES).values.keys()
    assert names == {f"{axis}.{kind}" for axis in (*AXES, "mean") for kind in NAMES}


def test_reasons_say_what_does_not_vary():
    labels, predicted = awkward()["the same constant"]
    found = dimensional(labels, predicted, None, CLASSES)
    assert found.reasons["valence.corr"] == "labels or predictions do not vary"
    assert found.reasons["mean.ccc"] == "labels and predictions are one and the same number"


def test_a_mean_over_one_axis_says_so():
    labels, predicted, _ = random_faces()
    predicted[:, 1] = 0.0
    found = dimensional(labels, predicted, None, CLASSES)
    assert found.counts["mean.corr"] == (1, 2) and found.counts["mean.rmse"] == (2, 2)
    assert found.values["mean.corr"] == found.values["valence.corr"]


def test_zero_has_a_sign_of_its_own():
    found = dimensional(np.array([[0.0, 0.0]]), np.array([[0.0, 0.1]]), None, CLASSES).values
    assert (found["valence.sagr"], found["arousal.sagr"]) == (1, 0)


@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_whole_weights_are_repeated_faces(seed, repeats):
    labels, predicted, expression = random_faces(12, seed)
    repeats = np.array(repeats)
    if not repeats.any():
        repeats[0] = 1
    weighted = scorer(labels, predicted, expression, CLASSES)(repeats[None].astype(float))
    again = (np.repeat(one, repeats, axis=0) for one in (labels, predicted, expression))
    repeated = dimensional(*again, CLASSES).values
    for name, value in repeated.items():
        np.testing.assert_allclose(weighted[name][0], value, atol=1e-9, err_msg=name)


def test_a_sample_of_one_face_many_times_does_not_vary():
    """Rounding must not pass for variance: bootstrap samples of small classes are like this."""
    labels, predicted, _ = random_faces(40)
    weights = np.eye(40) * np.arange(3, 43)
    found = scorer(labels, predicted, None, CLASSES)(weights)
    for axis in AXES:
        assert np.isnan(found[f"{axis}.corr"]).all()
        np.testing.assert_allclose(found[f"{axis}.ccc"], 0, atol=1e-9)


@pytest.mark.parametrize("which", ["labels", "predictions"])
def test_nan_is_named_with_its_place(which):
    labels, predicted, expression = random_faces()
    (labels if which == "labels" else predicted)[7, 1] = np.nan
    with pytest.raises(UserError, match=f"{which}: face 8 of 200, arousal: nan"):
        dimensional(labels, predicted, expression, CLASSES)


@pytest.mark.parametrize(("labels", "predicted"), [(3, 2), (0, 0)])
def test_numbers_of_faces_that_do_not_match_are_an_error(labels, predicted):
    with pytest.raises(ValueError, match="one each"):
        dimensional(np.zeros((labels, 2)), np.zeros((predicted, 2)), None, CLASSES)


def test_a_class_may_have_a_dot_in_its_name():
    labels = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    found = dimensional(labels, 0.9 * labels, np.array([0, 0, 0, 0, 1]), ("a", "b.1", "c.2"))
    assert found.values["valence.rmse.b.1"] == pytest.approx(0.1 * abs(labels[4, 0]))
    assert found.reasons["valence.corr.b.1"] == "labels or predictions do not vary"
    assert found.reasons["valence.rmse.c.2"] == "no face is labelled c.2"
