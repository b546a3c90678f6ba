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


def test_a_prefix_is_before_every_name_of_every_field():
    found = SCORES.prefixed("top1")
    assert found.values["top1.f1"] == 0.5
    assert found.intervals == {"top1.f1": (0.4, 0.6)}
    assert found.deviations == {"top1.f1": 0.1}
    assert found.reasons == {"top1.auc": "no faces"}
    assert found.counts == {"top1.f1": (7, 8)}


def test_merge_keeps_all_and_their_order():
    found = Scores.merge([SCORES.prefixed("b"), SCORES.prefixed("a")])
    assert list(found.values) == ["b.f1", "b.auc", "a.f1", "a.auc"]
    assert found.counts == {"b.f1": (7, 8), "a.f1": (7, 8)}
    assert Scores.merge([]) == Scores()


def test_merge_refuses_two_scores_of_one_name():
    with pytest.raises(ValueError, match="two scores are called auc"):
        Scores.merge([SCORES, SCORES])


def test_divide_by_zero_is_undefined():
    np.testing.assert_array_equal(
        base.divide(np.array([1.0, 0.0, 1.0]), np.array([2.0, 0.0, 0.0])), [0.5, np.nan, np.nan]
    )


def test_mean_leaves_out_what_is_undefined():
    arrays = [np.array([1.0, np.nan, np.nan]), np.array([2.0, 4.0, np.nan])]
    np.testing.assert_array_equal(base.mean(arrays), [1.5, 4.0, np.nan])


@pytest.mark.parametrize("num_faces", [0, 1, 1000, 10 * base.CHUNK])
def test_chunks_cover_every_number_once_and_fit(num_faces):
    parts = list(base.chunks(50, num_faces))
    assert [number for part in parts for number in part] == list(range(50))
    assert all(len(part) == 1 or len(part) * num_faces <= base.CHUNK for part in parts)


def test_check_finite_says_where_and_how_many():
    array = np.zeros((3, 2))
    base.check_finite("predictions", array, ("valence", "arousal"))
    array[1, 1], array[2, 0] = np.nan, np.inf
    message = r"predictions: face 2 of 3, arousal: nan, no usable number \(2 such in all\)"
    with pytest.raises(UserError, match=message):
        base.check_finite("predictions", array, ("valence", "arousal"))
