from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.metrics import protocol, system_scores
from affect_jax.metrics.predictions import Predictions


def create_predictions(count=200, seed=0, skill=0.3) -> Predictions:
    """Labels do not depend on `skill`; one face in nine has no expression, some have no axes."""
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


def remove_heads(table: Predictions, *heads: str) -> Predictions:
    """Returns the table of a model without these heads."""
    fields = {
        "expression": ("probabilities",),
        "valence_arousal": ("valence_arousal_predicted",),
        "action_units": ("action_units_predicted",),
    }
    return dataclasses.replace(table, **{name: None for h in heads for name in fields[h]})


def test_score_names_follow_the_protocol():
    scores = protocol.score(create_predictions(), draws=2).values
    assert scores.keys() >= set(protocol.HEADLINES)
    assert scores.keys() >= {
        "categorical.top1.original.accuracy",
        "categorical.top2.normalised.f1.contempt",
        "categorical.top1.normalised.precision.macro",
        "categorical.top2.original.recall.fear",
        "categorical.top1.original.auc_pr.macro",
        "categorical.top1.original.calibration_error",
        "dimensional.valence.ccc",
        "dimensional.mean.mae",
        "dimensional.arousal.sagr.anger",
        "action_units.AU12.f1",
        "action_units.mean.best_f1",
    }


def test_areas_do_not_depend_on_the_rule_and_are_listed_once():
    names = protocol.score(create_predictions(), draws=2).values
    assert not [name for name in names if name.startswith("categorical.top2") and ".auc" in name]


def test_unlabelled_faces_are_ignored():
    """Their predictions have no influence: each model is scored on its annotated faces."""
    table = create_predictions()
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize(
    ("field", "model"),
    [
        ("probabilities", "categorical"),
        ("valence_arousal_predicted", "dimensional"),
        ("action_units_predicted", "action_units"),
    ],
)
def test_invalid_predictions_are_refused(field, model, value):
    table = create_predictions()
    getattr(table, field)[16, 1] = value
    with pytest.raises(UserError, match=f"1 of .* predictions of the {model} model are not"):
        protocol.score(table)


def test_table_without_labels_has_no_scores():
    table = dataclasses.replace(create_predictions(), expression=np.full(200, -1))
    table = remove_heads(table, "valence_arousal", "action_units")
    assert protocol.score(table, bootstrap=2) == protocol.Scores()


def test_intervals_are_optional():
    assert not protocol.score(create_predictions(), draws=2).intervals
    scores = protocol.score(create_predictions(), draws=2, bootstrap=50)
    assert scores.intervals.keys() == {
        name
        for name, value in scores.values.items()
        if not (np.isnan(value) or name.endswith("best_threshold"))
    }
    assert all(low <= scores.values[n] <= high for n, (low, high) in scores.intervals.items())
    assert scores.values == protocol.score(create_predictions(), draws=2).values


@pytest.mark.parametrize(
    "missing_heads", [(), ("expression",), ("valence_arousal",), ("action_units",)]
)
def test_multitask_is_the_sum_over_available_heads(missing_heads):
    scores = protocol.score(
        remove_heads(create_predictions(), *missing_heads), draws=2, bootstrap=20
    )
    parts = [scores.values[name] for name in protocol.MULTITASK_PARTS if name in scores.values]
    assert scores.values["multitask"] == pytest.approx(sum(parts))
    assert scores.counts["multitask"] == (3 - len(missing_heads), 3)
    assert "multitask" in scores.intervals


def test_single_head_has_no_multitask_score():
    scores = protocol.score(
        remove_heads(create_predictions(), "valence_arousal", "action_units"), draws=2, bootstrap=2
    )
    assert "multitask" not in scores.values and "multitask" not in scores.intervals


def test_multitask_is_undefined_if_a_term_is():
    table = create_predictions()
    constant = np.full_like(table.valence_arousal, 0.2)
    table = dataclasses.replace(table, valence_arousal=constant, valence_arousal_predicted=constant)
    scores = protocol.score(table, draws=2)
    assert np.isnan(scores.values["multitask"])
    assert scores.reasons["multitask"] == "one of its terms is undefined"


