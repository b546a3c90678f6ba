"""Each protocol against scikit-learn on faces and outputs selected by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from affect_jax.evaluate.scoring import score_groups
from affect_jax.metrics import protocol
from affect_jax.metrics.protocol_matrix import list_rows, score_protocols
from tests.report.conftest import create_predictions

TABLE = create_predictions(400)
LABELS, PROBABILITIES = TABLE.expression, TABLE.probabilities
SEVEN = (LABELS >= 0) & (LABELS < 7)
FLAGS = {id: str(row % 3 > 0) for row, id in enumerate(TABLE.id.tolist())}


def compute(table, *, bootstrap=0, labels=None):
    groups, *_ = score_groups(table, labels or {}, bootstrap=bootstrap)
    scores = protocol.score(table, draws=3, bootstrap=bootstrap)
    return score_protocols([table], scores, groups, bootstrap=bootstrap)


@pytest.fixture(scope="module")
def matrix():
    return compute(TABLE, bootstrap=20, labels={"expression_correct": FLAGS})


@pytest.mark.parametrize(
    "title, faces, outputs, classes",
    [
        ("8 classes", LABELS >= 0, 8, range(8)),
        ("7 classes, output of contempt dropped", SEVEN, 7, range(7)),
        ("7 classes, predicted contempt is an error", SEVEN, 8, range(7)),
        ("8 classes, cleaned labels", (LABELS >= 0) & (np.arange(400) % 3 > 0), 8, range(8)),
    ],
)
def test_scores_are_those_of_scikit_learn(matrix, title, faces, outputs, classes):
    row = matrix[title]
    labels, predicted = LABELS[faces], PROBABILITIES[faces, :outputs].argmax(axis=1)
    expected = f1_score(labels, predicted, labels=list(classes), average="macro")
    assert row["scores"]["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert row["scores"]["macro-F1"] == pytest.approx(expected)
    assert row["faces"] == faces.sum()
    for key, (low, high) in row["intervals"].items():
        assert low <= row["scores"][key] <= high
    assert row["intervals"].keys() == row["scores"].keys()


def test_abaw_is_the_sum_of_its_terms(matrix):
    *terms, total = matrix["ABAW"]["scores"].values()
    assert len(terms) == 3 and total == pytest.approx(sum(terms))


def test_reasons_of_unscored_protocols():
    def reasons(table):
        return {t: row["not_scored"] for t, row in compute(table).items() if "not_scored" in row}

    assert reasons(TABLE) == {
        "8 classes, cleaned labels": "needs the column expression_correct in --groups",
        "7 classes, without contempt": "needs AffectNet’s first 7 classes",
    }
    hard = reasons(dataclasses.replace(TABLE, is_hard=True))
    assert hard["7 classes, output of contempt dropped"] == "needs probabilities"
    seven = dataclasses.replace(
        TABLE,
        classes=TABLE.classes[:7],
        expression=np.where(LABELS < 7, LABELS, -1),
        probabilities=PROBABILITIES[:, :7] / PROBABILITIES[:, :7].sum(axis=1, keepdims=True),
        action_units=None,
    )
    assert "7 classes, without contempt" not in reasons(seven)
    assert {"8 classes", "ABAW", "action units"} <= reasons(seven).keys()
    axes = dataclasses.replace(TABLE, probabilities=None, action_units=None)
    assert reasons(axes).keys() == compute(axes).keys()
    assert all("not scored" in row[1] for row in list_rows(compute(axes)))
