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
    reasons={"auc": "no faces"},
    counts={"f1": (7, 8)},
)


def test_with_prefix_changes_names_in_all_fields():
    scores = SCORES.with_prefix("top1")
    assert scores.values["top1.f1"] == 0.5
    assert scores.intervals == {"top1.f1": (0.4, 0.6)}
    assert scores.deviations == {"top1.f1": 0.1}
    assert scores.reasons == {"top1.auc": "no faces"}
    assert scores.counts == {"top1.f1": (7, 8)}


def test_merge_preserves_order():
    scores = Scores.merge([SCORES.with_prefix("b"), SCORES.with_prefix("a")])
    assert list(scores.values) == ["b.f1", "b.auc", "a.f1", "a.auc"]
    assert scores.counts == {"b.f1": (7, 8), "a.f1": (7, 8)}
    assert Scores.merge([]) == Scores()


def test_merge_rejects_duplicate_names():
    with pytest.raises(ValueError, match="duplicate score name: auc"):
        Scores.merge([SCORES, SCORES])


def test_divide_by_zero_is_nan():
    np.testing.assert_array_equal(
        base.divide_or_nan(np.array([1.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0])),
        [0.5, np.nan, np.nan],
    )


def test_nanmean_ignores_nan():
    arrays = [np.array([1.0, np.nan, np.nan]), np.array([2.0, 4.0, np.nan])]
    np.testing.assert_array_equal(base.nanmean(arrays), [1.5, 4.0, np.nan])


@pytest.mark.parametrize("num_faces", [0, 1, 1000, 10 * base.CHUNK_SIZE])
def test_chunks_cover_the_range_and_respect_the_size(num_faces):
    parts = list(base.split_into_chunks(50, num_faces))
    assert [number for part in parts for number in part] == list(range(50))
    assert all(len(part) == 1 or len(part) * num_faces <= base.CHUNK_SIZE for part in parts)


def test_check_finite_reports_position_and_count():
    array = np.zeros((3, 2))
    base.check_finite("predictions", array, ("valence", "arousal"))
    array[1, 1], array[2, 0] = np.nan, np.inf
    message = r"face 2 of 3, arousal: nan, not a usable number \(2 invalid numbers in total\)"
    with pytest.raises(UserError, match=message):
        base.check_finite("predictions", array, ("valence", "arousal"))
