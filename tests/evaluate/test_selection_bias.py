"""The expected optimism of the best of many evaluations, against simulations with known truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from affect_jax.core import labels
from affect_jax.evaluate import selection_bias
from affect_jax.metrics.predictions import Predictions

ACCURACY = "categorical.top1.original.accuracy"


def create_table(correct: np.ndarray) -> Predictions:
    expression = np.arange(len(correct)) % 8
    predicted = np.where(correct, expression, (expression + 1) % 8)
    ids = np.arange(len(correct)).astype(str)
    return Predictions(ids, labels.classes(), expression, np.eye(8)[predicted])


def write(path, tables, name=ACCURACY):
    lines = []
    for step, table in enumerate(tables, start=1):
        score = np.mean(table.probabilities.argmax(axis=1) == table.expression)
        samples = selection_bias.sample_score(table, name)
        lines.append(json.dumps({"step": step, "score": float(score), "samples": samples}))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
def test_optimism_of_equally_good_evaluations(tmp_path):
    """The best of 20 has 1.87 standard deviations too much, of which the bootstrap finds 0.7."""
    optimism = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        tables = [create_table(random.random(400) < 0.6) for _ in range(20)]
        bias = selection_bias.estimate(write(tmp_path / "e.jsonl", tables), ACCURACY)
        optimism.append(bias["expected optimism"])
        assert bias["evaluations"] == 20
        assert bias["best minus last"] >= 0
    truth = 1.87 * np.sqrt(0.6 * 0.4 / 400)
    assert np.mean(optimism) == pytest.approx(0.7 * truth, rel=0.15)


def test_no_optimism_if_one_evaluation_is_far_better(tmp_path):
    random = np.random.default_rng(0).random(400)
    tables = [create_table(random < share) for share in (0.3, 0.9, 0.5)]
    bias = selection_bias.estimate(write(tmp_path / "e.jsonl", tables), ACCURACY)
    assert bias["expected optimism"] == pytest.approx(0, abs=1e-3)
    means = [np.mean(random < share) for share in (0.9, 0.5)]
    assert bias["best"] == f"{means[0]:.4f} at step 2"
    assert bias["best minus last"] == pytest.approx(means[0] - means[1], abs=1e-4)


def test_smaller_scores_may_be_better(tmp_path):
    tables = [create_table(np.arange(400) % n > 0) for n in (4, 3, 5)]
    bias = selection_bias.estimate(write(tmp_path / "e.jsonl", tables), f"-{ACCURACY}")
    assert bias["best"].endswith("at step 2")
    assert bias["best minus last"] < 0 and bias["expected optimism"] <= 0


def test_one_evaluation_or_none_is_no_selection(tmp_path):
    assert selection_bias.estimate(tmp_path / "missing.jsonl", ACCURACY) == {}
    path = write(tmp_path / "e.jsonl", [create_table(np.arange(40) > 5)])
    assert selection_bias.estimate(path, ACCURACY) == {}
    path.write_text(path.read_text() + '\n{"step": 2, "sco')  # the run was killed
    assert selection_bias.estimate(path, ACCURACY) == {}


def test_a_score_without_a_bootstrap_has_no_estimate(tmp_path):
    name = "action_units.AU1.best_threshold"
    path = write(tmp_path / "e.jsonl", [create_table(np.arange(40) > 5)], name)
    path.write_text(path.read_text() + "\n" + path.read_text().replace('"step": 1', '"step": 2'))
    assert selection_bias.estimate(path, name) == {}


def test_a_run_reports_its_selection_bias(trained_run):
    folder = trained_run.folder / "run"
    assert len((folder / selection_bias.FILE).read_text().splitlines()) == 2
    about = json.loads((folder / "evaluation/validation/scores.json").read_text())["about"]
    assert about["selection_bias"]["evaluations"] == 2
    assert "Selection bias" in (folder / "evaluation/validation/report.html").read_text()
