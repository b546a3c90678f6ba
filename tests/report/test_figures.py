"""Computations and alternative texts of the figures."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from affect_jax.report import run_page
from affect_jax.report.figures import action_units, dimensional

heights = st.lists(st.floats(-1, 1), max_size=10)


@hypothesis.given(heights, st.floats(0.01, 0.5))
def test_heights_are_separated_downwards_in_order(original, gap):
    separated = dimensional._separate_heights(original, gap)
    order = np.argsort(-np.array(original), kind="stable")
    assert all(after <= before for before, after in zip(original, separated, strict=True))
    assert (-np.diff(np.array(separated)[order]) >= gap - 1e-12).all()
    if len(original) and (-np.diff(np.sort(original)[::-1]) >= gap).all():
        assert separated == pytest.approx(original, abs=1e-12)  # sufficient gaps are unchanged


def test_mean_errors_are_means_of_all_faces():
    random = np.random.default_rng(0)
    labels, predicted = random.uniform(-1, 1, (2, 300, 2))
    start, end, count = dimensional._compute_mean_errors(labels, predicted)
    assert count.sum() == 300 and len(start) <= dimensional.ARROW_CELLS**2
    np.testing.assert_allclose(np.average(start, axis=0, weights=count), labels.mean(axis=0))
    np.testing.assert_allclose(np.average(end, axis=0, weights=count), predicted.mean(axis=0))


def test_unit_means_are_over_annotated_faces():
    values = np.array([[0.2, np.nan, np.nan], [0.4, 0.6, np.nan]])
    np.testing.assert_allclose(action_units._mean_annotated(values), [0.3, 0.6, 0.0])


def test_alternative_texts_have_the_values(run):
    """Alternative texts have the values of their figures."""
    specs = {
        spec.name: spec for section in run_page.create_figures(run, {}).values() for spec in section
    }
    for spec in specs.values():
        assert len(spec.alt) > 60 and spec.note.endswith("."), spec.name
    values = run.scores.values
    f1 = {c: values[f"categorical.top1.original.f1.{c}"] for c in run.predictions.classes}
    best = max(f1, key=f1.__getitem__)
    assert f"highest {best} {f1[best]:.3f}" in specs["f1_by_class"].alt
    assert f"valence {values['dimensional.valence.ccc']:.3f}" in specs["agreement"].alt
    error = values["categorical.top1.original.calibration_error"]
    assert f"calibration error {error:.3f}" in specs["reliability"].alt
    assert "contempt: AU" in specs["units_by_emotion"].alt
    loss = run.curves["train.loss"].values
    assert f"from {loss[0]:.3f} to {loss[-1]:.3f}" in specs["learning_curves"].alt


def test_alternative_text_has_the_most_frequent_mistake(run):
    (spec,) = run_page.create_figures(run, {})["confusion"]
    table = run.predictions
    best = table.probabilities.argmax(axis=1)
    pairs = [
        (table.classes[a], table.classes[b])
        for a, b in zip(table.expression, best, strict=True)
        if a >= 0 and a != b
    ]
    most = max(pairs.count(pair) for pair in set(pairs))
    candidates = {pair for pair in pairs if pairs.count(pair) == most}
    assert any(f"{a} predicted as {b}, {most:,} faces" in spec.alt for a, b in candidates)


@pytest.mark.parametrize("section", ["f1", "plane", "units", "training"])
def test_no_figures_without_data(run, section):
    without_models = dataclasses.replace(
        run,
        curves={},
        predictions=dataclasses.replace(
            run.predictions,
            probabilities=None,
            valence_arousal_predicted=None,
            action_units_predicted=None,
        ),
    )
    assert run_page.create_figures(without_models, {})[section] == []
