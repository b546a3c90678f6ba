"""What figures compute before they draw."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from affect_jax.report import page
from affect_jax.report.figures import dimensional, units

heights = st.lists(st.floats(-1, 1), max_size=10)


@hypothesis.given(heights, st.floats(0.01, 0.5))
def test_names_are_moved_apart_downwards_and_keep_their_order(given, gap):
    found = dimensional._apart(given, gap)
    order = np.argsort(-np.array(given), kind="stable")
    assert all(after <= before for before, after in zip(given, found, strict=True))
    assert (-np.diff(np.array(found)[order]) >= gap - 1e-12).all()
    if len(given) and (-np.diff(np.sort(given)[::-1]) >= gap).all():
        assert found == given  # nothing is moved that need not be


def test_mean_errors_are_means_of_all_faces():
    random = np.random.default_rng(0)
    labels, predicted = random.uniform(-1, 1, (2, 300, 2))
    start, end, count = dimensional._mean_errors(labels, predicted)
    assert count.sum() == 300 and len(start) <= dimensional.ARROW_CELLS**2
    np.testing.assert_allclose(np.average(start, axis=0, weights=count), labels.mean(axis=0))
    np.testing.assert_allclose(np.average(end, axis=0, weights=count), predicted.mean(axis=0))


def test_units_are_means_over_what_is_annotated():
    values = np.array([[0.2, np.nan, np.nan], [0.4, 0.6, np.nan]])
    np.testing.assert_allclose(units._mean(values), [0.3, 0.6, 0.0])


def test_what_is_seen_is_told_in_words(run):
    """The alternative texts name the figures' own numbers."""
    drawn = {d.name: d for several in page.figures(run, {}).values() for d in several}
    for drawing in drawn.values():
        assert len(drawing.alt) > 60 and drawing.note.endswith("."), drawing.name
    values = run.scores.values
    f1 = {c: values[f"categorical.top1.original.f1.{c}"] for c in run.table.classes}
    best = max(f1, key=f1.__getitem__)
    assert f"highest {best} {f1[best]:.3f}" in drawn["f1_by_class"].alt
    assert f"valence {values['dimensional.valence.ccc']:.3f}" in drawn["agreement"].alt
    error = values["categorical.top1.original.calibration_error"]
    assert f"calibration error {error:.3f}" in drawn["reliability"].alt
    assert "contempt: AU" in drawn["units_by_emotion"].alt
    loss = run.curves["train.loss"].values
    assert f"from {loss[0]:.3f} to {loss[-1]:.3f}" in drawn["learning_curves"].alt


def test_the_most_frequent_mistake_is_named(run):
    (drawing,) = page.figures(run, {})["confusion"]
    table = run.table
    best = table.probabilities.argmax(axis=1)
    pairs = [
        (table.classes[a], table.classes[b])
        for a, b in zip(table.expression, best, strict=True)
        if a >= 0 and a != b
    ]
    most = max(pairs.count(pair) for pair in set(pairs))
    named = {pair for pair in pairs if pairs.count(pair) == most}
    assert any(f"{a} taken for {b}, {most:,} faces" in drawing.alt for a, b in named)


@pytest.mark.parametrize("section", ["f1", "plane", "units", "training"])
def test_nothing_is_drawn_of_what_is_not_there(run, section):
    bare = dataclasses.replace(
        run,
        curves={},
        table=dataclasses.replace(
            run.table,
            probabilities=None,
            valence_arousal_predicted=None,
            action_units_predicted=None,
        ),
    )
    assert page.figures(bare, {})[section] == []
