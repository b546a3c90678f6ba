from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.evaluate import __main__ as command
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import write_predictions
from affect_jax.report import runs
from tests.report.conftest import table, write_run


def test_what_was_written_is_read(workdir):
    run, given = runs.read(workdir), table()
    wanted = protocol.score(given, draws=3, bootstrap=20)
    for field in dataclasses.fields(wanted):
        found, expected = getattr(run.scores, field.name), getattr(wanted, field.name)
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_array_equal(run.table.probabilities, given.probabilities)
    assert run.name == "fair" and run.config["trunk.name"] == "alexnet"
    np.testing.assert_array_equal(run.curves["train.loss"].steps, np.arange(20, 201, 20))
    np.testing.assert_allclose(run.curves["train.loss"].values, 2 / np.arange(20, 201, 20))
    assert run.seconds == 180


def test_the_evaluations_folder_is_the_same_run(workdir):
    inner = runs.read(workdir / "evaluation" / "validation")
    assert inner.name == "fair" and inner.config and inner.curves


def test_a_log_cut_short_is_read_up_to_there(tmp_path):
    workdir = write_run(tmp_path / "run", table(40))
    log = workdir / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 220, "time": 10')
    assert runs.read(workdir).curves["train.loss"].steps[-1] == 200


def test_a_null_is_no_point_of_a_curve(tmp_path):
    workdir = write_run(tmp_path / "run", table(40))
    log = workdir / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 220, "time": 1000000220, "train.loss": null}\n')
    assert runs.read(workdir).curves["train.loss"].steps[-1] == 200


def test_a_scored_file_is_found_by_its_path_and_must_be_the_same(tmp_path):
    path, out = tmp_path / "mine.csv", tmp_path / "out"
    write_predictions(table(40), path)
    write_predictions(table(30), tmp_path / "predictions.parquet")  # another one, beside
    arguments = ["--predictions", str(path), "--out", str(out), "--draws=2", "--bootstrap=0"]
    assert command.main([*arguments, "--no-report"]) == 0
    assert len(runs.read(out).table) == 40
    write_predictions(table(41), path)
    with pytest.raises(UserError, match="changed since"):
        runs.read(out)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: (w / "evaluation/validation/scores.json").unlink(), "no scores.json"),
        (lambda w: (w / "evaluation/validation/scores.json").write_text("{"), "cannot be read"),
        (lambda w: (w / "evaluation/validation/scores.json").write_text("{}"), "not written by"),
        (lambda w: (w / "evaluation/validation/predictions.parquet").unlink(), "no such file"),
        (lambda w: (w / "config.json").write_text("not JSON"), "config.json: cannot be read"),
    ],
)
def test_what_is_missing_or_damaged_is_named(tmp_path, change, message):
    workdir = write_run(tmp_path / "run", table(40))
    change(workdir)
    with pytest.raises(UserError, match=message):
        runs.read(workdir)


def test_of_several_evaluations_one_must_be_named(tmp_path):
    workdir = write_run(tmp_path / "run", table(40))
    other = workdir / "evaluation" / "training"
    other.mkdir()
    content = json.loads((workdir / "evaluation/validation/scores.json").read_text())
    (other / "scores.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="several evaluations; name one of .*training.*validation"):
        runs.read(workdir)
