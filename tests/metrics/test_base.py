from __future__ import annotations

import numpy as np
import pytest

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
        "a.f1": np.array([0.0, 1.0, nan]),
        "b.f1": np.array([1.0, 1.0, 1.0]),
        "c.f1": np.array([nan, nan, nan]),
        "a.best_f1": np.array([1.0, 1.0, 1.0]),
        "mean.f1": np.array([0.5, 1.0, 1.0]),
    }
    scores = base.summarize(samples)
    assert scores.values == {"a.f1": 0.5, "b.f1": 1.0, "c.f1": pytest.approx(nan, nan_ok=True),
                             "a.best_f1": 1.0, "mean.f1": pytest.approx(2.5 / 3)}  # fmt: skip
    assert scores.deviations["a.f1"] == 0.5 and scores.deviations["b.f1"] == 0
    # Only b is defined in the last sample.
    assert scores.counts == {"a.f1": (2, 3), "mean.f1": (1, 3)}
    single = base.summarize({"f1.a.b": np.array([0.25]), "f1.macro": np.array([0.25])})
    assert single.counts == {"f1.macro": (1, 1)} and not single.deviations


def test_divide_by_zero_is_nan():
    np.testing.assert_array_equal(
        base.divide_or_nan(np.array([1.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0])),
        [0.5, np.nan, np.nan],
    )


def test_nanmean_ignores_nan():
    arrays = [np.array([1.0, np.nan, np.nan]), np.array([2.0, 4.0, np.nan])]
    np.testing.assert_array_equal(base.nanmean(arrays), [1.5, 4.0, np.nan])
