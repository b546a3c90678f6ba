"""The faces of a report."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np

from affect_jax.report import figures, galleries
from tests.report.conftest import create_many_classes, create_predictions

tables = st.builds(
    create_predictions, count=st.integers(8, 60), seed=st.integers(0, 20), skill=st.just(0.6)
)


@hypothesis.given(tables)
def test_confident_mistakes_are_the_most_confident(predictions):
    rows = galleries.select_faces(predictions)[galleries.MISTAKES]
    best = predictions.probabilities.argmax(axis=1)
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero((predictions.expression >= 0) & (best != predictions.expression))
    assert len(rows) == min(galleries.FACES_PER_GALLERY, len(wrong)) and set(rows) <= set(wrong)
    assert (np.diff(confidence[rows]) <= 0).all()
    remaining = np.setdiff1d(wrong, rows)
    assert (
        not len(remaining) or not len(rows) or confidence[remaining].max() <= confidence[rows].min()
    )


@hypothesis.given(tables)
def test_uncertain_faces_are_the_least_confident(predictions):
    rows = galleries.select_faces(predictions)[galleries.UNCERTAIN]
    confidence = predictions.probabilities.max(axis=1)
    labelled = np.flatnonzero(predictions.expression >= 0)
    assert len(rows) == min(galleries.FACES_PER_GALLERY, len(labelled))
    assert sorted(confidence[rows]) == sorted(confidence[labelled])[: len(rows)]


@hypothesis.given(tables)
def test_largest_errors_are_selected(predictions):
    rows = galleries.select_faces(predictions)[galleries.LARGE_ERRORS]
    distance = np.hypot(*(predictions.valence_arousal_predicted - predictions.valence_arousal).T)
    descending = np.sort(distance[np.isfinite(distance)])[::-1]
    np.testing.assert_allclose(distance[rows], descending[: len(rows)])


@hypothesis.given(tables)
def test_examples_span_the_probabilities_of_their_class(predictions):
    examples = np.array(galleries.select_examples(predictions), int)
    for label in range(len(predictions.classes)):
        members = np.flatnonzero(predictions.expression == label)
        rows = examples[predictions.expression[examples] == label]
        probabilities = predictions.probabilities[:, label]
        expected = min(galleries.EXAMPLES_PER_CLASS, len(members))
        assert len(set(rows.tolist())) == len(rows) == expected
        assert (np.diff(probabilities[rows]) <= 0).all()
        if len(rows):
            assert probabilities[rows[0]] == probabilities[members].max()
        if len(rows) > 1:
            assert probabilities[rows[-1]] == probabilities[members].min()


def test_examples_are_of_the_shown_classes():
    predictions = create_many_classes(2000, 300)
    labels = predictions.expression[galleries.select_examples(predictions)]
    assert sorted(set(labels.tolist())) == figures.select_classes(predictions)


def test_no_faces_without_models():
    predictions = dataclasses.replace(
        create_predictions(), probabilities=None, valence_arousal_predicted=None
    )
    assert galleries.select_faces(predictions) == {}
    assert galleries.select_examples(predictions) == []


def test_heatmap_overlay_changes_only_warm_regions():
    face = np.full((20, 20, 3), 100, np.uint8)
    heat = np.zeros((20, 20))
    heat[2:6, 14:18] = 1
    pixels = galleries.overlay_heatmap(face, heat)
    np.testing.assert_array_equal(pixels[heat == 0], face[heat == 0])
    assert (pixels[heat == 1] != 100).any(axis=-1).all()
