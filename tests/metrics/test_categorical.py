from __future__ import annotations

import tracemalloc
import warnings

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from affect_jax.core.labels import classes
from affect_jax.metrics import categorical, resampling
from affect_jax.metrics.categorical import create_bootstrap_scorer, create_scorer, score_categorical

CLASSES = classes(8)


def random_faces(count=300, frequencies=(30, 30, 10, 10, 5, 5, 5, 5), seed=0):
    """Random labels and probabilities that are correlated with them."""
    random = np.random.default_rng(seed)
    labels = random.choice(8, count, p=np.array(frequencies) / np.sum(frequencies))
    probabilities = random.dirichlet(np.ones(8), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def remove_predictions_of(labels, probabilities, absent):
    probabilities = probabilities.copy()
    probabilities[:, absent] = 0
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def edge_cases():
    """Edge cases by name."""
    labels, probabilities = random_faces()
    no_contempt = labels != 7
    rounded = np.round(probabilities, 1) + 1e-3
    one_hot = np.eye(8)[probabilities.argmax(axis=1)]
    return {
        "random": (labels, probabilities),
        "ties": (labels, rounded / rounded.sum(axis=1, keepdims=True)),
        "one-hot": (labels, one_hot),
        "absent from labels": (labels[no_contempt], probabilities[no_contempt]),
        "absent from predictions": remove_predictions_of(labels, probabilities, 7),
        "absent from both": remove_predictions_of(
            labels[no_contempt], probabilities[no_contempt], 7
        ),
        "perfect": (labels, np.eye(8)[labels]),
        "always wrong": (labels, np.eye(8)[(labels + 1) % 8]),
        "uniform": (labels, np.full_like(probabilities, 1 / 8)),
        "constant": (labels, np.tile(probabilities[:1], (len(labels), 1))),
        "one label": (np.full_like(labels, 3), probabilities),
        "one label, one prediction": (np.full_like(labels, 3), np.eye(8)[[3] * len(labels)]),
        "one face, right": (labels[:1], np.eye(8)[labels[:1]]),
        "one face, wrong": (labels[:1], np.eye(8)[labels[:1] - 1]),
        "two faces": (np.array([0, 5]), probabilities[:2]),
        # Half of the draws contain the only face that is predicted as contempt.
        "seldom predicted": (np.repeat([0, 1], [8, 4]), np.eye(8)[[7, *[0] * 7, *[1] * 4]]),
    }


def reference(labels, predicted, probabilities, weights=None):
    """Scores by scikit-learn and the krippendorff package; NaN if they are undefined."""
    ids, scores = range(8), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores["accuracy"] = sklearn_metrics.accuracy_score(
            labels, predicted, sample_weight=weights
        )
        kappa = sklearn_metrics.cohen_kappa_score(
            labels, predicted, labels=ids, sample_weight=weights
        )
        scores["kappa"] = kappa
        by_class = sklearn_metrics.precision_recall_fscore_support(
            labels, predicted, labels=ids, sample_weight=weights, zero_division=np.nan
        )
        for name, values in zip(("precision", "recall", "f1"), by_class, strict=False):
            scores |= {f"{name}.{c}": value for c, value in zip(CLASSES, values, strict=True)}
            scores[f"{name}.macro"] = np.nanmean(values)
        areas, precisions = [], []
        for i in ids:
            binary = (labels == i, probabilities[:, i])
            areas.append(sklearn_metrics.roc_auc_score(*binary, sample_weight=weights))
            average = sklearn_metrics.average_precision_score(*binary, sample_weight=weights)
            precisions.append(average if (labels == i).any() else np.nan)
        for name, values in (("auc", areas), ("auc_pr", precisions)):
            scores |= {f"{name}.{c}": value for c, value in zip(CLASSES, values, strict=True)}
            scores[f"{name}.macro"] = np.nanmean(values)
    scores["alpha"] = alpha(labels, predicted, weights)
    return scores


def alpha(labels, predicted, weights=None):
    if weights is not None:
        labels, predicted = np.repeat(labels, weights), np.repeat(predicted, weights)
    if len(np.unique([labels, predicted])) == 1:  # the package raises an error
        return np.nan
    return krippendorff.alpha([labels, predicted], level_of_measurement="nominal")


def reference_top2(labels, probabilities):
    predicted = []
    for label, row in zip(labels, probabilities, strict=True):
        first, second = sorted(range(8), key=lambda i: (-row[i], i))[:2]
        predicted.append(label if label in (first, second) else first)
    return np.array(predicted)


@pytest.mark.parametrize("name", edge_cases())
def test_original_scores_equal_scikit_learn_and_krippendorff(name):
    labels, probabilities = edge_cases()[name]
    scores = score_categorical(labels, probabilities, CLASSES, draws=2)
    rules = {
        "top1": probabilities.argmax(axis=1),
        "top2": reference_top2(labels, probabilities),
    }
    for rule, predicted in rules.items():
        expected = reference(labels, predicted, probabilities)
        for kind, value in expected.items():
            if rule == "top2" and kind.startswith("auc"):
                continue
            full = f"{rule}.original.{kind}"
            assert scores.values[full] == pytest.approx(value, abs=1e-9, nan_ok=True), full


@pytest.mark.parametrize("name", edge_cases())
def test_undefined_scores_have_reasons_and_means_have_counts(name):
    labels, probabilities = edge_cases()[name]
    scores = score_categorical(labels, probabilities, CLASSES, draws=3)
    undefined = {name for name, value in scores.values.items() if np.isnan(value)}
    assert undefined == scores.reasons.keys()
    for rule in ("top1", "top2"):
        for kind in ("precision", "recall", "f1", *(("auc", "auc_pr") if rule == "top1" else ())):
            values = [scores.values[f"{rule}.original.{kind}.{c}"] for c in CLASSES]
            defined = int(np.sum(~np.isnan(values)))
            assert scores.counts[f"{rule}.original.{kind}.macro"] == (defined, 8)


def test_reasons_belong_to_the_kind_of_score():
    labels, probabilities = edge_cases()["absent from both"]
    reasons = score_categorical(labels, probabilities, CLASSES, draws=2).reasons
    assert reasons["top1.original.recall.contempt"] == "no face is labelled so"
    assert reasons["top2.normalised.precision.contempt"] == "no face is predicted so"
    labels, probabilities = edge_cases()["one label, one prediction"]
    reasons = score_categorical(labels, probabilities, CLASSES, draws=2).reasons
    assert reasons["top1.original.kappa"] == "all labels and predictions are the same class"
    assert reasons["top1.original.auc.macro"] == "needs faces that are labelled so and others"


@pytest.mark.parametrize(
    "name", ["random", "ties", "absent from predictions", "two faces", "seldom predicted"]
)
def test_normalised_scores_equal_scikit_learn_over_draws(name):
    labels, probabilities = edge_cases()[name]
    draws = 4
    scores = score_categorical(labels, probabilities, CLASSES, draws=draws, seed=5)
    masks = resampling.subsample_classes(labels, range(draws), 5).astype(bool)
    rules = {"top1": probabilities.argmax(axis=1), "top2": reference_top2(labels, probabilities)}
    for rule, predicted in rules.items():
        each = [reference(labels[row], predicted[row], probabilities[row]) for row in masks]
        for kind in each[0]:
            if rule == "top2" and kind.startswith("auc"):
                continue
            values = np.array([class_name[kind] for class_name in each])
            if kind.endswith("macro"):
                score = kind.removesuffix("macro")
                defined = [
                    sum(not np.isnan(class_name[score + c]) for c in CLASSES) for class_name in each
                ]
                assert scores.counts[f"{rule}.normalised.{kind}"] == (min(defined), 8)
            values = values[~np.isnan(values)]
            full = f"{rule}.normalised.{kind}"
            if len(values):
                assert scores.values[full] == pytest.approx(values.mean(), abs=1e-9), full
                assert scores.deviations[full] == pytest.approx(values.std(), abs=1e-9), full
                if 0 < len(values) < draws and not kind.endswith("macro"):
                    assert scores.counts[full] == (len(values), draws)
            else:
                assert np.isnan(scores.values[full]) and full in scores.reasons


def test_normalised_recall_converges_to_original_recall():
    """Subsampling a class does not change its expected recall; accuracy becomes the mean recall."""
    labels, probabilities = random_faces(2000)
    scores = score_categorical(labels, probabilities, CLASSES, draws=200).values
    for class_name in (*CLASSES, "macro"):
        assert scores[f"top1.normalised.recall.{class_name}"] == pytest.approx(
            scores[f"top1.original.recall.{class_name}"], abs=0.01
        )
    assert scores["top1.normalised.accuracy"] == pytest.approx(
        scores["top1.normalised.recall.macro"], abs=1e-12
    )


def test_normalisation_of_balanced_classes_changes_nothing():
    labels, probabilities = random_faces()
    labels = np.arange(len(labels) // 8 * 8) % 8
    scores = score_categorical(labels, probabilities[: len(labels)], CLASSES, draws=3)
    for name, value in scores.values.items():
        rule, skewness, kind = name.split(".", 2)
        if skewness == "normalised":
            assert value == pytest.approx(scores.values[f"{rule}.original.{kind}"], abs=1e-12)
            assert scores.deviations[name] == pytest.approx(0, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_integer_weights_equal_repeated_faces(seed, repeats):
    """Draws and bootstrap samples rely on this property."""
    labels, probabilities = random_faces(20, seed=seed)
    repeats = np.array(repeats)
    if not repeats.any():
        repeats[0] = 1
    weighted = create_scorer(labels, probabilities, CLASSES)(repeats[None].astype(float))
    repeated_faces = np.repeat(labels, repeats), np.repeat(probabilities, repeats, axis=0)
    repeated = create_scorer(*repeated_faces, CLASSES)(np.ones((1, repeats.sum())))
    for name, value in repeated.items():
        np.testing.assert_allclose(weighted[name], value, atol=1e-12, err_msg=name)


def test_weights_equal_sample_weights_of_scikit_learn():
    labels, probabilities = random_faces(100)
    weights = np.random.default_rng(1).uniform(0, 2, 100)
    scores = create_scorer(labels, probabilities, CLASSES)(weights[None])
    predicted = probabilities.argmax(axis=1)
    expected = reference(labels, predicted, probabilities)  # for alpha, which takes none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = sklearn_metrics.f1_score(labels, predicted, average=None, sample_weight=weights)
        areas = [
            sklearn_metrics.roc_auc_score(labels == i, probabilities[:, i], sample_weight=weights)
            for i in range(8)
        ]
    assert expected.keys() <= {name.removeprefix("top1.") for name in scores}
    for i, class_name in enumerate(CLASSES):
        assert scores[f"top1.f1.{class_name}"][0] == pytest.approx(f1[i], abs=1e-12)
        assert scores[f"top1.auc.{class_name}"][0] == pytest.approx(areas[i], abs=1e-12)


def test_bootstrap_scorer_has_the_same_score_names():
    labels, probabilities = random_faces(50)
    names = score_categorical(labels, probabilities, CLASSES, draws=1).values.keys()
    assert create_bootstrap_scorer(labels, probabilities, CLASSES)(np.ones((2, 50))).keys() == names


def test_draws_do_not_depend_on_chunk_size(monkeypatch):
    labels, probabilities = random_faces(100)
    expected = score_categorical(labels, probabilities, CLASSES, draws=7)
    monkeypatch.setattr(resampling, "CHUNK_SIZE", 250)  # two draws at a time
    assert score_categorical(labels, probabilities, CLASSES, draws=7).values == expected.values


def test_memory_does_not_grow_with_the_number_of_draws():
    labels, probabilities = random_faces(8000)

    def peak(draws: int) -> int:
        tracemalloc.start()
        score_categorical(labels, probabilities, CLASSES, draws=draws)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    num_draws = 2 * resampling.CHUNK_SIZE // len(labels)  # two whole chunks
    assert peak(4 * num_draws) < 1.1 * peak(num_draws)


def test_confusion_matrix_equals_scikit_learn():
    labels, probabilities = random_faces()
    predicted = categorical.predict_top1(probabilities)
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(8))
    np.testing.assert_array_equal(categorical.confusion_matrix(labels, predicted, 8), expected)


def test_ties_go_to_lower_class_ids():
    uniform = np.full((8, 8), 1 / 8)
    assert categorical.predict_top1(uniform).tolist() == [0] * 8
    assert categorical.predict_top2(uniform, np.arange(8)).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("labels", [(0, 8), (-1, 0), (0, np.nan), (0, 0.5)])
def test_labels_that_are_not_class_ids_raise(labels):
    with pytest.raises((ValueError, TypeError)):
        score_categorical(np.array(labels), np.full((2, 8), 1 / 8), CLASSES, draws=1)
