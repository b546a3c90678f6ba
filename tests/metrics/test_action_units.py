from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from affect_jax.facs.action_units import ACTIVE_THRESHOLD
from affect_jax.metrics.action_units import METRICS, create_scorer, find_best_threshold
from affect_jax.metrics.base import Scores, score_faces

UNITS = (1, 2, 12, 26)


def score_action_units(targets, predicted, units) -> Scores:
    return score_faces(create_scorer(targets, predicted, units), len(targets))


@pytest.fixture
def faces():
    """AU2 is active in no face; AU12 is annotated for some faces, AU26 for none."""
    random = np.random.default_rng(0)
    targets = random.uniform(0, 1, (150, 4))
    targets[:, 1] *= 0.4
    targets[random.random(150) < 0.3, 2] = np.nan
    targets[:, 3] = np.nan
    observed = np.nan_to_num(targets, nan=0.5)
    predicted = np.round(np.clip(observed + random.normal(0, 0.3, (150, 4)), 0, 1), 1)
    return targets, predicted


def f1(active, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sklearn_metrics.f1_score(active, predicted, zero_division=np.nan)


def test_scores_equal_scikit_learn_on_annotated_faces(faces):
    targets, predicted = faces
    scores = score_action_units(targets, predicted, UNITS).values
    for i, unit in enumerate(UNITS[:3]):
        rows = ~np.isnan(targets[:, i])
        active, probabilities = targets[rows, i] >= ACTIVE_THRESHOLD, predicted[rows, i]
        expected = {
            "f1": f1(active, probabilities >= 0.5),
            "accuracy": sklearn_metrics.accuracy_score(active, probabilities >= 0.5),
            "auc": sklearn_metrics.roc_auc_score(active, probabilities) if active.any() else np.nan,
        }
        for metric, value in expected.items():
            assert scores[f"AU{unit}.{metric}"] == pytest.approx(value, abs=1e-9, nan_ok=True)


def test_best_threshold_maximizes_f1(faces):
    targets, predicted = faces
    scores = score_action_units(targets, predicted, UNITS).values
    for i, unit in ((0, 1), (2, 12)):
        rows = ~np.isnan(targets[:, i])
        active, probabilities = targets[rows, i] >= ACTIVE_THRESHOLD, predicted[rows, i]
        f1_by_threshold = {t: f1(active, probabilities >= t) for t in np.unique(probabilities)}
        assert scores[f"AU{unit}.best_f1"] == pytest.approx(
            max(f1_by_threshold.values()), abs=1e-12
        )
        assert f1_by_threshold[scores[f"AU{unit}.best_threshold"]] == max(f1_by_threshold.values())
        assert scores[f"AU{unit}.best_f1"] >= scores[f"AU{unit}.f1"]
    assert np.isnan(scores["AU2.best_threshold"]) and np.isnan(scores["AU26.best_threshold"])
    assert np.isnan(find_best_threshold(np.zeros(3, bool), np.ones(3)))


def test_means_are_over_units_with_a_defined_score(faces):
    scores = score_action_units(*faces, UNITS)
    for metric in METRICS:
        unit_values = [scores.values[f"AU{unit}.{metric}"] for unit in UNITS]
        assert scores.values[f"mean.{metric}"] == pytest.approx(np.nanmean(unit_values))
        assert scores.counts[f"mean.{metric}"] == (int(np.sum(~np.isnan(unit_values))), 4)
    assert scores.counts["mean.auc"] == (2, 4) and scores.counts["mean.accuracy"] == (3, 4)


def test_undefined_scores_have_reasons(faces):
    scores = score_action_units(*faces, UNITS)
    assert {n for n, v in scores.values.items() if np.isnan(v)} == scores.reasons.keys()
    assert scores.reasons["AU2.auc"] == "needs faces that are labelled so and others"
    assert scores.reasons["AU2.best_threshold"] == "no face is labelled so"
    assert scores.reasons["AU26.accuracy"] == "no face has a label"
    unlabelled = score_action_units(np.full((2, 1), np.nan), np.ones((2, 1)), (4,))
    assert unlabelled.reasons["mean.f1"] == "no face is labelled or predicted so"


def test_f1_is_zero_for_predicted_but_inactive_unit(faces):
    targets, predicted = faces
    predicted[:, 1] = 0.9
    assert score_action_units(targets, predicted, UNITS).values["AU2.f1"] == 0
    predicted[:, 1] = 0.1
    assert np.isnan(score_action_units(targets, predicted, UNITS).values["AU2.f1"])


def test_thresholds_are_inclusive():
    scores = score_action_units(np.array([[0.5], [0.4]]), np.array([[0.5], [0.4]]), (1,)).values
    assert scores["AU1.f1"] == scores["AU1.accuracy"] == scores["AU1.best_f1"] == 1
    assert scores["AU1.best_threshold"] == 0.5


def test_integer_weights_equal_repeated_faces(faces):
    targets, predicted = faces
    repeats = np.random.default_rng(1).integers(0, 3, len(targets))
    weighted = create_scorer(targets, predicted, UNITS)(repeats[None].astype(float))
    repeated = (np.repeat(array, repeats, axis=0) for array in faces)
    for name, value in score_action_units(*repeated, UNITS).values.items():
        if name in weighted and "best" not in name:  # the best threshold depends on all faces
            np.testing.assert_allclose(weighted[name][0], value, atol=1e-12, err_msg=name)


def test_single_face():
    scores = score_action_units(np.array([[1.0, 0.0]]), np.array([[0.9, 0.2]]), (1, 2))
    assert scores.values["AU1.f1"] == scores.values["AU2.accuracy"] == 1
    assert scores.reasons.keys() >= {"AU1.auc", "AU2.auc", "AU2.f1", "mean.auc"}


def test_intensity_scores_follow_their_definitions():
    """ICC(3,1) from the mean squares of a two-way analysis of variance (Shrout and Fleiss 1979)."""
    random = np.random.default_rng(0)
    targets = random.uniform(0, 1, (50, 2))
    targets[::7, 1] = np.nan
    predicted = np.clip(0.6 * np.nan_to_num(targets) + random.uniform(0, 0.4, (50, 2)), 0, 1)
    values = score_action_units(targets, predicted, (1, 12)).values
    for i, name in enumerate(("AU1", "AU12")):
        rows = ~np.isnan(targets[:, i])
        ratings = np.stack([targets[rows, i], predicted[rows, i]], axis=1)
        n, k = ratings.shape
        grand, faces, raters = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
        between = k * np.sum((faces - grand) ** 2) / (n - 1)
        total, rater_squares = np.sum((ratings - grand) ** 2), n * np.sum((raters - grand) ** 2)
        error = (total - between * (n - 1) - rater_squares) / ((n - 1) * (k - 1))
        assert values[f"{name}.icc"] == pytest.approx((between - error) / (between + error))
        assert values[f"{name}.mae"] == pytest.approx(np.abs(ratings[:, 0] - ratings[:, 1]).mean())
        assert values[f"{name}.corr"] == pytest.approx(np.corrcoef(ratings.T)[0, 1])
    assert values["mean.icc"] == pytest.approx((values["AU1.icc"] + values["AU12.icc"]) / 2)
    binary = score_action_units(np.round(targets), predicted, (1, 12)).values
    assert not any(name.endswith(("icc", "mae", "corr")) for name in binary)
