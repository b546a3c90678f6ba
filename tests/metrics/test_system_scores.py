"""Laws of the hierarchical bootstrap, and studies of several seeds as systems."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol, resampling, system_scores
from affect_jax.report import comparison, runs, tables
from tests.report.conftest import create_predictions, write_run

ACCURACY = "categorical.top1.original.accuracy"
SETTINGS = {"draws": 3, "bootstrap": 50}


def reseed(seed: int, skill: float = 1.0):
    """Predictions of another training of a model, for the faces and labels of seed 0."""
    table = create_predictions(skill=skill)
    random = np.random.default_rng(seed)
    assert table.probabilities is not None
    noisy = table.probabilities * random.uniform(0.1, 1, table.probabilities.shape)
    return dataclasses.replace(table, probabilities=noisy / noisy.sum(axis=1, keepdims=True))


def test_one_seed_or_identical_seeds_give_the_ordinary_bootstrap():
    table = create_predictions()
    ordinary = protocol.score(table, **SETTINGS)
    for count in (1, 3):
        scores = system_scores.score_study([table] * count, **SETTINGS)
        assert scores.values == pytest.approx(ordinary.values, nan_ok=True)
        assert scores.counts == ordinary.counts
        for name, interval in ordinary.intervals.items():
            assert scores.intervals[name] == pytest.approx(interval)
        assert all(np.nan_to_num(x) < 1e-12 for x in scores.deviations.values())


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.integers(0, 9))
def test_spread_is_that_of_the_mean_over_seeds(means, seed):
    """Without variance over faces, the variance is that of a mean of S seeds."""
    sampled = [{"x": np.full(4000, mean)} for mean in means]
    drawn = resampling.average_seeds(sampled, seed=seed)["x"]
    expected = np.std(means, ddof=1) / len(means) ** 0.5
    assert np.std(drawn) == pytest.approx(expected, rel=0.1, abs=1e-9)
    wider = resampling.average_seeds([{"x": 2 * s["x"]} for s in sampled], seed=seed)["x"]
    assert np.std(wider) == pytest.approx(2 * np.std(drawn), abs=1e-9)


def test_variances_of_seeds_and_faces_add():
    random = np.random.default_rng(0)
    faces = random.normal(0, 1, 20_000)
    drawn = resampling.average_seeds([{"x": faces + mean} for mean in (-1, 0, 1)])["x"]
    assert np.var(drawn) == pytest.approx(np.var(faces) + 1 / 3, rel=0.05)


def test_p_value_of_a_difference_is_small_only_if_its_sample_excludes_0():
    sample = np.random.default_rng(0).normal(3, 1, 999)
    assert resampling.compute_p_value(5.0, sample) == 0.002
    assert 0.9 < resampling.compute_p_value(0.0, sample) <= 1
    assert resampling.compute_p_value(0.0, np.zeros(999)) == 1
    assert resampling.compute_p_value(0.1, np.full(9, np.nan)) == 1


@pytest.mark.slow
def test_studies_are_compared_as_one_system_each(tmp_path):
    better, worse = ([reseed(seed, skill) for seed in range(3)] for skill in (3.0, 0.5))
    changes = system_scores.compare(worse, better, **SETTINGS)
    means = [np.mean([protocol.score(t, draws=3).values[ACCURACY] for t in x]) for x in
             (worse, better)]  # fmt: skip
    assert changes.values[ACCURACY] == pytest.approx(means[1] - means[0])
    assert changes.intervals[ACCURACY][0] > 0 and changes.p_values[ACCURACY] < 1
    same = system_scores.compare(worse, worse, **SETTINGS)
    low, high = same.intervals[ACCURACY]
    assert same.values[ACCURACY] == 0 and low < 0 < high  # other seeds give other scores
    folders = [tmp_path / name for name in ("worse", "better")]
    for folder, study in zip(folders, (worse, better), strict=True):
        for seed, table in enumerate(study):
            write_run(folder / f"seed{seed}", table, seed=seed)
    systems = comparison.read_runs([*folders, folders[0] / "seed0"])
    assert [run.name for run in systems] == ["worse", "better", "seed0"]
    assert [len(run.members) for run in systems] == [3, 3, 0]
    row = systems[0].protocols["7 classes, output of contempt dropped"]
    low, high = row["intervals"]["accuracy"]
    assert low < row["scores"]["accuracy"] < high
    curve = systems[0].curves[ACCURACY]
    assert curve.deviations is not None and curve.deviations[-1] == pytest.approx(
        systems[0].scores.deviations[ACCURACY]
    )
    assert "±" in comparison.render_html(systems)
    table = tables.create_tables({run.name: run for run in systems})["scores"]
    (deviations, *_) = [row for row in tables.format_cells(table) if row[0] == tables.DEVIATION]
    assert [bool(text) for text in deviations[1:]] == [True, True, False, False, False]


def test_a_study_needs_equal_settings_and_one_system(tmp_path):
    for seed, rate in enumerate((0.1, 0.2)):
        write_run(tmp_path / "a" / f"seed{seed}", create_predictions(), learning_rate=rate)
    with pytest.raises(UserError, match="learning_rate differs"):
        runs.read_run(tmp_path / "a")
    with pytest.raises(UserError, match="a study of several options; choose one of .*/a"):
        runs.read_run(tmp_path)
