"""`python -m affect_jax.evaluate`: scores of a table of predictions, and refused tables."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from affect_jax.core.labels import classes
from affect_jax.evaluate import __main__ as command
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.report import runs


@pytest.fixture(scope="module")
def table() -> Predictions:
    random = np.random.default_rng(0)
    axes = random.uniform(-1, 1, (60, 2))
    axes[3] = np.nan
    units = random.uniform(0, 1, (60, 2))
    units[5, 0] = np.nan
    return Predictions(
        id=np.array([f"{i}.jpg" for i in range(60)]),
        classes=classes(8),
        expression=np.arange(60) % 9 - 1,
        probabilities=random.dirichlet(np.ones(8), 60),
        valence_arousal=axes,
        valence_arousal_predicted=random.uniform(-1, 1, (60, 2)),
        units=(1, 12),
        action_units=units,
        action_units_predicted=random.uniform(0, 1, (60, 2)),
    )


@pytest.fixture(params=["predictions.parquet", "predictions.csv"])
def path(request, tmp_path, table):
    write_predictions(table, tmp_path / request.param)
    return tmp_path / request.param


def run(*arguments: object) -> int:
    return command.main([str(argument) for argument in (*arguments, "--no-report")])


def test_scores_json_contains_the_computed_scores(path, table, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert run("--predictions", path, "--out", out, "--draws=5", "--bootstrap=20") == 0
    written = json.loads((out / "scores.json").read_text())
    expected = protocol.score(table, draws=5, bootstrap=20)
    assert written["scores"] == pytest.approx(expected.values, abs=1e-12)
    assert written["scores"].keys() >= set(protocol.HEADLINES)
    assert written["intervals"].keys() >= set(protocol.HEADLINES)
    for name, (low, high) in written["intervals"].items():
        assert low <= written["scores"][name] <= high, name
    about = written["about"]
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (about["faces"], about["draws"], about["bootstrap"]) == (60, 5, 20)
    assert about["versions"].keys() >= {"affect_jax", "numpy", "python"}
    output = capsys.readouterr().out
    assert "categorical.top1.original.accuracy" in output and "contempt" in output


def test_undefined_score_is_null_with_a_reason(tmp_path):
    lines = ["id,expression,p_neutral,p_happiness", "a,0,0.9,0.1", "b,0,0.8,0.2"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert run("--predictions", tmp_path / "t.csv", "--out", tmp_path, "--bootstrap=0") == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    name = "categorical.top1.original.recall.happiness"
    assert written["scores"][name] is None
    assert written["undefined"][name] == "no face is labelled so"
    assert written["scores"]["categorical.top1.original.recall.macro"] == 1
    assert written["counts"]["categorical.top1.original.recall.macro"] == [1, 2]
    assert written["intervals"] == {}
    nulls = {name for name, value in written["scores"].items() if value is None}
    assert nulls == written["undefined"].keys()


def test_unscored_columns_are_reported(table, tmp_path, capsys):
    axes = table.valence_arousal.copy()
    axes[:, 1] = np.nan
    partial = dataclasses.replace(table, valence_arousal=axes)
    write_predictions(partial, tmp_path / "t.parquet")
    assert run("--predictions", tmp_path / "t.parquet", "--out", tmp_path, "--bootstrap=0") == 0
    not_scored = json.loads((tmp_path / "scores.json").read_text())["about"]["not_scored"]
    assert not_scored == ["dimensional: no face has the labels"]
    assert f"not scored: {not_scored[0]}" in capsys.readouterr().out
    assert protocol.describe_unscored(table) == []


def test_predicted_classes_are_scored_with_a_note(table, tmp_path, capsys):
    hard = dataclasses.replace(table, is_hard=True, valence_arousal=None, action_units=None)
    write_predictions(hard, tmp_path / "t.csv")
    assert run("--predictions", tmp_path / "t.csv", "--out", tmp_path, "--bootstrap=2") == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    expected = protocol.score(table, draws=1).values
    kinds = {name.split(".")[3] for name in written["scores"]}
    assert kinds == {"accuracy", "kappa", "alpha", "precision", "recall", "f1"}
    assert not any("top2" in name for name in written["scores"])
    name = "categorical.top1.original.f1.macro"
    assert written["scores"][name] == pytest.approx(expected[name])
    note = "hard labels have no AUC, calibration error and top-2 scores"
    assert note in written["about"]["not_scored"] and note in capsys.readouterr().out


def test_wrong_order_of_classes_is_a_warning(table, tmp_path, capsys):
    count = 400
    probabilities = np.full((count, 8), 0.05)
    probabilities[np.arange(count), (np.arange(count) + 1) % 8] = 0.65
    rows = np.resize(np.arange(60), count)
    wrong = dataclasses.replace(
        table.select(rows),
        id=np.arange(count).astype(str),
        expression=np.arange(count) % 8,
        probabilities=probabilities,
    )
    write_predictions(wrong, tmp_path / "t.csv")
    flags = ["--predictions", tmp_path / "t.csv", "--out", tmp_path, "--bootstrap=0", "--draws=1"]
    assert run(*flags) == 0
    warning = json.loads((tmp_path / "scores.json").read_text())["about"]["warning"]
    assert "happiness is neutral" in warning
    assert capsys.readouterr().out.startswith(f"warning: {warning}\n")


def test_only_scores_json_is_written(path, tmp_path):
    """The table itself may be in the folder, with columns of other programs."""
    before = path.read_bytes()
    assert run("--predictions", path, "--out", tmp_path, "--draws=1", "--bootstrap=0") == 0
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "scores.json"])


def test_jax_is_not_loaded(table, tmp_path):
    path = tmp_path / "t.parquet"
    write_predictions(table, path)
    code = (
        "import sys; from affect_jax.evaluate.__main__ import main; code = main(sys.argv[1:]); "
        "loaded = {'jax', 'flax', 'clu', 'tensorflow', 'torch'} & set(sys.modules); "
        "sys.exit(code or f'loaded: {loaded}' if loaded else code)"
    )
    command = [sys.executable, "-c", code, "--predictions", path, "--out", tmp_path]
    process = subprocess.run(
        [*command, "--draws=2", "--bootstrap=2"], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "scores.json").exists()


def error_line(capsys) -> str:
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    return output.err


@pytest.mark.bad_input
def test_bad_file_is_one_line_and_exit_code_2(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text("id,expression,p_neutral,p_happiness\na,0,0.5,0.6\n")
    assert run("--predictions", path, "--out", tmp_path / "out") == 2
    message = f"affect_jax: {path}: row 1: the p_ columns sum to 1.1000, not to 1\n"
    assert error_line(capsys) == message
    assert not (tmp_path / "out").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name, is_refused", [("macro", True), ("a.macro", True), ("macro_", False)]
)
def test_class_with_the_name_of_a_mean_is_refused(tmp_path, capsys, name, is_refused):
    lines = [f"id,expression,p_neutral,p_{name}", "a,0,0.9,0.1", "b,1,0.2,0.8"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    flags = ["--predictions", tmp_path / "t.csv", "--out", tmp_path, "--draws=1", "--bootstrap=0"]
    assert run(*flags) == (2 if is_refused else 0)
    if is_refused:
        assert f"a class named {name!r} hides the mean" in error_line(capsys)
    else:
        scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
        assert scores[f"categorical.top1.original.f1.{name}"] == 1


@pytest.mark.bad_input
def test_file_without_labels_is_refused(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("id,expression,p_neutral,p_happiness\na,,0.5,0.5\n")
    assert run("--predictions", tmp_path / "t.csv", "--out", tmp_path) == 2
    assert "no face has a label" in error_line(capsys)


@pytest.mark.bad_input
@pytest.mark.parametrize("flag", ["--draws=0", "--bootstrap=-1"])
def test_numbers_out_of_range_are_refused(path, tmp_path, capsys, flag):
    assert run("--predictions", path, "--out", tmp_path, flag) == 2
    assert flag.split("=")[0] in error_line(capsys)


def test_path_of_the_table_is_absolute(path, tmp_path, monkeypatch):
    """A report finds the table from any folder."""
    monkeypatch.chdir(path.parent)
    flags = ["--out", "scored", "--draws=1", "--bootstrap=0"]
    assert run("--predictions", path.name, *flags) == 0
    monkeypatch.chdir("/")
    assert len(runs.read_run(tmp_path / "scored").predictions) == 60


def test_unusable_folder_is_refused(path, capsys):
    assert run("--predictions", path, "--out", path / "below", "--draws=1", "--bootstrap=0") == 2
    assert "cannot be written" in error_line(capsys)
    assert run("--predictions", path, "--out", "x" * 5000, "--draws=1", "--bootstrap=0") == 2
    assert "File name too long" in error_line(capsys)
    assert run("--predictions", "x" * 5000, "--out", path.parent) == 2
    assert "File name too long" in error_line(capsys)


def test_a_model_of_one_class_is_a_warning_in_output_and_report(table, tmp_path, capsys):
    probabilities = np.tile(np.eye(8)[1], (60, 1))
    write_predictions(dataclasses.replace(table, probabilities=probabilities), tmp_path / "t.csv")
    flags = [f"--predictions={tmp_path / 't.csv'}", f"--out={tmp_path}", "--draws=1"]
    assert command.main([*flags, "--bootstrap=0"]) == 0
    warning = "every face is predicted as happiness, with accuracy 0.132"
    assert f"warning: {warning}" in capsys.readouterr().out
    assert f"Warning: {warning}" in (tmp_path / "report.html").read_text()
