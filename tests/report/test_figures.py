"""Computations of the figures, and which figures a run has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from affect_jax.core import plotting
from affect_jax.metrics import protocol
from affect_jax.metrics.base import Scores
from affect_jax.report import figures, run_page
from affect_jax.report.runs import Curve, Run
from tests.report.conftest import create_many_classes


@pytest.fixture(scope="module")
def expression(run) -> figures.Figures:
    return figures.draw_expression(run)


def test_units_are_means_over_annotated_faces(run):
    table = run.predictions
    units = np.full_like(table.action_units, np.nan)
    units[:, 0] = 0.2
    units[np.flatnonzero(table.expression == 1)[0], 0] = np.nan
    changed = dataclasses.replace(table, action_units=units)
    drawn = figures.draw_units(dataclasses.replace(run, predictions=changed))
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


def test_figures_show_the_classes_with_the_most_faces():
    table = create_many_classes(600, 100)
    assert figures.select_classes(table) == [*range(plotting.MAX_NAMES)]
    run = Run("many", {}, protocol.score(table, draws=1), table)
    with plotting.style():
        drawn = figures.draw_expression(run) | figures.draw_units(run)
    assert len(drawn["precision_recall"].panels) == plotting.MAX_NAMES
    assert len(drawn["f1_by_class"].panels[0].get_yticks()) == plotting.MAX_NAMES
    assert not drawn["confusion"].panels[0].texts  # a shade alone for each of 10,000 cells
    assert len(drawn["confusion"].panels[0].get_xticks()) == 20  # every 5th class
    assert len(drawn["units_by_emotion"].panels[0].get_xticks()) == plotting.MAX_NAMES
    assert plotting.render(drawn["f1_by_class"].panels[0]).std() > 5  # $ is no mathematics
    (paragraph, _) = run_page._list_class_scores(run, {})
    assert "24 classes with the most faces" in paragraph


def test_no_figures_without_data(run):
    without_models = dataclasses.replace(run, curves={}, scores=Scores())
    assert figures.draw_expression(without_models) == {}
    assert figures.draw_dimensional(without_models) == {}
    assert figures.draw_units(without_models) == {}
    assert figures.draw_learning_curves([without_models]) == {}


def test_evaluation_loss_is_drawn_over_training(run):
    curve = Curve(np.array([10, 20]), np.array([2.0, 1.5]))
    drawn = figures.draw_learning_curves(
        [dataclasses.replace(run, curves={"evaluation.loss": curve})]
    )
    (panel,) = drawn["learning_curves"].panels
    assert panel.get_title() == "Evaluation loss"
    assert panel.lines[0].get_ydata().tolist() == [2.0, 1.5]
