from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from affect_jax.core.labels import classes
from affect_jax.metrics import base, categorical, resampling

CLASSES = classes(8)[:3]
LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


def accuracy_scorer(correct: np.ndarray) -> base.Scorer:
    """Accuracy, whose distribution is known."""
    return lambda weights: {"accuracy": weights @ correct / weights.sum(axis=1)}


def create_faces(count=300, seed=0):
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=[0.6, 0.3, 0.1])
    probabilities = random.dirichlet(np.ones(3), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_samples_have_all_faces_and_are_reproducible():
    weights = resampling.draw_bootstrap_weights(50, range(30), seed=1)
    assert set(weights.sum(axis=1)) == {50} and weights.max() > 1
    np.testing.assert_array_equal(
        resampling.draw_bootstrap_weights(50, range(7, 9), seed=1), weights[7:9]
    )
    assert len(np.unique(weights, axis=0)) == 30
    assert (
        not (resampling.draw_bootstrap_weights(50, range(30), seed=2) == weights).all(axis=1).any()
    )
    np.testing.assert_allclose(
        resampling.draw_bootstrap_weights(5, range(4000), 0).mean(axis=0), 1, atol=0.08
    )


def test_samples_do_not_depend_on_chunk_size(monkeypatch):
    score = categorical.create_bootstrap_scorer(*create_faces(100), CLASSES)
    expected = resampling.bootstrap_scores(score, 100, replicates=9)
    monkeypatch.setattr(resampling, "CHUNK_SIZE", 200)
    for name, values in resampling.bootstrap_scores(score, 100, replicates=9).items():
        np.testing.assert_array_equal(values, expected[name])


def test_interval_of_accuracy_equals_scipy_bootstrap():
    correct = (np.random.default_rng(0).random(400) < 0.7).astype(float)
    sampled = resampling.bootstrap_scores(accuracy_scorer(correct), 400, replicates=5000)
    interval = resampling.compute_intervals({"accuracy": correct.mean()}, sampled)["accuracy"]
    expected = stats.bootstrap(
        (correct,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(interval, expected, atol=0.004)  # a tenth of its half-width


def test_intervals_have_95_percent_coverage():
    """400 test sets of 150 faces, each face correct with probability 0.7; one column per set."""
    correct = (np.random.default_rng(0).random((150, 400)) < 0.7).astype(float)

    def scorer(weights: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(map(str, range(400)), (weights @ correct / 150).T, strict=True))

    values = {str(i): mean for i, mean in enumerate(correct.mean(axis=0))}
    intervals = resampling.compute_intervals(
        values, resampling.bootstrap_scores(scorer, 150, replicates=1000)
    )
    covered = np.mean([low <= 0.7 <= high for low, high in intervals.values()])
    assert 0.92 <= covered <= 0.98  # 0.95 within three standard deviations


def test_normalised_intervals_equal_subsampling_within_each_sample():
    """Compares balanced weights with subsampling within each bootstrap sample."""
    labels, probabilities = create_faces(200)
    score = categorical.create_scorer(labels, probabilities, CLASSES)
    sampled = resampling.bootstrap_scores(
        categorical.create_bootstrap_scorer(labels, probabilities, CLASSES), 200, replicates=300
    )
    names = ("accuracy", "f1.macro", "kappa", "auc.macro", "f1.sadness")
    subsampled = {name: [] for name in names}
    for weights in resampling.draw_bootstrap_weights(200, range(300), seed=0).astype(int):
        rows = np.repeat(np.arange(200), weights)
        masks = resampling.subsample_classes(labels[rows], range(10), 0)
        counts = np.stack([np.bincount(rows[row == 1], minlength=200) for row in masks])
        for name, values in score(counts.astype(float)).items():
            if name.removeprefix("top1.") in names:
                subsampled[name.removeprefix("top1.")].append(np.nanmean(values))
    for name in names:
        balanced_deviation = np.std(sampled[f"top1.normalised.{name}"])
        assert balanced_deviation == pytest.approx(np.std(subsampled[name]), rel=0.12), name


def test_normalised_accuracy_has_the_variance_of_mean_recall():
    labels, probabilities = create_faces(2000)
    score = categorical.create_bootstrap_scorer(labels, probabilities, CLASSES)
    sample = resampling.bootstrap_scores(score, 2000, replicates=400)["top1.normalised.accuracy"]
    recalls = [np.mean(probabilities[labels == i].argmax(axis=1) == i) for i in range(3)]
    variances = [recall * (1 - recall) / np.sum(labels == i) for i, recall in enumerate(recalls)]
    assert np.std(sample) == pytest.approx(np.sqrt(np.sum(variances)) / 3, rel=0.12)


def test_scores_are_in_their_intervals_and_intervals_in_their_ranges():
    labels, probabilities = create_faces()
    scores = categorical.score_categorical(labels, probabilities, CLASSES, draws=50)
    score = categorical.create_bootstrap_scorer(labels, probabilities, CLASSES)
    intervals = resampling.compute_intervals(
        scores.values, resampling.bootstrap_scores(score, len(labels), replicates=200)
    )
    assert intervals.keys() == scores.values.keys() - scores.reasons.keys()
    for name, (low, high) in intervals.items():
        lowest = -1 if name.endswith(("kappa", "alpha")) else 0
        assert lowest <= low <= scores.values[name] <= high <= 1, name


def test_bootstrap_bias_is_removed():
    """Calibration error grows if faces repeat, so plain percentiles may all be above it."""
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 2000)
    labels = (random.random(2000) > confidence).astype(int)  # perfectly calibrated
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    score = categorical.create_bootstrap_scorer(labels, probabilities, ("a", "b"))
    name = "top1.original.calibration_error"
    value = score(np.ones((1, 2000)))[name][0]
    sample = resampling.bootstrap_scores(score, 2000, replicates=200)[name]
    assert np.mean(sample) > value
    low, high = resampling.compute_intervals({name: value}, {name: sample})[name]
    assert low < value < high and (low + high) / 2 == pytest.approx(value, abs=0.25 * (high - low))


def test_scores_undefined_in_most_samples_have_no_interval():
    nan = np.nan
    sampled = {"few": [nan, nan, 0.5], "no": [0.1, 0.2, 0.3], "most": [nan, 0.4, 0.6]}
    intervals = resampling.compute_intervals(
        {"few": 0.5, "no": nan, "most": 0.5, "other": 0.5},
        {name: np.array(sample) for name, sample in sampled.items()},
    )
    assert intervals == {"most": pytest.approx((0.405, 0.595))}


def test_single_face_has_zero_width_interval():
    score = categorical.create_bootstrap_scorer(np.array([1]), np.array([[0.1, 0.8, 0.1]]), CLASSES)
    sampled = resampling.bootstrap_scores(score, 1, replicates=5)
    intervals = resampling.compute_intervals({"top1.original.accuracy": 1.0}, sampled)
    assert intervals == {"top1.original.accuracy": (1.0, 1.0)}


@given(LABELS, st.integers(0, 5))
def test_draws_have_equal_class_counts_without_repetition(labels, seed):
    """Draws are without replacement, so weights are 0 and 1. Classes without faces are ignored."""
    weights = resampling.subsample_classes(labels, range(3), seed)
    _, counts = np.unique(labels, return_counts=True)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    for row in weights:
        present, number = np.unique(labels[row == 1], return_counts=True)
        assert set(number) == {counts.min()} and len(present) == len(counts)


def test_draws_depend_on_number_and_seed():
    labels = np.arange(200) % 7 % 3
    draws = resampling.subsample_classes(labels, range(20), 1)
    np.testing.assert_array_equal(resampling.subsample_classes(labels, range(5, 9), 1), draws[5:9])
    assert len(np.unique(draws, axis=0)) == 20
    assert not (resampling.subsample_classes(labels, range(20), 2) == draws).all(axis=1).any()


def test_faces_of_a_class_are_drawn_uniformly():
    labels = np.repeat([0, 1], [10, 40])
    frequency = resampling.subsample_classes(labels, range(4000), 0).mean(axis=0)
    np.testing.assert_array_equal(frequency[:10], 1)
    np.testing.assert_allclose(frequency[10:], 0.25, atol=0.035)  # 5 standard deviations


@given(LABELS, st.integers(0, 5))
def test_balanced_classes_have_the_weight_of_the_rarest(labels, seed):
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(labels))).astype(float)
    for before, after in zip(weights, resampling.balance_weights(labels, weights), strict=True):
        totals = {c: before[labels == c].sum() for c in np.unique(labels)}
        rarest = min((total for total in totals.values() if total), default=0)
        for label, total in totals.items():
            expected = rarest if total else 0
            assert after[labels == label].sum() == pytest.approx(expected)
            if total:  # relative weights within a class do not change
                np.testing.assert_allclose(
                    after[labels == label] * total, before[labels == label] * expected
                )


