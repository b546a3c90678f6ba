from __future__ import annotations

import tracemalloc
import warnings

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.metrics import base, confusion, skew_normalization
from affect_jax.metrics.categorical import categorical, resampled, scorer

CLASSES = classes(8)


def random_faces(count=300, frequencies=(30, 30, 10, 10, 5, 5, 5, 5), seed=0):
    """Labels and probabilities that know something of them."""
    random = np.random.default_rng(seed)
    labels = random.choice(8, count, p=np.array(frequencies) / np.sum(frequencies))
    probabilities = random.dirichlet(np.ones(8), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def never_predicted(labels, probabilities, absent):
    probabilities = probabilities.copy()
    probabilities[:, absent] = 0
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def awkward():
    """Inputs by name."""
    labels, probabilities = random_faces()
    no_contempt = labels != 7
    rounded = np.round(probabilities, 1) + 1e-3
    one_hot = np.eye(8)[probabilities.argmax(axis=1)]
    return {
        "random": (labels, probabilities),
        "ties": (labels, rounded / rounded.sum(axis=1, keepdims=True)),
        "one-hot": (labels, one_hot),
        "absent from labels": (labels[no_contempt], probabilities[no_contempt]),
        "absent from predictions": never_predicted(labels, probabilities, 7),
        "absent from both": never_predicted(labels[no_contempt], probabilities[no_contempt], 7),
        "perfect": (labels, np.eye(8)[labels]),
        "always wrong": (labels, np.eye(8)[(labels + 1) % 8]),
        "uniform": (labels, np.full_like(probabilities, 1 / 8)),
        "constant": (labels, np.tile(probabilities[:1], (len(labels), 1))),
        "one label": (np.full_like(labels, 3), probabilities),
        "one label, one prediction": (np.full_like(labels, 3), np.eye(8)[[3] * len(labels)]),
        "one face, right": (labels[:1], np.eye(8)[labels[:1]]),
        "one face, wrong": (labels[:1], np.eye(8)[labels[:1] - 1]),
        "two faces": (np.array([0, 5]), probabilities[:2]),
        # Half of the draws have the one face that is predicted as contempt.
        "seldom predicted": (np.repeat([0, 1], [8, 4]), np.eye(8)[[7, *[0] * 7, *[1] * 4]]),
    }


def reference(labels, predicted, probabilities, weights=None):
    """The scores by scikit-learn and the krippendorff package; NaN where they say undefined."""
    ids, found = range(8), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found["accuracy"] = peer.accuracy_score(labels, predicted, sample_weight=weights)
        kappa = peer.cohen_kappa_score(labels, predicted, labels=ids, sample_weight=weights)
        found["kappa"] = kappa
        by_class = peer.precision_recall_fscore_support(
            labels, predicted, labels=ids, sample_weight=weights, zero_division=np.nan
        )
        for name, values in zip(("precision", "recall", "f1"), by_class, strict=False):
            found |= {f"{name}.{c}": value for c, value in zip(CLASSES, values, strict=True)}
            found[f"{name}.macro"] = np.nanmean(values)
        areas, precisions = [], []
        for i in ids:
            given = (labels == i, probabilities[:, i])
            areas.append(peer.roc_auc_score(*given, sample_weight=weights))
            average = peer.average_precision_score(*given, sample_weight=weights)
            precisions.append(average if (labels == i).any() else np.nan)
        for name, values in (("auc", areas), ("auc_pr", precisions)):
            found |= {f"{name}.{c}": value for c, value in zip(CLASSES, values, strict=True)}
            found[f"{name}.macro"] = np.nanmean(values)
    found["alpha"] = alpha(labels, predicted, weights)
    return found


def alpha(labels, predicted, weights=None):
    if weights is not None:
        labels, predicted = np.repeat(labels, weights), np.repeat(predicted, weights)
    if len(np.unique([labels, predicted])) == 1:  # the package raises
        return np.nan
    return krippendorff.alpha([labels, predicted], level_of_measurement="nominal")


def top2_by_hand(labels, probabilities):
    predicted = []
    for label, row in zip(labels, probabilities, strict=True):
        first, second = sorted(range(8), key=lambda i: (-row[i], i))[:2]
        predicted.append(label if label in (first, second) else first)
    return np.array(predicted)


@pytest.mark.parametrize("name", awkward())
def test_original_scores_equal_scikit_learn_and_krippendorff(name):
    labels, probabilities = awkward()[name]
    found = categorical(labels, probabilities, CLASSES, draws=2)
    rules = {
        "top1": probabilities.argmax(axis=1),
        "top2": top2_by_hand(labels, probabilities),
    }
    for rule, predicted in rules.items():
        wanted = reference(labels, predicted, probabilities)
        for kind, value in wanted.items():
            full = f"{rule}.original.{kind}"
            assert found.values[full] == pytest.approx(value, abs=1e-9, nan_ok=True), full


@pytest.mark.parametrize("name", awkward())
def test_what_is_undefined_has_a_reason_and_a_mean_its_count(name):
    labels, probabilities = awkward()[name]
    found = categorical(labels, probabilities, CLASSES, draws=3)
    undefined = {name for name, value in found.values.items() if np.isnan(value)}
    assert undefined == found.reasons.keys()
    for rule in ("top1", "top2"):
        for kind in ("precision", "recall", "f1", "auc", "auc_pr"):
            each = [found.values[f"{rule}.original.{kind}.{c}"] for c in CLASSES]
            defined = int(np.sum(~np.isnan(each)))
            assert found.counts[f"{rule}.original.{kind}.macro"] == (defined, 8)


def test_reasons_say_what_is_missing():
    labels, probabilities = awkward()["absent from both"]
    reasons = categorical(labels, probabilities, CLASSES, draws=2).reasons
    assert reasons["top1.original.recall.contempt"] == "no face is labelled contempt"
    assert reasons["top2.normalised.precision.contempt"] == "no face is predicted as contempt"
    assert "labelled or predicted as contempt" in reasons["top1.original.f1.contempt"]
    assert reasons["top1.normalised.auc.contempt"].startswith("needs faces labelled contempt")
    labels, probabilities = awkward()["one label, one prediction"]
    reasons = categorical(labels, probabilities, CLASSES, draws=2).reasons
    assert reasons["top1.original.kappa"] == "labels and predictions are all one class"
    assert reasons["top1.original.auc.macro"] == "no class has this score"


@pytest.mark.parametrize(
    "name", ["random", "ties", "absent from predictions", "two faces", "seldom predicted"]
)
def test_normalised_scores_equal_a_loop_of_scikit_learn_over_the_draws(name):
    labels, probabilities = awkward()[name]
    draws = 4
    found = categorical(labels, probabilities, CLASSES, draws=draws, seed=5)
    drawn = skew_normalization.drawer(labels)(range(draws), 5).astype(bool)
    rules = {"top1": probabilities.argmax(axis=1), "top2": top2_by_hand(labels, probabilities)}
    for rule, predicted in rules.items():
        each = [reference(labels[row], predicted[row], probabilities[row]) for row in drawn]
        for kind in each[0]:
            values = np.array([one[kind] for one in each])
            if kind.endswith("macro"):
                score = kind.removesuffix("macro")
                defined = [sum(not np.isnan(one[score + c]) for c in CLASSES) for one in each]
                assert found.counts[f"{rule}.normalised.{kind}"] == (min(defined), 8)
            values = values[~np.isnan(values)]
            full = f"{rule}.normalised.{kind}"
            if len(values):
                assert found.values[full] == pytest.approx(values.mean(), abs=1e-9), full
                assert found.deviations[full] == pytest.approx(values.std(), abs=1e-9), full
                if 0 < len(values) < draws and not kind.endswith("macro"):
                    assert found.counts[full] == (len(values), draws)
            else:
                assert np.isnan(found.values[full]) and full in found.reasons


def test_normalised_recall_is_the_original_in_the_long_run():
    """Drawing from a class leaves its recall as it was; accuracy becomes the mean recall."""
    labels, probabilities = random_faces(2000)
    found = categorical(labels, probabilities, CLASSES, draws=200).values
    for one in (*CLASSES, "macro"):
        assert found[f"top1.normalised.recall.{one}"] == pytest.approx(
            found[f"top1.original.recall.{one}"], abs=0.01
        )
    assert found["top1.normalised.accuracy"] == pytest.approx(
        found["top1.normalised.recall.macro"], abs=1e-12
    )


def test_equally_frequent_classes_are_normal_already():
    labels, probabilities = random_faces()
    labels = np.arange(len(labels) // 8 * 8) % 8
    found = categorical(labels, probabilities[: len(labels)], CLASSES, draws=3)
    for name, value in found.values.items():
        rule, skewness, kind = name.split(".", 2)
        if skewness == "normalised":
            assert value == pytest.approx(found.values[f"{rule}.original.{kind}"], abs=1e-12)
            assert found.deviations[name] == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_whole_weights_are_repeated_faces(seed, repeats):
    """The law that makes draws and bootstrap samples right."""
    labels, probabilities = random_faces(20, seed=seed)
    repeats = np.array(repeats)
    if not repeats.any():
        repeats[0] = 1
    weighted = scorer(labels, probabilities, CLASSES)(repeats[None].astype(float))
    again = np.repeat(labels, repeats), np.repeat(probabilities, repeats, axis=0)
    repeated = scorer(*again, CLASSES)(np.ones((1, repeats.sum())))
    for name, value in repeated.items():
        np.testing.assert_allclose(weighted[name], value, atol=1e-12, err_msg=name)


def test_any_weights_are_scikit_learns_sample_weights():
    labels, probabilities = random_faces(100)
    weights = np.random.default_rng(1).uniform(0, 2, 100)
    found = scorer(labels, probabilities, CLASSES)(weights[None])
    predicted = probabilities.argmax(axis=1)
    wanted = reference(labels, predicted, probabilities)  # for alpha, which takes none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = peer.f1_score(labels, predicted, average=None, sample_weight=weights)
        areas = [
            peer.roc_auc_score(labels == i, probabilities[:, i], sample_weight=weights)
            for i in range(8)
        ]
    assert wanted.keys() <= {name.removeprefix("top1.") for name in found}
    for i, one in enumerate(CLASSES):
        assert found[f"top1.f1.{one}"][0] == pytest.approx(f1[i], abs=1e-12)
        assert found[f"top1.auc.{one}"][0] == pytest.approx(areas[i], abs=1e-12)


def test_resampled_has_the_names_of_categorical():
    labels, probabilities = random_faces(50)
    names = categorical(labels, probabilities, CLASSES, draws=1).values.keys()
    assert resampled(labels, probabilities, CLASSES)(np.ones((2, 50))).keys() == names


def test_draws_in_chunks_of_any_size_are_the_same(monkeypatch):
    labels, probabilities = random_faces(100)
    whole = categorical(labels, probabilities, CLASSES, draws=7)
    monkeypatch.setattr(base, "CHUNK", 250)  # two draws at a time
    assert categorical(labels, probabilities, CLASSES, draws=7).values == whole.values


def test_memory_is_flat_in_the_number_of_draws():
    labels, probabilities = random_faces(8000)

    def peak(draws: int) -> int:
        tracemalloc.start()
        categorical(labels, probabilities, CLASSES, draws=draws)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few = 2 * base.CHUNK // len(labels)  # two whole chunks
    assert peak(4 * few) < 1.1 * peak(few)


def test_confusion_matrix_equals_scikit_learn():
    labels, probabilities = random_faces()
    predicted = confusion.top1(probabilities)
    wanted = peer.confusion_matrix(labels, predicted, labels=range(8))
    np.testing.assert_array_equal(confusion.matrix(labels, predicted, 8), wanted)


def test_of_equally_probable_classes_the_lower_ids_are_the_top_ones():
    uniform = np.full((8, 8), 1 / 8)
    assert confusion.top1(uniform).tolist() == [0] * 8
    assert confusion.top2(uniform, np.arange(8)).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_probability_that_is_no_number_is_named_with_its_place(value):
    labels, probabilities = random_faces()
    probabilities[16, 4] = value
    with pytest.raises(
        UserError, match=f"probabilities: face 17 of 300, fear: {value}".replace("+", r"\+")
    ):
        categorical(labels, probabilities, CLASSES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 8]), r"face 2 of 2: label 8 is not in \[0, 8\)"),
        (np.array([-1, 0]), r"face 1 of 2: label -1 is not in \[0, 8\)"),
        (np.array([0, np.nan]), r"face 2 of 2: label nan"),
        (np.array([0, 0.5]), r"face 2 of 2: label 0.5"),
    ],
)
def test_a_label_that_is_none_is_named_with_its_place(labels, message):
    with pytest.raises(UserError, match=message):
        categorical(labels, np.full((2, 8), 1 / 8), CLASSES)


@pytest.mark.parametrize(("faces", "columns"), [(3, 8), (2, 7), (0, 8)])
def test_shapes_that_do_not_match_are_an_error(faces, columns):
    labels = np.zeros(2 if faces else 0, int)
    with pytest.raises(ValueError):
        categorical(labels, np.full((faces, columns), 1 / 8), CLASSES)
