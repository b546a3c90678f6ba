"""Computations of the figures, and which figures a run has."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from affect_jax.report import emotion_figures, figures

heights = st.lists(st.floats(-1, 1), max_size=10)


@hypothesis.given(heights, st.floats(0.01, 0.5))
def test_heights_are_separated_downwards_in_order(original, gap):
    separated = emotion_figures._separate_heights(original, gap)
    order = np.argsort(-np.array(original), kind="stable")
    assert all(after <= before for before, after in zip(original, separated, strict=True))
    assert (-np.diff(np.array(separated)[order]) >= gap - 1e-12).all()
    if len(original) and (-np.diff(np.sort(original)[::-1]) >= gap).all():
        assert separated == pytest.approx(original, abs=1e-12)  # sufficient gaps are unchanged


def test_mean_errors_are_means_of_all_faces():
    random = np.random.default_rng(0)
    labels, predicted = random.uniform(-1, 1, (2, 300, 2))
    start, end, count = emotion_figures._compute_mean_errors(labels, predicted)
    assert count.sum() == 300 and len(start) <= emotion_figures.ARROW_CELLS**2
    np.testing.assert_allclose(np.average(start, axis=0, weights=count), labels.mean(axis=0))
    np.testing.assert_allclose(np.average(end, axis=0, weights=count), predicted.mean(axis=0))


@pytest.fixture(scope="module")
def expression(run) -> figures.Figures:
    return figures.draw_expression(run, {"categorical.top2.original.f1.fear": 0.78})


def test_units_are_means_over_annotated_faces(run):
    table = run.predictions
    units = np.full_like(table.action_units, np.nan)
    units[:, 0] = 0.2
    units[np.flatnonzero(table.expression == 1)[0], 0] = np.nan
    changed = dataclasses.replace(table, action_units=units)
    drawn = emotion_figures.draw_units(dataclasses.replace(run, predictions=changed))
    texts = [text.get_text() for text in drawn["units_by_emotion"][1].texts]
    assert texts == ["20"] * 8 + [""] * 8 * (len(table.units) - 1)


def test_confusion_cells_have_counts_and_fractions(run, expression):
    table = run.predictions
    counts, fractions = expression["confusion"]
    labelled = table.expression >= 0
    pairs = [*zip(table.expression[labelled], table.probabilities[labelled].argmax(1), strict=True)]
    for place, (label, predicted) in enumerate(np.ndindex(8, 8)):
        count = pairs.count((label, predicted))
        assert counts.texts[place].get_text() == f"{count:,}"
        share = count / np.sum(table.expression == label)
        assert fractions.texts[place].get_text() == f"{share:.2f}"


def test_dots_are_scores_with_their_intervals(run, expression):
    panel = expression["f1_by_class"][0]
    names = [f"categorical.top1.normalised.f1.{c}" for c in run.predictions.classes]
    np.testing.assert_array_equal(
        panel.lines[1].get_xdata(), [run.scores.values[name] for name in names]
    )
    ends = [segment[:, 0] for segment in panel.collections[1].get_segments()]
    np.testing.assert_array_equal(ends, [run.scores.intervals[name] for name in names])


def test_published_scores_are_ticks(run, expression):
    panels = expression["f1_by_class"]
    ticks = [line for panel in panels for line in panel.lines if line.get_marker() == "|"]
    (values,) = (np.asarray(line.get_xdata()) for line in ticks)
    assert values[run.predictions.classes.index("fear")] == 0.78 and np.isnan(values).sum() == 7


def test_no_figures_without_data(run):
    table = dataclasses.replace(
        run.predictions,
        probabilities=None,
        valence_arousal_predicted=None,
        action_units_predicted=None,
    )
    without_models = dataclasses.replace(run, curves={}, predictions=table)
    assert figures.draw_expression(without_models, {}) == {}
    assert emotion_figures.draw_dimensional(without_models) == {}
    assert emotion_figures.draw_units(without_models) == {}
    assert figures.draw_learning_curves([without_models]) == {}
    assert figures.draw_class_scores([without_models]) == {}
    assert figures.draw_differences([without_models], [], []) == {}
