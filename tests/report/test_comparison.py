"""The comparison page of several runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from affect_jax.metrics import protocol, system_scores
from affect_jax.metrics.base import Scores
from affect_jax.metrics.predictions import write_predictions
from affect_jax.report import __main__ as command
from affect_jax.report import comparison, runs
from tests.report.conftest import create_predictions, write_run
from tests.report.reading import Page


@pytest.fixture(scope="module")
def three_runs(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    better = write_run(folder / "better", create_predictions(skill=1.5), trunk={"name": "resnet18"})
    without_units = dataclasses.replace(
        create_predictions(skill=0.7), action_units_predicted=None, units=()
    )
    return comparison.read_runs([workdir, better, write_run(folder / "no_units", without_units)])


@pytest.fixture(scope="module")
def changes(three_runs) -> list[Scores]:
    return [comparison.compute_difference(three_runs[0], run) for run in three_runs[1:]]


@pytest.fixture(scope="module")
def page(three_runs) -> Page:
    return Page(comparison.render_html(three_runs))


def test_differences_equal_score_differences(three_runs, changes):
    first = three_runs[0].scores.values
    for run, change in zip(three_runs[1:], changes, strict=True):
        for name, value in change.values.items():
            if value == value:
                assert value == pytest.approx(run.scores.values[name] - first[name], abs=1e-12)


def test_intervals_are_from_the_paired_bootstrap(three_runs, changes):
    tables = ([run.predictions] for run in three_runs[:2])
    expected = system_scores.compare(*tables, draws=3, bootstrap=20)
    assert changes[0].intervals == expected.intervals
    name = "categorical.top1.original.accuracy"
    low, high = changes[0].intervals[name]
    widths = [high - low for low, high in (run.scores.intervals[name] for run in three_runs[:2])]
    assert high - low < sum(widths)


def test_page_has_scores_and_differences_of_all_runs(page, three_runs, changes):
    displayed = {(name, float(value)) for name, value, _ in page.scores}
    for name in protocol.HEADLINES:
        for run in three_runs:
            if name in run.scores.values and run.scores.values[name] == run.scores.values[name]:
                assert (name, run.scores.values[name]) in displayed
    name = "categorical.top1.original.accuracy"
    assert f"+{changes[0].values[name]:.3f}" in page.text
    assert f"−{-changes[1].values[name]:.3f}" in page.text


def test_page_lists_only_differing_settings(page, three_runs):
    rows = runs.compare_configs(three_runs)
    assert rows["trunk.name"] == ['"alexnet"', '"resnet18"', '"alexnet"']
    assert all(key.startswith("trunk.") for key in rows)
    assert 'trunk.name"alexnet""resnet18""alexnet"' in page.text
    assert "checkpoint_step200200200" in page.text and "data.name" not in page.text
    assert all(run.name in page.text for run in three_runs)
    assert "Not AffectNet: rendered faces" in page.text


def test_one_study_is_one_system(tmp_path):
    write_run(tmp_path / "study" / "seed0", create_predictions(40), seed=0)
    assert command.main([str(tmp_path / "study"), "--out", str(tmp_path / "page.html")]) == 0
    text = Page((tmp_path / "page.html").read_text()).text
    assert "One system on rendered faces" in text and "study, scored on the same 40 faces" in text


def test_runs_with_equal_names_are_named_by_path(tmp_path):
    paths = [write_run(tmp_path / folder / "run", create_predictions(40)) for folder in ("a", "b")]
    assert [run.name for run in comparison.read_runs(paths)] == [str(path) for path in paths]


def test_comparison_of_different_labels_raises_one_line(workdir, tmp_path, capsys):
    other = write_run(tmp_path / "other", create_predictions(100))
    assert command.main([str(workdir), str(other), "--out", str(tmp_path / "page.html")]) == 2
    message = "fair and other: models must be compared on the same labels, but valence_arousal"
    assert message in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_runs_and_files_are_compared_on_common_faces(workdir, tmp_path):
    table = create_predictions(skill=2).select(np.arange(200))
    write_predictions(table, tmp_path / "foreign.csv")
    compared = comparison.read_runs([workdir, tmp_path / "foreign.csv"])
    assert [len(run.predictions) for run in compared] == [200, 200]
    change = comparison.compute_difference(*compared)
    page = Page(comparison.render_html(compared))
    name = "categorical.top1.original.accuracy"
    assert f"+{change.values[name]:.3f}" in page.text and "p < 0.001" in page.text
    assert "scored on the same 200 faces" in page.text
