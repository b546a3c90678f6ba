"""Computations of the figures, and which figures a run has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from affect_jax.metrics.base import Scores
from affect_jax.report import emotion_figures, figures


@pytest.fixture(scope="module")
def expression(run) -> figures.Figures:
    return figures.draw_expression(run)


def test_units_are_means_over_annotated_faces(run):
    table = run.predictions
    units = np.full_like(table.action_units, np.nan)
    units[:, 0] = 0.2
    units[np.flatnonzero(table.expression == 1)[0], 0] = np.nan
    changed = dataclasses.replace(table, action_units=units)
    drawn = emotion_figures.draw_units(dataclasses.replace(run, predictions=changed))
    texts = [text.get_text() for text in drawn["units_by_emotion"].panels[1].texts]
    assert texts == ["20"] * 8 + [""] * 8 * (len(table.units) - 1)


def test_confusion_cells_have_fractions(run, expression):
    table = run.predictions
    (panel,) = expression["confusion"].panels
    labelled = table.expression >= 0
    pairs = [*zip(table.expression[labelled], table.probabilities[labelled].argmax(1), strict=True)]
    for place, (label, predicted) in enumerate(np.ndindex(8, 8)):
        share = pairs.count((label, predicted)) / np.sum(table.expression == label)
        assert panel.texts[place].get_text() == f"{share:.2f}"


def test_dots_are_scores_with_their_intervals(run, expression):
    panel = expression["f1_by_class"].panels[0]
    names = [f"categorical.top1.normalised.f1.{c}" for c in run.predictions.classes]
    np.testing.assert_array_equal(
        panel.lines[1].get_xdata(), [run.scores.values[name] for name in names]
    )
    ends = [segment[:, 0] for segment in panel.collections[1].get_segments()]
    np.testing.assert_array_equal(ends, [run.scores.intervals[name] for name in names])


def test_emotions_are_at_their_mean_labels_with_their_names(run):
    (panel,) = emotion_figures.draw_dimensional(run)["plane"].panels
    table = run.predictions
    annotated = np.isfinite(table.valence_arousal).all(axis=1)
    means = [table.valence_arousal[annotated & (table.expression == i)].mean(0) for i in range(8)]
    rings = [line for line in panel.lines if line.get_markerfacecolor() == "none"]
    drawn = sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in rings)
    np.testing.assert_allclose(drawn, sorted(map(tuple, means)))
    names = [text.get_text() for text in panel.texts]
    assert names == [table.classes[i] for i in np.argsort([-y for _, y in means])]


def test_no_figures_without_data(run):
    without_models = dataclasses.replace(run, curves={}, scores=Scores())
    assert figures.draw_expression(without_models) == {}
    assert emotion_figures.draw_dimensional(without_models) == {}
    assert emotion_figures.draw_units(without_models) == {}
    assert figures.draw_learning_curves([without_models]) == {}
    assert figures.draw_differences([without_models], [], []) == {}