def test_balanced_weights_are_the_mean_draw():
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    mean = resampling.subsample_classes(labels, range(4000), 0).mean(axis=0)
    np.testing.assert_allclose(
        resampling.balance_weights(labels, np.ones((1, 70)))[0], mean, atol=0.04
    )


@pytest.mark.parametrize("num_faces", [1, 1000, 2 * resampling.CHUNK_SIZE])
def test_chunks_cover_all_samples_and_respect_the_size(num_faces):
    sizes = []

    def scorer(weights: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(weights))
        return {"sum": weights.sum(axis=1)}

    samples = resampling.bootstrap_scores(scorer, num_faces, replicates=100)
    assert samples["sum"].tolist() == [num_faces] * 100 and sum(sizes) == 100
    assert max(sizes) == min(100, max(1, resampling.CHUNK_SIZE // num_faces))


def test_differences_have_no_range():
    sample = np.array([-0.4, -0.3, -0.2])
    low, _ = resampling.compute_intervals({"f1": -0.3}, {"f1": sample}, differences=True)["f1"]
    assert low == pytest.approx(-0.395)
    assert resampling.compute_intervals({"f1": -0.3}, {"f1": sample}) == {"f1": (0.0, 0.0)}


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20))
def test_mcnemar_is_the_exact_binomial_test(gained, lost, same):
    first = np.repeat([False, True, True], [gained, lost, same])
    second = np.repeat([True, False, True], [gained, lost, same])
    expected = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert resampling.compute_mcnemar(first, second) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_correction_follows_its_definition(p_values):
    """The largest of (m - j + 1) p(j) over the smaller p-values, at most 1 (Holm 1979)."""
    corrected = resampling.correct_holm({str(i): p for i, p in enumerate(p_values)})
    ordered, count = sorted(p_values), len(p_values)
    for i, p in enumerate(p_values):
        terms = [(count - j) * q for j, q in enumerate(ordered) if q < p or ordered.index(p) == j]
        assert corrected[str(i)] == pytest.approx(min(1.0, max(terms)))
