"""Scores of each group: equal to the scores of its members, in `scores.json`; refused files."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from sklearn.metrics import recall_score

from affect_jax.config import from_dict
from affect_jax.core.errors import UserError
from affect_jax.evaluate import __main__ as command
from affect_jax.evaluate import scoring
from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, read_predictions, write_predictions
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from tests.report.conftest import create_predictions


def write_group_labels(path: pathlib.Path, predictions: Predictions) -> pathlib.Path:
    """Writes the groups gender and age; the gender of every tenth face is unknown."""
    lines = ["id,gender,age"]
    for row, name in enumerate(predictions.id.tolist()):
        gender = "" if row % 10 == 0 else ("woman", "man")[row % 2]
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}",{gender},{"old" if row % 3 else "young"}')
    path.write_text("\n".join([*lines, "elsewhere.jpg,woman,old"]) + "\n")
    return path


def score(predictions: Predictions, folder: pathlib.Path) -> dict:
    """Scores a table and its groups with the command; returns `groups` of `scores.json`."""
    write_predictions(predictions, folder / "t.parquet")
    labels = write_group_labels(folder / "g.csv", predictions)
    flags = [f"--predictions={folder / 't.parquet'}", f"--out={folder}", f"--groups={labels}"]
    assert command.main([*flags, "--draws=1", "--bootstrap=20", "--no-report"]) == 0
    return json.loads((folder / "scores.json").read_text())["groups"]


def test_group_scores_are_those_of_the_members(tmp_path):
    predictions = create_predictions()
    groups = score(predictions, tmp_path)
    assert list(groups) == ["gender", "age"]
    assert list(groups["gender"]) == ["man", "woman"]  # the largest group first
    assert list(groups["age"]) == ["old", "young"]
    for name, rows in (("woman", range(0, 240, 2)), ("man", range(1, 240, 2))):
        rows = np.array([row for row in rows if row % 10])
        group = groups["gender"][name]
        expected = protocol.score(predictions.select(rows), draws=1)
        assert group["faces"] == len(rows)
        assert group["scores"].keys() == set(scoring.GROUP_SCORES)
        for score_name, value in group["scores"].items():
            assert value == pytest.approx(expected.values[score_name], abs=1e-12)
            low, high = group["intervals"][score_name]
            assert low <= value <= high


def test_differences_between_groups(tmp_path, capsys):
    """Recall and prediction rates of scikit-learn and NumPy, for classes with enough faces."""
    predictions = create_predictions(800)
    score(predictions, tmp_path)
    written = json.loads((tmp_path / "scores.json").read_text())["group_differences"]["gender"]
    groups = json.loads((tmp_path / "scores.json").read_text())["groups"]["gender"]
    row_numbers = np.arange(800)
    faces = [(row_numbers % 2 == side) & (row_numbers % 10 > 0) for side in (0, 1)]
    labels, predicted = predictions.expression, predictions.probabilities.argmax(axis=1)
    parity = [abs(np.subtract(*(np.mean(predicted[f] == i) for f in faces))) for i in range(8)]
    assert written["demographic parity difference"] == {
        "value": pytest.approx(max(parity)), "where": predictions.classes[np.argmax(parity)],
    }  # fmt: skip
    recalls = np.array([
        recall_score(labels[f], predicted[f], labels=range(8), average=None, zero_division=0)
        for f in faces
    ])  # fmt: skip
    counts = [np.bincount(labels[f][labels[f] >= 0], minlength=8) for f in faces]
    gaps = np.where(np.min(counts, axis=0) >= scoring.MIN_FACES, np.ptp(recalls, axis=0), 0)
    assert 0 < (gaps > 0).sum() < 8
    assert written["equal opportunity difference"] == {
        "value": pytest.approx(gaps.max()), "where": predictions.classes[gaps.argmax()],
    }  # fmt: skip
    name = "categorical.top1.original.accuracy"
    accuracies = {group: groups[group]["scores"][name] for group in groups}
    assert written[f"{name}, gap to the worst group"] == {
        "value": pytest.approx(np.ptp([*accuracies.values()])),
        "where": min(accuracies, key=accuracies.get),
    }
    assert "demographic parity difference" in capsys.readouterr().out


def test_small_groups_are_a_warning(tmp_path, capsys):
    predictions = create_predictions(40)
    score(predictions, tmp_path)
    warning = "warning: gender woman: only 15 faces with categorical labels, too few to compare"
    assert warning in capsys.readouterr().out
    written = json.loads((tmp_path / "scores.json").read_text())
    assert "group_differences" not in written
    assert written["about"]["warning"].count("too few to compare") == 4


def test_unlabelled_faces_do_not_make_a_group_large_enough(tmp_path):
    """29 women have an expression; three classes have 30 faces among the men."""
    predictions = create_predictions(800)
    women = np.flatnonzero((np.arange(800) % 2 == 0) & (predictions.expression >= 0))
    women = women[women % 10 > 0]
    predictions.expression[women[29:]] = -1
    groups = score(predictions, tmp_path)["gender"]
    assert groups["woman"]["faces"] == 320 and groups["woman"]["labelled"]["categorical"] == 29
    written = json.loads((tmp_path / "scores.json").read_text())
    differences = written["group_differences"]["gender"]
    name = "categorical.top1.original.accuracy"
    assert f"{name}, gap to the worst group" not in differences
    assert "dimensional.valence.ccc, gap to the worst group" in differences
    assert "demographic parity difference" in differences  # needs no labels
    assert "equal opportunity difference" not in differences
    men = predictions.expression[(np.arange(800) % 2 == 1)]
    rare = [name for i, name in enumerate(predictions.classes) if np.sum(men == i) < 30]
    warning = written["about"]["warning"]
    assert "gender woman: only 29 faces with categorical labels, too few to compare" in warning
    assert f"gender man: recall of {', '.join(rare)} not compared, fewer than 30 faces" in warning


def test_groups_are_columns_of_any_table(tmp_path):
    """Those of the predictions, by `id`, and of a dataset's table, by its first column."""
    lines = ["id,valence,valence_predicted,sex", *(f"{i},0,0,{'fm'[i % 2]}" for i in range(6))]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    (tmp_path / "d.csv").write_text("path,label,sex,age\n0,1,f,old\n1,2,,young\n")
    read = scoring.read_group_labels
    ages = {"sex": {"0": "f", "2": "f", "4": "f", "1": "m", "3": "m", "5": "m"}}
    assert read(tmp_path / "p.csv:sex") == ages
    assert read(tmp_path / "d.csv:age") == {"age": {"0": "old", "1": "young"}}
    with pytest.raises(UserError, match="d.csv:age,race: missing or duplicate columns: race"):
        read(tmp_path / "d.csv:age,race")
    with pytest.raises(UserError, match="a.csv:age: no such file"):
        read(tmp_path / "a.csv:age")


