from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np

from affect_jax.report import example_faces
from tests.report.conftest import table

tables = st.builds(table, count=st.integers(8, 60), seed=st.integers(0, 20), skill=st.just(0.6))


@hypothesis.given(tables, st.integers(0, 15))
def test_mistakes_are_wrong_and_no_surer_one_is_left_out(given, count):
    rows = example_faces.mistakes(given, count)
    best = given.probabilities.argmax(axis=1)
    confidence = given.probabilities.max(axis=1)
    wrong = np.flatnonzero((given.expression >= 0) & (best != given.expression))
    assert len(rows) == min(count, len(wrong)) and set(rows) <= set(wrong)
    assert (np.diff(confidence[rows]) <= 0).all()
    left = np.setdiff1d(wrong, rows)
    assert not len(left) or not len(rows) or confidence[left].max() <= confidence[rows].min()


@hypothesis.given(tables, st.integers(0, 15))
def test_uncertain_faces_are_labelled_and_no_less_certain_one_is_left_out(given, count):
    rows = example_faces.uncertain(given, count)
    confidence = given.probabilities.max(axis=1)
    labelled = np.flatnonzero(given.expression >= 0)
    assert len(rows) == min(count, len(labelled))
    assert sorted(confidence[rows]) == sorted(confidence[labelled])[: len(rows)]


@hypothesis.given(tables)
def test_far_off_faces_have_the_longest_ways(given):
    rows = example_faces.far_off(given, 5)
    way = np.hypot(*(given.valence_arousal_predicted - given.valence_arousal).T)
    known = np.sort(way[np.isfinite(way)])[::-1]
    np.testing.assert_allclose(way[rows], known[: len(rows)])


@hypothesis.given(tables, st.integers(1, 5))
def test_examples_go_from_the_best_seen_to_the_worst_seen_of_their_class(given, per_class):
    found = example_faces.examples(given, per_class)
    for label, name in enumerate(given.classes):
        members = np.flatnonzero(given.expression == label)
        assert (name in found) == (len(members) > 0)
        if len(members):
            rows = found[name]
            seen = given.probabilities[:, label]
            assert len(set(rows.tolist())) == len(rows) == min(per_class, len(members))
            assert set(rows) <= set(members) and (np.diff(seen[rows]) <= 0).all()
            assert seen[rows[0]] == seen[members].max()
            if len(rows) > 1:
                assert seen[rows[-1]] == seen[members].min()


def test_a_model_that_is_not_there_has_no_faces():
    given = dataclasses.replace(table(), probabilities=None, valence_arousal_predicted=None)
    assert example_faces.shown(given) == [] and example_faces.examples(given) == {}


def test_all_that_is_shown_is_asked_for():
    given = table()
    rows = example_faces.shown(given)
    assert rows == sorted(set(rows))
    parts = [example_faces.mistakes, example_faces.uncertain, example_faces.far_off]
    assert set(rows) == {int(row) for part in parts for row in part(given)}
