"""Tests of the table of action units and of the ranking of emotions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.facs import action_units
from affect_jax.facs.action_units import (
    ACTION_UNITS,
    PROTOTYPES,
    UNITS,
    Compatibility,
    rank_emotions,
)

INTENSITIES = st.lists(st.floats(0, 1), min_size=len(UNITS), max_size=len(UNITS))


def by_emotion(ranking: list[Compatibility]) -> dict[str, Compatibility]:
    return {compatibility.emotion: compatibility for compatibility in ranking}


def test_table_is_ascending_and_complete():
    expected = {1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43}
    assert list(UNITS) == sorted(expected)
    assert all(unit.name and unit.muscles and unit.appearance for unit in ACTION_UNITS)
    assert len({unit.name for unit in ACTION_UNITS}) == len(ACTION_UNITS)


def test_units_without_sides_match_facs():
    """Units in the middle of the face have no sides, nor does closing both eyes."""
    assert {unit.number for unit in ACTION_UNITS if not unit.has_sides} == {17, 23, 24, 25, 26, 43}


@pytest.mark.parametrize("emotion", PROTOTYPES)
def test_prototype_matches_its_own_emotion_best(emotion):
    prototype = [unit for unit in PROTOTYPES[emotion] if unit in UNITS]
    best, *rest = rank_emotions(dict.fromkeys(prototype, 0.7))
    assert best.emotion == emotion and best.score == pytest.approx(1)
    assert best.present == tuple(prototype) and best.extra == ()
    assert all(compatibility.score < best.score for compatibility in rest)


def test_smile_is_compatible_with_happiness_and_contempt():
    ranking = by_emotion(rank_emotions({6: 0.8, 12: 0.9}))
    assert ranking["happiness"].score > ranking["contempt"].score > 0
    assert ranking["contempt"].missing == (14,) and ranking["contempt"].extra == (6,)
    assert ranking["anger"].score == 0


def test_sides_separate_contempt_from_smile():
    unilateral = np.zeros((2, len(UNITS)))
    unilateral[1, [UNITS.index(12), UNITS.index(14)]] = 0.8
    best = rank_emotions(unilateral)[0]
    assert best.emotion == "contempt" and best.score == pytest.approx(1)
    assert best.present == (12, 14) and best.missing == best.extra == ()
    bilateral = by_emotion(rank_emotions(np.stack([unilateral[1]] * 2)))
    assert bilateral["contempt"].score == pytest.approx(0.5**0.5)  # half of it is on the wrong side


@given(INTENSITIES)
def test_equal_sides_match_like_a_face_without_sides(values):
    """Holds for all emotions but contempt, which is on one side."""
    without_sides = by_emotion(rank_emotions(values))
    for actual in rank_emotions([values, values]):
        expected = without_sides[actual.emotion]
        scale = 0.5**0.5 if actual.emotion == "contempt" else 1
        assert actual.score == pytest.approx(scale * expected.score)
        assert (actual.present, actual.missing, actual.extra) == (
            expected.present, expected.missing, expected.extra
        )  # fmt: skip


@given(INTENSITIES, INTENSITIES)
def test_mirrored_sides_have_equal_scores(left, right):
    scores = [
        {result.emotion: result.score for result in rank_emotions(sides)}
        for sides in ([left, right], [right, left])
    ]
    assert scores[0] == pytest.approx(scores[1])


@given(INTENSITIES, st.floats(0.3, 1))
def test_scores_are_sorted_and_scale_invariant(values, factor):
    ranking = rank_emotions(values)
    scores = [result.score for result in ranking]
    assert {result.emotion for result in ranking} == set(PROTOTYPES)
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    if min(value for value in (*values, 1) if value > 0.2) * factor > 0.2:
        weaker = by_emotion(rank_emotions(np.multiply(values, factor)))
        for result in ranking:  # the overall strength does not change the score
            assert weaker[result.emotion].score == pytest.approx(result.score)


@given(INTENSITIES)
def test_active_units_are_present_or_extra(values):
    active = {unit for unit, value in zip(UNITS, values, strict=True) if value >= 0.2}
    for result in rank_emotions(values):
        assert set(result.present) | set(result.extra) == active
        assert set(result.present) | set(result.missing) == set(PROTOTYPES[result.emotion])
        assert not set(result.present) & set(result.missing)


def test_neutral_face_matches_no_emotion():
    ranking = rank_emotions(np.full(len(UNITS), 0.1))
    assert all(result.score == 0 and not result.present for result in ranking)


@pytest.mark.parametrize(
    "intensities",
    [{3: 0.5}, {12: 1.5}, [0.5] * 17, [np.nan] * 18, {12: -0.1}, ["0.5"] * 18, [[0.5] * 18] * 3],
)
def test_invalid_intensities_are_rejected(intensities):
    with pytest.raises(ValueError, match=r"action unit 3|18 numbers in \[0, 1\]"):
        rank_emotions(intensities)


def test_active_threshold_is_an_intensity():
    assert 0 < action_units.ACTIVE_THRESHOLD < 1


@pytest.mark.parametrize(
    "intensities, options",
    [
        ({"AU6": 1, 99: 1}, {}),
        ({6: None}, {}),
        ({True: 1.0}, {}),
        ({6: 1.5}, {}),
        ({6: 1.0}, {"threshold": float("nan")}),
        ({6: 1.0}, {"threshold": 0.0}),
        ({6: 1.0}, {"threshold": "0.2"}),
    ],
)
def test_invalid_arguments_raise_value_error(intensities, options):
    with pytest.raises(ValueError):
        rank_emotions(intensities, **options)
