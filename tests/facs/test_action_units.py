"""Tests of the table of action units."""

from __future__ import annotations

import numpy as np

from affect_jax.core import labels
from affect_jax.facs.action_units import (
    ACTION_UNITS,
    ACTIVE_THRESHOLD,
    HAS_SIDES,
    PROTOTYPES,
    UNITS,
)


def test_table_is_ascending_and_complete():
    assert UNITS == (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43)
    assert len(set(ACTION_UNITS.values())) == len(ACTION_UNITS)
    assert 0 < ACTIVE_THRESHOLD < 1


def test_units_without_sides_match_facs():
    """Units in the middle of the face have no sides, nor does closing both eyes."""
    assert set(np.array(UNITS)[~HAS_SIDES]) == {17, 23, 24, 25, 26, 43}


def test_every_emotion_but_neutral_has_a_prototype():
    assert set(PROTOTYPES) == set(labels.EXPRESSIONS[1:8])
    assert {unit for units in PROTOTYPES.values() for unit in units} - set(UNITS) == {16}