def test_a_constant_prediction_is_described():
    table = create_predictions()
    assert protocol.describe_constant_prediction(table) == ""
    assert protocol.describe_constant_prediction(remove_heads(table, "expression")) == ""
    probabilities = np.tile(np.eye(len(table.classes))[3], (len(table), 1))
    constant = dataclasses.replace(table, probabilities=probabilities)
    text = protocol.describe_constant_prediction(constant)
    labels = table.expression[table.expression >= 0]
    accuracy, most_frequent = np.mean(labels == 3), np.bincount(labels).max() / len(labels)
    assert f"every face is predicted as surprise, with accuracy {accuracy:.3f}" in text
    assert f"has {most_frequent:.3f}, chance 0.125" in text


def test_comparison_of_a_model_with_itself_is_zero():
    scores = system_scores.compare(
        [create_predictions()], [create_predictions()], draws=2, bootstrap=20
    )
    assert set(scores.values.values()) == {0.0}
    assert set(scores.intervals.values()) == {(0.0, 0.0)}


def test_difference_is_second_minus_first_with_paired_interval():
    first, second = create_predictions(skill=0.1), create_predictions(skill=0.3)
    change = system_scores.compare([first], [second], draws=2, bootstrap=200)
    first_scores, second_scores = (
        protocol.score(scores, draws=2, bootstrap=200) for scores in (first, second)
    )
    narrower = 0
    for name, value in change.values.items():
        assert value == pytest.approx(
            second_scores.values[name] - first_scores.values[name], nan_ok=True
        )
        if name in change.intervals:
            low, high = change.intervals[name]
            assert low <= value <= high
            widths = [
                scores.intervals[name][1] - scores.intervals[name][0]
                for scores in (first_scores, second_scores)
            ]
            narrower += high - low < np.hypot(*widths)
    assert narrower > 0.9 * len(change.intervals)
    assert change.intervals["categorical.top1.original.accuracy"][0] > 0


def test_comparison_matches_faces_by_id():
    first, second = create_predictions(skill=0.1), create_predictions(skill=0.3)
    order = np.random.default_rng(0).permutation(200)
    shuffled = dataclasses.replace(
        second,
        **{
            field.name: getattr(second, field.name)[order]
            for field in dataclasses.fields(Predictions)
            if isinstance(getattr(second, field.name), np.ndarray)
        },
    )
    expected = system_scores.compare([first], [second], draws=2, bootstrap=5)
    assert system_scores.compare([first], [shuffled], draws=2, bootstrap=5) == expected


def test_comparison_covers_common_heads_only():
    first, second = create_predictions(), remove_heads(create_predictions(), "valence_arousal")
    scores = system_scores.compare([first], [second], draws=2, bootstrap=5)
    assert {name.split(".")[0] for name in scores.values} == {"categorical", "action_units"}
    assert "multitask" not in scores.values  # sums over different heads


def test_comparison_of_tables_with_and_without_a_sum():
    """Only the first has the multi-task score."""
    two_heads = remove_heads(create_predictions(), "action_units")
    one_head = remove_heads(two_heads, "valence_arousal")
    for pair in ((two_heads, one_head), (one_head, two_heads)):
        scores = system_scores.compare(*([table] for table in pair), draws=2, bootstrap=0)
        assert {name.split(".")[0] for name in scores.values} == {"categorical"}


def test_undefined_difference_has_a_reason():
    first, second = create_predictions(), create_predictions()
    constant = np.full_like(second.valence_arousal_predicted, 0.5)
    second = dataclasses.replace(second, valence_arousal_predicted=constant)
    scores = system_scores.compare([first], [second], draws=2, bootstrap=5)
    assert scores.reasons["dimensional.valence.corr"] == "labels or predictions do not vary"
    assert {n for n, v in scores.values.items() if np.isnan(v)} == scores.reasons.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"id": np.array([f"{i}.png" for i in range(200)])},
            "same faces, but the ids of the 200 and 200 faces differ",
        ),
        ({"expression": np.zeros(200, int)}, "same labels, but expression differs"),
        ({"valence_arousal": np.zeros((200, 2))}, "same labels, but valence_arousal differs"),
        ({"units": (1, 2)}, "same labels, but units differs"),
        ({"classes": tuple("abcdefgh")}, "same labels, but classes differs"),
    ],
)
def test_comparison_requires_same_faces_and_labels(change, message):
    with pytest.raises(UserError, match=message):
        system_scores.compare(
            [create_predictions()], [dataclasses.replace(create_predictions(), **change)]
        )


