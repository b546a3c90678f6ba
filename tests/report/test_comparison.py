"""Several runs on one page."""

from __future__ import annotations

import dataclasses

import pytest

from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.metrics.base import Scores
from affect_jax.report import __main__ as command
from affect_jax.report import comparison
from tests.report.conftest import table, write_run
from tests.report.reading import Page
from tests.report.test_page import of, released


@pytest.fixture(scope="module")
def three(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    better = write_run(folder / "better", table(skill=1.5), trunk={"name": "resnet18"})
    alone = dataclasses.replace(table(skill=0.7), action_units_predicted=None, units=())
    return comparison.read([workdir, better, write_run(folder / "no_units", alone)])


@pytest.fixture(scope="module")
def changes(three) -> list[Scores]:
    return [comparison.difference(three[0], run) for run in three[1:]]


@pytest.fixture(scope="module")
def page(three, changes) -> Page:
    return Page(comparison.html(three, changes))


def test_a_difference_is_that_of_the_scores(three, changes):
    first = three[0].scores.values
    for run, change in zip(three[1:], changes, strict=True):
        for name, value in change.values.items():
            if value == value:
                assert value == pytest.approx(run.scores.values[name] - first[name], abs=1e-12)


def test_intervals_are_those_of_the_paired_bootstrap(three, changes):
    wanted = protocol.compare(three[0].table, three[1].table, draws=3, bootstrap=20)
    assert changes[0].intervals == wanted.intervals
    name = "categorical.top1.original.accuracy"
    low, high = changes[0].intervals[name]
    own = [high - low for low, high in (run.scores.intervals[name] for run in three[:2])]
    assert high - low < sum(own)


def test_one_run_on_other_data_speaks_for_all():
    """The same faces, scored once under AffectNet's name and once under none."""
    faces = released(table())
    both = [of(faces), dataclasses.replace(of(faces, ""), name="other")]
    for found in (both, both[::-1]):
        text = Page(comparison.html(found, [Scores()])).text
        assert "2 runs on data of unknown origin" in text
        assert "Not AffectNet: data of unknown origin." in text
        assert "everything else in their configs" not in text  # which nobody knows


def test_the_page_has_every_runs_numbers_and_differences(page, three, changes):
    shown = {(name, float(value)) for name, value, _ in page.scores}
    for name in protocol.HEADLINES:
        for run in three:
            if name in run.scores.values and run.scores.values[name] == run.scores.values[name]:
                assert (name, run.scores.values[name]) in shown
    name = "categorical.top1.original.accuracy"
    assert f"+{changes[0].values[name]:.3f}" in page.text
    assert f"−{-changes[1].values[name]:.3f}" in page.text


def test_the_page_says_what_differs_and_nothing_else(page, three):
    rows = dict(comparison.settings(three))
    assert rows["trunk.name"] == ['"alexnet"', '"resnet18"', '"alexnet"']
    assert {key for key in rows if not key.startswith("trunk.")} == {"checkpoint", "evaluated"}
    assert all(run.name in page.text for run in three)
    assert "Not AffectNet: rendered faces" in page.text


def test_better_is_said_only_where_the_interval_leaves_out_zero():
    name, error = "dimensional.valence.ccc", "dimensional.valence.rmse"

    def verdict(which: str, low: float, high: float) -> str:
        return comparison.verdict(Scores({which: 0.0}, {which: (low, high)}), which)

    assert (verdict(name, 0.1, 0.2), verdict(name, -0.2, -0.1)) == ("better", "worse")
    assert (verdict(error, 0.1, 0.2), verdict(error, -0.2, -0.1)) == ("worse", "better")
    assert verdict(name, -0.1, 0.2) == verdict(name, 0.0, 0.2) == verdict(name, 0, 0) == ""
    assert comparison.verdict(Scores({name: 1.0}), name) == ""


def test_runs_of_one_name_go_by_their_paths(tmp_path):
    paths = [write_run(tmp_path / folder / "run", table(40)) for folder in ("a", "b")]
    assert [run.name for run in comparison.read(paths)] == [str(path) for path in paths]
    with pytest.raises(UserError, match="named twice"):
        comparison.read([paths[0], paths[0]])


def test_other_faces_are_refused_in_one_line(workdir, tmp_path, capsys):
    other = write_run(tmp_path / "other", table(100))
    assert command.main([str(workdir), str(other), "--out", str(tmp_path / "page.html")]) == 2
    assert "fair and other: two models are compared on the same faces" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
