from __future__ import annotations

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.metrics import base
from affect_jax.metrics.base import Scores

SCORES = Scores(
    values={"f1": 0.5, "auc": float("nan")},
    intervals={"f1": (0.4, 0.6)},
    deviations={"f1": 0.1},
    counts={"f1": (7, 8)},
)


def test_update_adds_a_prefix_in_all_fields():
    scores = Scores({"a.f1": 0.25})
    scores.update(SCORES, prefix="top1")
    assert list(scores.values) == ["a.f1", "top1.f1", "top1.auc"]
    assert scores.values["a.f1"] == 0.25 and scores.values["top1.f1"] == 0.5
    assert scores.intervals == {"top1.f1": (0.4, 0.6)}
    assert scores.deviations == {"top1.f1": 0.1}
    assert scores.reasons == {"top1.auc": "needs faces that are labelled so and others"}
    assert scores.counts == {"top1.f1": (7, 8)}


def test_summary_of_samples():
    nan = np.nan
    samples = {
        "a": np.array([0.0, 1.0, nan]),
        "b": np.array([1.0, 1.0, 1.0]),
        "c": np.array([nan, nan, nan]),
        "mean": np.array([0.5, 1.0, 1.0]),
    }
    scores = base.summarize(samples, "mean", ["a", "b", "c"])
    assert scores.values == {"a": 0.5, "b": 1.0, "c": pytest.approx(nan, nan_ok=True),
                             "mean": pytest.approx(2.5 / 3)}  # fmt: skip
    assert scores.deviations["a"] == 0.5 and scores.deviations["b"] == 0
    assert scores.counts == {"a": (2, 3), "mean": (1, 3)}  # only b is defined in the last sample
    single = base.summarize({"a": np.array([0.25])}, "mean", [])
    assert single == Scores({"a": 0.25})  # one value has no deviation


def test_divide_by_zero_is_nan():
    np.testing.assert_array_equal(
        base.divide_or_nan(np.array([1.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0])),
        [0.5, np.nan, np.nan],
    )


def test_nanmean_ignores_nan():
    arrays = [np.array([1.0, np.nan, np.nan]), np.array([2.0, 4.0, np.nan])]
    np.testing.assert_array_equal(base.nanmean(arrays), [1.5, 4.0, np.nan])


def test_invalid_predictions_are_counted():
    array = np.zeros((3, 2))
    base.check_predictions(array, ("valence", "arousal"))
    array[1, 1], array[2, 0] = np.nan, np.inf
    message = "2 of 6 predictions of valence, arousal are not usable numbers"
    with pytest.raises(UserError, match=message):
        base.check_predictions(array, ("valence", "arousal"))