def test_json_is_complete_without_nan(tmp_path):
    table = dataclasses.replace(create_predictions(), action_units=np.full((200, 2), np.nan))
    table = dataclasses.replace(table, expression=np.zeros(200, int))
    scores = protocol.score(table, draws=2, bootstrap=5)
    protocol.write_scores(scores, tmp_path / "scores.json", {"config": "abc", "checkpoint_step": 7})
    written = json.loads((tmp_path / "scores.json").read_text(), parse_constant=pytest.fail)
    assert written["about"]["config"] == "abc" and written["about"]["checkpoint_step"] == 7
    assert written["about"]["versions"]["affect_jax"]
    assert written["scores"].keys() == scores.values.keys()
    assert {n for n, v in written["scores"].items() if v is None} == written["undefined"].keys()
    assert written["intervals"]["dimensional.valence.ccc"] == list(
        scores.intervals["dimensional.valence.ccc"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert "groups" not in written


def test_summary_has_headlines_classes_and_undefined_scores():
    scores = protocol.score(create_predictions(), draws=2, bootstrap=20)
    text = protocol.format_summary(scores)
    for name, value in protocol.select_headlines(scores).items():
        low, high = scores.intervals[name]
        assert f"{value:.3f}" in text and f"{low:.3f} to {high:.3f}" in text
    assert all(name in text for name in classes(8)) and "undefined" not in text
    table = dataclasses.replace(create_predictions(), expression=np.zeros(200, int))
    text = protocol.format_summary(protocol.score(table, draws=2))
    assert "undefined:" in text and "is labelled so" in text
    assert "95 % interval" not in text  # no empty column


def test_permutation_tests_agree_with_scipy():
    """`scipy.stats.permutation_test` exchanges the predictions of faces, too."""
    first, second = create_predictions(60, skill=0.3), create_predictions(60, 0, skill=0.34)
    second = dataclasses.replace(second, probabilities=np.roll(second.probabilities, 1, axis=0))
    mixed = np.where(np.arange(60)[:, None] % 12, first.probabilities, second.probabilities)
    second = dataclasses.replace(second, probabilities=mixed)
    changes = system_scores.compare([first], [second], draws=1, bootstrap=2000)
    rows = first.expression >= 0
    labels = first.expression[rows]

    def f1_difference(a, b):
        scores = [sklearn.metrics.f1_score(labels, x.astype(int), average="macro") for x in (b, a)]
        return scores[0] - scores[1]

    predicted = [t.probabilities[rows].argmax(axis=1) for t in (first, second)]
    test = scipy.stats.permutation_test(
        predicted, f1_difference, permutation_type="samples", n_resamples=500, rng=0
    )
    raw = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_scores.resampling, "correct_holm", lambda p: raw.update(p) or p)
        system_scores.compare([first], [second], draws=1, bootstrap=2000)
    name = "categorical.top1.original.f1.macro"
    assert raw[name] == pytest.approx(test.pvalue, abs=0.05) and 0.005 < raw[name] < 0.9
    axis = "dimensional.valence.ccc"
    rows = np.isfinite(first.valence_arousal).all(axis=1)
    truth = first.valence_arousal[rows, 0]

    def ccc_difference(a, b):
        values = []
        for x in (b, a):
            covariance = np.cov(truth, x, ddof=0)
            square = (truth.mean() - x.mean()) ** 2
            values.append(2 * covariance[0, 1] / (np.trace(covariance) + square))
        return values[0] - values[1]

    predicted = [t.valence_arousal_predicted[rows, 0] for t in (first, second)]
    test = scipy.stats.permutation_test(
        predicted, ccc_difference, permutation_type="samples", n_resamples=500, rng=0
    )
    assert raw[axis] == pytest.approx(test.pvalue, abs=0.05)
    assert changes.p_values[name] >= raw[name]


def test_p_values_of_equal_models_are_one():
    table = create_predictions(60)
    assert set(
        system_scores.compare([table], [table], draws=1, bootstrap=10).p_values.values()
    ) == {1.0}
