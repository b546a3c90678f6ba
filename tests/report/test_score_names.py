from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import pytest

from affect_jax.metrics import protocol
from affect_jax.report import score_names
from tests.report.conftest import create_predictions


def test_score_titles_are_unique():
    names = [*protocol.score(create_predictions(60), draws=1).values]
    titles = [score_names.format_title(name) for name in names]
    assert len(set(titles)) == len(names)


@pytest.mark.parametrize(
    "name, title",
    [
        ("categorical.top1.original.accuracy", "Accuracy · top-1, Orig"),
        ("categorical.top2.normalised.f1.contempt", "F1, contempt · top-2, Norm"),
        ("dimensional.valence.ccc", "CCC, valence"),
        ("dimensional.mean.rmse", "RMSE, mean of both axes"),
        ("dimensional.arousal.sagr.fear", "SAGR, arousal, fear"),
        ("action_units.AU12.f1", "F1, AU12"),
        ("action_units.mean.auc", "AUC, mean of units"),
        ("multitask", "Multi-task score"),
    ],
)
def test_score_titles(name, title):
    assert score_names.format_title(name) == title


@hypothesis.given(st.floats(-2, 2))
def test_formatted_numbers_parse_to_three_decimals(value):
    for text in (score_names.format_score(value), score_names.format_difference(value)):
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=5.001e-4)
        assert "-" not in text
    assert not score_names.format_score(value).startswith("−0.000")


def test_undefined_scores_are_formatted_as_undefined():
    assert score_names.format_score(math.nan) == score_names.format_score(None) == "undefined"
    assert (
        score_names.format_difference(0.0),
        score_names.format_difference(-1e-9),
        score_names.format_difference(0.25),
    ) == ("0.000",) * 2 + ("+0.250",)
