from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions


def faces(count=200, seed=0, skill=0.3) -> Predictions:
    """Labels are the same whatever the skill; one face in nine has no expression, some no axes."""
    random = np.random.default_rng(seed)
    expression = random.permutation(np.arange(count) % 9 - 1)
    axes, units = random.uniform(-1, 1, (count, 2)), random.uniform(0, 1, (count, 2))
    probabilities = random.dirichlet(np.ones(8), count)
    probabilities[np.arange(count), expression] += skill
    noise = random.normal(0, 1 - skill, (2, count, 2))
    axes[4], units[5] = np.nan, np.nan
    return Predictions(
        id=np.array([f"{i}.jpg" for i in range(count)]),
        classes=classes(8),
        expression=expression,
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
        valence_arousal=axes,
        valence_arousal_predicted=np.nan_to_num(axes) + noise[0],
        units=(1, 12),
        action_units=units,
        action_units_predicted=np.clip(np.nan_to_num(units) + noise[1], 0, 1),
    )


def without(table: Predictions, *heads: str) -> Predictions:
    """The table of a model without these heads."""
    fields = {
        "expression": ("probabilities",),
        "valence_arousal": ("valence_arousal_predicted",),
        "action_units": ("action_units_predicted",),
    }
    return dataclasses.replace(table, **{name: None for h in heads for name in fields[h]})


def test_names_are_those_of_the_protocol():
    found = protocol.score(faces(), draws=2).values
    assert found.keys() >= set(protocol.HEADLINES)
    assert found.keys() >= {
        "categorical.top1.original.accuracy",
        "categorical.top2.normalised.f1.contempt",
        "categorical.top1.normalised.precision.macro",
        "categorical.top2.original.recall.fear",
        "categorical.top2.original.auc_pr.macro",
        "categorical.top1.original.calibration_error",
        "dimensional.valence.ccc",
        "dimensional.mean.mae",
        "dimensional.arousal.sagr.anger",
        "action_units.AU12.f1",
        "action_units.mean.best_f1",
    }


def test_faces_without_a_label_do_not_count():
    """Whatever is predicted for them: each model sees its own annotated faces."""
    table = faces()
    changed = dataclasses.replace(
        table,
        probabilities=np.where(table.expression[:, None] < 0, np.eye(8)[0], table.probabilities),
        valence_arousal_predicted=np.where(
            np.isnan(table.valence_arousal), 0.5, table.valence_arousal_predicted
        ),
        action_units_predicted=np.where(
            np.isnan(table.action_units), 0.5, table.action_units_predicted
        ),
    )
    assert protocol.score(changed, draws=2) == protocol.score(table, draws=2)


def test_a_table_without_labels_has_no_scores():
    table = dataclasses.replace(faces(), expression=np.full(200, -1))
    table = without(table, "valence_arousal", "action_units")
    assert protocol.score(table, bootstrap=2) == protocol.Scores()


def test_intervals_are_only_there_when_asked_for():
    assert not protocol.score(faces(), draws=2).intervals
    found = protocol.score(faces(), draws=2, bootstrap=50)
    assert found.intervals.keys() == {
        name
        for name, value in found.values.items()
        if not (np.isnan(value) or name.endswith("best_threshold"))
    }
    assert all(low <= found.values[n] <= high for n, (low, high) in found.intervals.items())
    assert found.values == protocol.score(faces(), draws=2).values


@pytest.mark.parametrize("gone", [(), ("expression",), ("valence_arousal",), ("action_units",)])
def test_multitask_is_the_sum_of_the_heads_that_are_there(gone):
    found = protocol.score(without(faces(), *gone), draws=2, bootstrap=20)
    parts = [found.values[name] for name in protocol.MULTITASK if name in found.values]
    assert found.values["multitask"] == pytest.approx(sum(parts))
    assert found.counts["multitask"] == (3 - len(gone), 3)
    assert "multitask" in found.intervals


def test_one_head_has_no_multitask_score():
    found = protocol.score(
        without(faces(), "valence_arousal", "action_units"), draws=2, bootstrap=2
    )
    assert "multitask" not in found.values and "multitask" not in found.intervals


def test_an_undefined_part_makes_multitask_undefined_with_its_reason():
    table = faces()
    constant = np.full_like(table.valence_arousal, 0.2)
    table = dataclasses.replace(table, valence_arousal=constant, valence_arousal_predicted=constant)
    found = protocol.score(table, draws=2)
    assert np.isnan(found.values["multitask"])
    assert found.reasons["multitask"] == "dimensional.mean.ccc is undefined"


