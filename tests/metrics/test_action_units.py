from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as peer

from affect_jax.core.errors import UserError
from affect_jax.facs.action_units import ACTIVE
from affect_jax.metrics.action_units import NAMES, action_units, best_thresholds, scorer

UNITS = (1, 2, 12, 26)


@pytest.fixture
def faces():
    """AU2 is active in none, AU12 is annotated for some, AU26 for none."""
    random = np.random.default_rng(0)
    targets = random.uniform(0, 1, (150, 4))
    targets[:, 1] *= 0.4
    targets[random.random(150) < 0.3, 2] = np.nan
    targets[:, 3] = np.nan
    known = np.nan_to_num(targets, nan=0.5)
    predicted = np.round(np.clip(known + random.normal(0, 0.3, (150, 4)), 0, 1), 1)
    return targets, predicted


def f1(active, said):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peer.f1_score(active, said, zero_division=np.nan)


def test_scores_equal_scikit_learn_over_the_annotated_faces(faces):
    targets, predicted = faces
    found = action_units(targets, predicted, UNITS).values
    for i, unit in enumerate(UNITS[:3]):
        rows = ~np.isnan(targets[:, i])
        active, given = targets[rows, i] >= ACTIVE, predicted[rows, i]
        wanted = {
            "f1": f1(active, given >= 0.5),
            "accuracy": peer.accuracy_score(active, given >= 0.5),
            "auc": peer.roc_auc_score(active, given) if active.any() else np.nan,
        }
        for kind, value in wanted.items():
            assert found[f"AU{unit}.{kind}"] == pytest.approx(value, abs=1e-9, nan_ok=True)


def test_the_best_threshold_is_the_best_of_all(faces):
    targets, predicted = faces
    found = action_units(targets, predicted, UNITS).values
    for i, unit in ((0, 1), (2, 12)):
        rows = ~np.isnan(targets[:, i])
        active, given = targets[rows, i] >= ACTIVE, predicted[rows, i]
        tried = {t: f1(active, given >= t) for t in np.unique(given)}
        assert found[f"AU{unit}.best_f1"] == pytest.approx(max(tried.values()), abs=1e-12)
        assert tried[found[f"AU{unit}.best_threshold"]] == max(tried.values())
        assert found[f"AU{unit}.best_f1"] >= found[f"AU{unit}.f1"]
    assert np.isnan(best_thresholds(targets, predicted)[[1, 3]]).all()


def test_means_are_over_the_units_that_have_the_score(faces):
    found = action_units(*faces, UNITS)
    for kind in NAMES:
        each = [found.values[f"AU{unit}.{kind}"] for unit in UNITS]
        assert found.values[f"mean.{kind}"] == pytest.approx(np.nanmean(each))
        assert found.counts[f"mean.{kind}"] == (int(np.sum(~np.isnan(each))), 4)
    assert found.counts["mean.auc"] == (2, 4) and found.counts["mean.accuracy"] == (3, 4)


def test_what_is_undefined_has_a_reason(faces):
    found = action_units(*faces, UNITS)
    assert {n for n, v in found.values.items() if np.isnan(v)} == found.reasons.keys()
    assert found.reasons["AU2.auc"] == "needs faces with AU2 and faces without"
    assert found.reasons["AU2.best_f1"] == "AU2 is active in no face"
    assert found.reasons["AU26.accuracy"] == "no face has a label of AU26"
    nobody = action_units(np.full((2, 1), np.nan), np.ones((2, 1)), (4,))
    assert nobody.reasons["mean.f1"] == "no unit has this score"


def test_a_unit_predicted_but_never_active_has_f1_zero(faces):
    targets, predicted = faces
    predicted[:, 1] = 0.9
    assert action_units(targets, predicted, UNITS).values["AU2.f1"] == 0
    predicted[:, 1] = 0.1
    assert np.isnan(action_units(targets, predicted, UNITS).values["AU2.f1"])


def test_both_thresholds_include_their_value():
    found = action_units(np.array([[0.5], [0.4]]), np.array([[0.5], [0.4]]), (1,)).values
    assert found["AU1.f1"] == found["AU1.accuracy"] == found["AU1.best_f1"] == 1
    assert found["AU1.best_threshold"] == 0.5


def test_whole_weights_are_repeated_faces(faces):
    targets, predicted = faces
    repeats = np.random.default_rng(1).integers(0, 3, len(targets))
    weighted = scorer(targets, predicted, UNITS)(repeats[None].astype(float))
    again = (np.repeat(one, repeats, axis=0) for one in faces)
    for name, value in action_units(*again, UNITS).values.items():
        if name in weighted and "best" not in name:  # best: the threshold is of all faces
            np.testing.assert_allclose(weighted[name][0], value, atol=1e-12, err_msg=name)


def test_one_face():
    found = action_units(np.array([[1.0, 0.0]]), np.array([[0.9, 0.2]]), (1, 2))
    assert found.values["AU1.f1"] == found.values["AU2.accuracy"] == 1
    assert found.reasons.keys() >= {"AU1.auc", "AU2.auc", "AU2.f1", "mean.auc"}


def test_numbers_that_are_none_are_named_with_their_place(faces):
    targets, predicted = faces
    with pytest.raises(UserError, match="targets: face 4 of 150, AU2: inf"):
        broken = targets.copy()
        broken[3, 1] = np.inf
        action_units(broken, predicted, UNITS)
    with pytest.raises(UserError, match="predictions: face 4 of 150, AU12: nan"):
        predicted[3, 2] = np.nan
        action_units(targets, predicted, UNITS)
    with pytest.raises(ValueError, match="differ"):
        action_units(targets, predicted[:, :2], UNITS)
