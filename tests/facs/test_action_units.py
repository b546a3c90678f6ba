"""The table of action units, and which emotions a set of units is compatible with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.facs import action_units
from affect_jax.facs.action_units import PROTOTYPES, TABLE, UNITS, explain

INTENSITIES = st.lists(st.floats(0, 1), min_size=len(UNITS), max_size=len(UNITS))


def test_the_table_is_ascending_and_complete():
    wanted = {1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43}
    assert list(UNITS) == sorted(wanted)
    assert all(unit.name and unit.muscles and unit.moves for unit in TABLE)
    assert len({unit.name for unit in TABLE}) == len(TABLE)


def test_sides_are_those_of_facs():
    """What lies in the middle of the face, or closes both eyes, has no sides."""
    assert {unit.number for unit in TABLE if not unit.sided} == {17, 23, 24, 25, 26, 43}


@pytest.mark.parametrize("emotion", PROTOTYPES)
def test_a_prototype_fits_its_own_emotion_best(emotion):
    prototype = [unit for unit in PROTOTYPES[emotion] if unit in UNITS]
    best, *others = explain(dict.fromkeys(prototype, 0.7))
    assert best.emotion == emotion and best.score == pytest.approx(1)
    assert best.present == tuple(prototype) and best.extra == ()
    assert all(other.score < best.score for other in others)


def test_a_smile_is_compatible_with_more_than_one_emotion():
    found = {one.emotion: one for one in explain({6: 0.8, 12: 0.9})}
    assert found["happiness"].score > found["contempt"].score > 0
    assert found["contempt"].missing == (14,) and found["contempt"].extra == (6,)
    assert found["anger"].score == 0


def test_sides_tell_contempt_from_a_smile():
    one_sided = np.zeros((2, len(UNITS)))
    one_sided[1, [UNITS.index(12), UNITS.index(14)]] = 0.8
    best = explain(one_sided)[0]
    assert best.emotion == "contempt" and best.score == pytest.approx(1)
    assert best.present == (12, 14) and best.missing == best.extra == ()
    both = {one.emotion: one.score for one in explain(np.stack([one_sided[1]] * 2))}
    assert both["contempt"] == pytest.approx(0.5**0.5)  # half of it is not as contempt has it


@given(INTENSITIES)
def test_even_sides_fit_as_a_face_without_sides_does(values):
    """All but contempt, and whichever side is named first."""
    alone = {one.emotion: one for one in explain(values)}
    for one in explain([values, values]):
        expected = alone[one.emotion]
        scale = 0.5**0.5 if one.emotion == "contempt" else 1
        assert one.score == pytest.approx(scale * expected.score)
        assert (one.present, one.missing, one.extra) == (
            expected.present, expected.missing, expected.extra
        )  # fmt: skip


@given(INTENSITIES, INTENSITIES)
def test_mirrored_sides_fit_alike(left, right):
    scores = [
        {one.emotion: one.score for one in explain(sides)}
        for sides in ([left, right], [right, left])
    ]
    assert scores[0] == pytest.approx(scores[1])


@given(INTENSITIES, st.floats(0.3, 1))
def test_scores_rank_and_are_cosines(values, factor):
    found = explain(values)
    scores = [one.score for one in found]
    assert {one.emotion for one in found} == set(PROTOTYPES)
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    if min(value for value in (*values, 1) if value > 0.2) * factor > 0.2:
        weaker = {one.emotion: one.score for one in explain(np.multiply(values, factor))}
        for one in found:  # how strongly, does not matter to how well
            assert weaker[one.emotion] == pytest.approx(one.score)


@given(INTENSITIES)
def test_active_units_are_present_or_extra(values):
    active = {unit for unit, value in zip(UNITS, values, strict=True) if value >= 0.2}
    for one in explain(values):
        assert set(one.present) | set(one.extra) == active
        assert set(one.present) | set(one.missing) == set(PROTOTYPES[one.emotion])
        assert not set(one.present) & set(one.missing)


def test_a_neutral_face_is_compatible_with_nothing():
    assert all(one.score == 0 and not one.present for one in explain(np.full(len(UNITS), 0.1)))


@pytest.mark.parametrize(
    "wrong",
    [{3: 0.5}, {12: 1.5}, [0.5] * 17, [np.nan] * 18, {12: -0.1}, ["0.5"] * 18, [[0.5] * 18] * 3],
)
def test_what_is_no_intensity_is_refused(wrong):
    with pytest.raises(ValueError, match=r"action unit 3|18 numbers in \[0, 1\]"):
        explain(wrong)


def test_active_is_an_intensity():
    assert 0 < action_units.ACTIVE < 1


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
def test_what_cannot_be_explained_is_an_error(intensities, options):
    with pytest.raises(ValueError):
        explain(intensities, **options)