def test_a_model_compared_with_itself_differs_by_nothing():
    found = protocol.compare(faces(), faces(), draws=2, bootstrap=20)
    assert set(found.values.values()) == {0.0}
    assert set(found.intervals.values()) == {(0.0, 0.0)}


def test_a_difference_is_second_minus_first_and_its_interval_is_paired():
    first, second = faces(skill=0.1), faces(skill=0.3)
    found = protocol.compare(first, second, draws=2, bootstrap=200)
    a, b = (protocol.score(one, draws=2, bootstrap=200) for one in (first, second))
    narrower = 0
    for name, value in found.values.items():
        assert value == pytest.approx(b.values[name] - a.values[name], nan_ok=True)
        if name in found.intervals:
            low, high = found.intervals[name]
            assert low <= value <= high
            widths = [one.intervals[name][1] - one.intervals[name][0] for one in (a, b)]
            narrower += high - low < np.hypot(*widths)
    assert narrower > 0.9 * len(found.intervals)
    assert found.intervals["categorical.top1.original.accuracy"][0] > 0


def test_comparison_finds_faces_by_id():
    first, second = faces(skill=0.1), faces(skill=0.3)
    order = np.random.default_rng(0).permutation(200)
    shuffled = dataclasses.replace(
        second,
        **{
            field.name: getattr(second, field.name)[order]
            for field in dataclasses.fields(Predictions)
            if isinstance(getattr(second, field.name), np.ndarray)
        },
    )
    wanted = protocol.compare(first, second, draws=2, bootstrap=5)
    assert protocol.compare(first, shuffled, draws=2, bootstrap=5) == wanted


def test_comparison_is_of_the_heads_that_both_have():
    found = protocol.compare(faces(), without(faces(), "valence_arousal"), draws=2, bootstrap=5)
    assert {name.split(".")[0] for name in found.values} == {"categorical", "action_units"}
    assert "multitask" not in found.values  # of three and of two heads: not comparable


def test_what_is_undefined_for_one_says_for_which():
    first, second = faces(), faces()
    constant = np.full_like(second.valence_arousal_predicted, 0.5)
    second = dataclasses.replace(second, valence_arousal_predicted=constant)
    found = protocol.compare(first, second, draws=2, bootstrap=5)
    assert found.reasons["dimensional.valence.corr"] == (
        "undefined for the second: labels or predictions do not vary"
    )
    assert {n for n, v in found.values.items() if np.isnan(v)} == found.reasons.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": np.array([f"{i}.png" for i in range(200)])}, "'0.jpg' is in the first only"),
        ({"expression": np.zeros(200, int)}, "same labels: expression differs"),
        ({"valence_arousal": np.zeros((200, 2))}, "same labels: valence_arousal differs"),
        ({"units": (1, 2)}, "same labels: units differs"),
        ({"classes": tuple("abcdefgh")}, "same labels: classes differs"),
    ],
)
def test_only_models_of_the_same_faces_and_labels_are_compared(change, message):
    with pytest.raises(UserError, match=message):
        protocol.compare(faces(), dataclasses.replace(faces(), **change))


def test_json_holds_all_and_no_nan(tmp_path):
    table = dataclasses.replace(faces(), action_units=np.full((200, 2), np.nan))
    table = dataclasses.replace(table, expression=np.zeros(200, int))
    found = protocol.score(table, draws=2, bootstrap=5)
    protocol.write(found, tmp_path / "scores.json", {"config": "abc", "checkpoint_step": 7})
    written = json.loads((tmp_path / "scores.json").read_text(), parse_constant=pytest.fail)
    assert written["about"]["config"] == "abc" and written["about"]["checkpoint_step"] == 7
    assert written["about"]["versions"]["affect_jax"]
    assert written["scores"].keys() == found.values.keys()
    assert {n for n, v in written["scores"].items() if v is None} == written["undefined"].keys()
    assert written["intervals"]["dimensional.valence.ccc"] == list(
        found.intervals["dimensional.valence.ccc"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_summary_shows_headlines_classes_and_what_is_undefined():
    found = protocol.score(faces(), draws=2, bootstrap=20)
    text = protocol.summary(found)
    for name, value in protocol.headlines(found).items():
        low, high = found.intervals[name]
        assert f"{value:.3f}" in text and f"{low:.3f} to {high:.3f}" in text
    assert all(one in text for one in classes(8)) and "undefined" not in text
    table = dataclasses.replace(faces(), expression=np.zeros(200, int))
    text = protocol.summary(protocol.score(table, draws=2))
    assert "undefined:" in text and "no face is labelled happiness" in text