def test_groups_of_a_run(trained_run, tmp_path):
    """`--mode=evaluate --groups` writes them beside the scores of the checkpoint."""
    shutil.copytree(trained_run.folder / "run", tmp_path / "run")
    table = read_predictions(tmp_path / "run/evaluation/validation/predictions.parquet")
    lines = [
        "id,side",
        *(f"{id},{'odd' if row % 2 else 'even'}" for row, id in enumerate(table.id)),
    ]
    (tmp_path / "g.csv").write_text("\n".join(lines))
    load_registries()
    workdir = Workdir(tmp_path / "run")
    config = from_dict(workdir.load_config())
    evaluate_checkpoint(config, workdir, checkpoint="last", split=None, groups=tmp_path / "g.csv")
    written = json.loads((tmp_path / "run/evaluation/validation/scores.json").read_text())
    assert written["about"]["checkpoint_step"] == 14
    assert {name: group["faces"] for name, group in written["groups"]["side"].items()} == {
        "even": 12,
        "odd": 12,
    }


def test_group_without_labels_has_undefined_scores(tmp_path):
    predictions = create_predictions()
    expression = np.where(np.arange(240) % 2, predictions.expression, -1)
    groups = score(dataclasses.replace(predictions, expression=expression), tmp_path)
    woman = groups["gender"]["woman"]
    assert woman["scores"]["categorical.top1.original.accuracy"] is None
    assert "categorical.top1.original.accuracy" not in woman["intervals"]
    assert woman["scores"]["dimensional.valence.ccc"] is not None


def test_unknown_ids_are_refused(tmp_path, capsys):
    write_predictions(create_predictions(), tmp_path / "t.parquet")
    (tmp_path / "g.csv").write_text("id,gender\nx,man\ny,woman\n")
    flags = [f"--predictions={tmp_path / 't.parquet'}", f"--out={tmp_path / 'out'}"]
    flags += ["--draws=1", "--bootstrap=0", f"--groups={tmp_path / 'g.csv'}"]
    assert command.main(flags) == 2
    assert "--groups: no id of column " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "content, message",
    [
        ("", "cannot be read"),
        ("id\na\n", "needs a column of group labels"),
        ("id,gender\n", "no rows"),
        ("name,gender\na,man\n", "missing or duplicate columns: id"),
        ("id,gender\na,man\na,woman\n", "'a' is empty or duplicate"),
        ("id,gender\na,man\nb,\n", "column 'gender' has 1 different values"),
        ("id,n\n" + "".join(f"{i},{i}\n" for i in range(60)), "column 'n' has 60 different"),
        ('id,gender\n"a,man\n', "cannot be read"),
    ],
)
def test_invalid_group_labels_give_one_line(content, message, tmp_path):
    (tmp_path / "g.csv").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        scoring.read_group_labels(tmp_path / "g.csv")
    assert "\n" not in str(error.value) and str(error.value).startswith("--groups=")
    with pytest.raises(UserError, match="no such file"):
        scoring.read_group_labels(tmp_path / "absent.csv")
