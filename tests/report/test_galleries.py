"""The faces of a report."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np

from affect_jax.report import galleries
from tests.report.conftest import create_predictions

tables = st.builds(
    create_predictions, count=st.integers(8, 60), seed=st.integers(0, 20), skill=st.just(0.6)
)


@hypothesis.given(tables)
def test_confident_mistakes_are_the_most_confident(predictions):
    rows = galleries.select_confident_mistakes(predictions)
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
    rows = galleries.select_uncertain(predictions)
    confidence = predictions.probabilities.max(axis=1)
    labelled = np.flatnonzero(predictions.expression >= 0)
    assert len(rows) == min(galleries.FACES_PER_GALLERY, len(labelled))
    assert sorted(confidence[rows]) == sorted(confidence[labelled])[: len(rows)]


@hypothesis.given(tables)
def test_largest_errors_are_selected(predictions):
    rows = galleries.select_largest_errors(predictions)
    distance = np.hypot(*(predictions.valence_arousal_predicted - predictions.valence_arousal).T)
    descending = np.sort(distance[np.isfinite(distance)])[::-1]
    np.testing.assert_allclose(distance[rows], descending[: len(rows)])


@hypothesis.given(tables)
def test_examples_span_the_probabilities_of_their_class(predictions):
    examples = galleries.select_examples(predictions)
    for label, name in enumerate(predictions.classes):
        members = np.flatnonzero(predictions.expression == label)
        assert (name in examples) == (len(members) > 0)
        if len(members):
            rows = examples[name]
            probabilities = predictions.probabilities[:, label]
            assert (
                len(set(rows.tolist()))
                == len(rows)
                == min(galleries.EXAMPLES_PER_CLASS, len(members))
            )
            assert set(rows) <= set(members) and (np.diff(probabilities[rows]) <= 0).all()
            assert probabilities[rows[0]] == probabilities[members].max()
            if len(rows) > 1:
                assert probabilities[rows[-1]] == probabilities[members].min()


def test_no_faces_without_models():
    predictions = dataclasses.replace(
        create_predictions(), probabilities=None, valence_arousal_predicted=None
    )
    assert (
        galleries.select_gallery_faces(predictions) == []
        and galleries.select_examples(predictions) == {}
    )


def test_gallery_faces_are_all_selected_faces():
    predictions = create_predictions()
    rows = galleries.select_gallery_faces(predictions)
    assert rows == sorted(set(rows))
    parts = [
        galleries.select_confident_mistakes,
        galleries.select_uncertain,
        galleries.select_largest_errors,
    ]
    assert set(rows) == {int(row) for part in parts for row in part(predictions)}


def test_heatmap_overlay_changes_only_warm_regions():
    face = np.full((20, 20, 3), 100, np.uint8)
    heat = np.zeros((20, 20))
    heat[2:6, 14:18] = 1
    pixels = galleries.overlay_heatmap(face, heat)
    np.testing.assert_array_equal(pixels[heat == 0], face[heat == 0])
    assert (pixels[heat == 1] != 100).any(axis=-1).all()
