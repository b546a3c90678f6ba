from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import pytest

from affect_jax.metrics import protocol
from affect_jax.report import score_names
from tests.report.conftest import table


def test_every_score_has_a_title_of_its_own():
    names = [*protocol.score(table(60), draws=1).values]
    titles = [score_names.title(name) for name in names]
    assert len(set(titles)) == len(names)
    assert all(score_names.model_of(name) for name in names)


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
def test_titles_in_words(name, title):
    assert score_names.title(name) == title


@hypothesis.given(st.floats(-2, 2))
def test_numbers_are_read_back_to_three_decimals(value):
    for text in (score_names.number(value), score_names.signed(value)):
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=5.001e-4)
        assert "-" not in text
    assert not score_names.number(value).startswith("−0.000")


def test_what_is_undefined_says_so():
    assert score_names.number(math.nan) == score_names.number(None) == "undefined"
    assert (score_names.signed(0.0), score_names.signed(-1e-9), score_names.signed(0.25)) == (
        "0.000",
    ) * 2 + ("+0.250",)


def test_an_end_that_is_not_zero_is_not_shown_as_zero():
    """`−0.004 to 0.000, worse` would contradict itself."""
    assert score_names.signed(-0.0004) == "−0.0004" and score_names.signed(0.0006) == "+0.001"
    assert score_names.signed(-0.00004) == "0.000"


def test_only_errors_are_better_when_smaller():
    smaller = {
        n for n in protocol.score(table(60), draws=1).values if score_names.smaller_is_better(n)
    }
    assert smaller and all({"rmse", "mae", "calibration_error"} & {*n.split(".")} for n in smaller)
