from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.evaluate import __main__ as command
from affect_jax.evaluate.scoring import score_table
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.report import figures, runs
from tests.report.conftest import create_predictions, write_run


def test_read_run_returns_written_files(workdir):
    run, predictions = runs.read_run(workdir), create_predictions()
    expected = protocol.score(predictions, draws=3, bootstrap=20)
    for field in dataclasses.fields(expected):
        values, expected_values = getattr(run.scores, field.name), getattr(expected, field.name)
        assert values.keys() == expected_values.keys()
        for name in values:
            np.testing.assert_array_equal(values[name], expected_values[name])
    np.testing.assert_array_equal(run.predictions.probabilities, predictions.probabilities)
    assert run.name == "fair" and run.config["trunk.name"] == "alexnet"
    np.testing.assert_array_equal(run.curves["train.loss"].steps, np.arange(20, 201, 20))
    np.testing.assert_allclose(run.curves["train.loss"].values, 2 / np.arange(20, 201, 20))


def test_evaluation_folder_is_the_same_run(workdir):
    inner = runs.read_run(workdir / "evaluation" / "validation")
    assert inner.name == "fair" and inner.config and inner.curves


def test_classes_in_another_order_keep_their_names(tmp_path):
    classes, labels = ("sadness", "happiness", "anger"), np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.eye(3)[labels] * 0.7 + 0.1
    ids = np.arange(6).astype(str)
    table = Predictions(ids, classes, expression=labels, probabilities=probabilities)
    write_predictions(table, tmp_path / "predictions.parquet")
    score_table(table, tmp_path, {}, 1, 0)
    read = runs.read_run(tmp_path).predictions
    assert np.array(read.classes)[read.expression].tolist() == np.array(classes)[labels].tolist()
    np.testing.assert_array_equal(read.probabilities.argmax(axis=1), read.expression)


def test_truncated_log_line_is_skipped(tmp_path):
    workdir = write_run(tmp_path / "run", create_predictions(40))
    log = workdir / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 220, "time": 10')
    assert runs.read_run(workdir).curves["train.loss"].steps[-1] == 200


def test_damaged_log_lines_are_skipped(tmp_path):
    workdir = write_run(tmp_path / "run", create_predictions(40))
    log = workdir / "metrics.jsonl"
    lines = (b"[1]", b"3", b'{"train.loss": 1}', b'{"step": 1, "a": [1]}', b"\xff", b"[" * 99999)
    log.write_bytes(b"\n".join((log.read_bytes(), *lines)))
    curves = runs.read_run(workdir).curves
    assert curves["train.loss"].steps[-1] == 200 and "a" not in curves


def test_scores_of_other_classes_raise_and_missing_scores_are_undefined(tmp_path):
    workdir = write_run(tmp_path / "run", create_predictions(40))
    path = workdir / "evaluation" / "validation" / "scores.json"
    content = json.loads(path.read_text())
    for name in ("auc_pr.fear", "calibration_error"):
        del content["scores"][f"categorical.top1.original.{name}"]
    del content["scores"]["dimensional.arousal.rmse"]
    path.write_text(json.dumps(content))
    run = runs.read_run(workdir)
    drawn = figures.draw_expression(run) | figures.draw_dimensional(run)
    titles = {
        axes.get_title(loc="left") or axes.get_title()
        for figure in drawn.values()
        for axes in figure.panels
    }
    assert {"fear  undefined", "Reliability  ECE undefined"} <= titles
    content["about"]["classes"] = ["a", "b"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="other classes than its predictions"):
        runs.read_run(workdir)


def test_null_values_are_left_out_of_curves(tmp_path):
    workdir = write_run(tmp_path / "run", create_predictions(40))
    log = workdir / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 220, "time": 1000000220, "train.loss": null}\n')
    assert runs.read_run(workdir).curves["train.loss"].steps[-1] == 200


def test_scored_file_must_be_unchanged(tmp_path):
    path, out = tmp_path / "mine.csv", tmp_path / "out"
    write_predictions(create_predictions(40), path)
    write_predictions(
        create_predictions(30), tmp_path / "predictions.parquet"
    )  # a different table in the same folder
    arguments = ["--predictions", str(path), "--out", str(out), "--draws=2", "--bootstrap=0"]
    assert command.main([*arguments, "--no-report"]) == 0
    assert len(runs.read_run(out).predictions) == 40
    write_predictions(create_predictions(41), path)
    with pytest.raises(UserError, match="changed since"):
        runs.read_run(out)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: (w / "evaluation/validation/scores.json").unlink(), "no scores.json"),
        (lambda w: (w / "evaluation/validation/scores.json").write_text("{"), "cannot be read"),
        (lambda w: (w / "evaluation/validation/scores.json").write_text("{}"), "not written by"),
        (lambda w: (w / "evaluation/validation/predictions.parquet").unlink(), "no such file"),
        (lambda w: (w / "config.json").write_text("not JSON"), "config.json: cannot be read"),
        (lambda w: (w / "config.json").write_text("[1]"), "config.json: not written by"),
        (lambda w: (w / "config.json").write_text("[" * 99999), "config.json: cannot be read"),
        (lambda w: (w / "config.json").write_text('{"a": "\\ud800"}'), "json: cannot be read"),
    ],
)
def test_missing_or_damaged_files_are_reported(tmp_path, change, message):
    workdir = write_run(tmp_path / "run", create_predictions(40))
    change(workdir)
    with pytest.raises(UserError, match=message):
        runs.read_run(workdir)


def test_ambiguous_evaluation_raises(tmp_path):
    workdir = write_run(tmp_path / "run", create_predictions(40))
    other = workdir / "evaluation" / "training"
    other.mkdir()
    content = json.loads((workdir / "evaluation/validation/scores.json").read_text())
    (other / "scores.json").write_text(json.dumps(content))
    with pytest.raises(
        UserError, match="several evaluations; choose one of .*training.*validation"
    ):
        runs.read_run(workdir)
