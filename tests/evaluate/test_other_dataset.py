"""Scores of a run on another dataset: classes matched by name, in a folder of their own."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest

from affect_jax import main
from affect_jax.core.errors import UserError
from affect_jax.core.labels import EXPRESSIONS
from affect_jax.evaluate.checkpoint_evaluation import match_classes
from affect_jax.metrics import predictions
from affect_jax.metrics.predictions import Predictions
from affect_jax.report import comparison, runs
from tests.trained_runs import create_config, write_run

VOTES = np.array([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 4, 0], [np.nan] * 4])
TABLE = Predictions(
    id=np.arange(4).astype(str),
    classes=("Sad", "happy", "boredom", "anger"),  # no face is labelled as anger
    expression=np.array([0, 1, 2, -1]),
    probabilities=np.array([[0.2, 0.3, 0.1, *[0.08] * 5]] * 4),
    distribution=VOTES / VOTES.sum(axis=1, keepdims=True),
    votes=VOTES,
)


def test_classes_are_matched_by_name(tmp_path):
    table, columns, left_out = match_classes(TABLE, EXPRESSIONS[:8])
    assert table.classes == ("happiness", "sadness") and list(columns) == [1, 2]
    assert table.expression is not None and table.expression.tolist() == [1, 0, -1, -1]
    np.testing.assert_allclose(table.probabilities, [[0.75, 0.25]] * 4)
    nan = [np.nan, np.nan]
    np.testing.assert_allclose(table.distribution, [[0.25, 0.75], [1, 0], nan, nan])
    assert left_out["classes_that_the_network_lacks"] == "boredom"
    assert left_out["classes_that_the_data_lack"].startswith("neutral, surprise, fear")
    predictions.write_predictions(table, tmp_path / "t.parquet")
    written = predictions.read_predictions(tmp_path / "t.parquet")
    for field in dataclasses.fields(table):
        expected = getattr(table, field.name)
        np.testing.assert_array_equal(getattr(written, field.name), expected, field.name)


def test_data_without_expressions_are_scored_by_the_other_heads():
    table = dataclasses.replace(TABLE, expression=np.full(4, -1))
    table, columns, left_out = match_classes(table, EXPRESSIONS[:8])
    assert table.expression is None and table.probabilities is None and table.votes is None
    assert not columns and not left_out


def test_without_common_classes_is_an_error():
    with pytest.raises(UserError, match="fewer than two classes are the same"):
        match_classes(TABLE, ("calm", "sadness"))


def write_faces(folder: pathlib.Path, *classes: str) -> None:
    random = np.random.default_rng(0)
    for name in classes:
        (folder / "test" / name).mkdir(parents=True)
        for i in range(6):
            image = random.integers(0, 255, (50, 50, 3), np.uint8)
            cv2.imwrite(str(folder / "test" / name / f"{i}.png"), image)


def test_a_run_is_scored_on_another_dataset(tmp_path, capsys):
    run, faces = tmp_path / "run", tmp_path / "faces"
    config = create_config(data__data_dir=str(tmp_path / "data"), evaluation__draws=2)
    write_run(run, config)
    own = run / "evaluation/validation/scores.json"
    own.parent.mkdir(parents=True)
    own.write_text('{"about": {"data": "synthetic_faces", "split": "validation"}, "scores": {}}')
    before = own.read_bytes()
    write_faces(faces, "Happy", "2_sad", "boredom")
    command = ["--mode=evaluate", f"--workdir={run}", "--checkpoint=last"]
    data = ["--config.data.name=folder_faces", f"--config.data.manual_dir={faces}", "--split=test"]
    data += ["--config.data.options.classes=('sadness', 'happiness', 'boredom')"]
    assert main.main([*command, *data]) == 0
    output = capsys.readouterr().out
    assert "trained on: synthetic_faces" in output
    assert "classes that the network lacks: boredom" in output
    folder = run / "evaluation/folder_faces-test"
    about = json.loads((folder / "scores.json").read_text())["about"]
    assert about["classes"] == ["happiness", "sadness"] and about["data"] == "folder_faces"
    assert about["trained_on"] == "synthetic_faces" and "selection_bias" not in about
    assert (folder / "report.html").is_file() and own.read_bytes() == before
    other = runs.read_run(folder)
    assert (other.predictions.expression >= 0).sum() == 12
    page = comparison.render_html([other])
    assert "trained on" in page and "folder_faces-test" in page
    before = (folder / "scores.json").read_bytes()
    write_faces(tmp_path / "second", "Happy", "sad")
    data[1] = f"--config.data.manual_dir={tmp_path / 'second'}"
    assert main.main([*command, *data]) == 0
    assert len(list(run.glob("evaluation/folder_faces-test-*/scores.json"))) == 1
    assert (folder / "scores.json").read_bytes() == before
    without_mode = [flag for flag in [*command, *data] if flag != "--mode=evaluate"]
    assert main.main(without_mode) == 2
    assert "--config.data.name: without --config" in capsys.readouterr().err
