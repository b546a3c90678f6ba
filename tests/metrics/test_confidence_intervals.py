from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from affect_jax.core.labels import classes
from affect_jax.metrics import base, categorical, confidence_intervals, skew_normalization

CLASSES = classes(8)[:3]


def share(right: np.ndarray) -> base.Scorer:
    """Accuracy, of which everything is known."""
    return lambda weights: {"accuracy": weights @ right / weights.sum(axis=1)}


def faces(count=300, seed=0):
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=[0.6, 0.3, 0.1])
    probabilities = random.dirichlet(np.ones(3), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_a_sample_has_as_many_faces_and_is_made_by_its_number():
    weights = confidence_intervals.resample(50, range(30), seed=1)
    assert set(weights.sum(axis=1)) == {50} and weights.max() > 1
    np.testing.assert_array_equal(
        confidence_intervals.resample(50, range(7, 9), seed=1), weights[7:9]
    )
    assert len(np.unique(weights, axis=0)) == 30
    assert not (confidence_intervals.resample(50, range(30), seed=2) == weights).all(axis=1).any()
    np.testing.assert_allclose(
        confidence_intervals.resample(5, range(4000), 0).mean(axis=0), 1, atol=0.08
    )


def test_samples_in_chunks_of_any_size_are_the_same(monkeypatch):
    score = categorical.resampled(*faces(100), CLASSES)
    whole = confidence_intervals.samples(score, 100, replicates=9)
    monkeypatch.setattr(base, "CHUNK", 200)
    for name, values in confidence_intervals.samples(score, 100, replicates=9).items():
        np.testing.assert_array_equal(values, whole[name])


def test_the_interval_of_a_share_equals_scipys_bootstrap():
    right = (np.random.default_rng(0).random(400) < 0.7).astype(float)
    sampled = confidence_intervals.samples(share(right), 400, replicates=5000)
    found = confidence_intervals.intervals({"accuracy": right.mean()}, sampled)["accuracy"]
    wanted = stats.bootstrap(
        (right,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(found, wanted, atol=0.004)  # a tenth of its half-width


def test_intervals_cover_the_truth_19_times_of_20():
    """400 test sets of 150 faces, each face right with probability 0.7; one column a set."""
    right = (np.random.default_rng(0).random((150, 400)) < 0.7).astype(float)

    def scorer(weights: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(map(str, range(400)), (weights @ right / 150).T, strict=True))

    values = {str(i): mean for i, mean in enumerate(right.mean(axis=0))}
    found = confidence_intervals.intervals(
        values, confidence_intervals.samples(scorer, 150, replicates=1000)
    )
    covered = np.mean([low <= 0.7 <= high for low, high in found.values()])
    assert 0.92 <= covered <= 0.98  # 0.95 within three standard deviations


def test_intervals_of_normalised_scores_are_those_of_drawing_in_every_sample():
    """The short cut, weighting classes equally, against what it stands for."""
    labels, probabilities = faces(200)
    score = categorical.scorer(labels, probabilities, CLASSES)
    found = confidence_intervals.samples(
        categorical.resampled(labels, probabilities, CLASSES), 200, replicates=300
    )
    names = ("accuracy", "f1.macro", "kappa", "auc.macro", "f1.sadness")
    drawn = {name: [] for name in names}
    for weights in confidence_intervals.resample(200, range(300), seed=0).astype(int):
        rows = np.repeat(np.arange(200), weights)
        masks = skew_normalization.drawer(labels[rows])(range(10), 0)
        counts = np.stack([np.bincount(rows[row == 1], minlength=200) for row in masks])
        for name, values in score(counts.astype(float)).items():
            if name.removeprefix("top1.") in names:
                drawn[name.removeprefix("top1.")].append(np.nanmean(values))
    for name in names:
        short = np.std(found[f"top1.normalised.{name}"])
        assert short == pytest.approx(np.std(drawn[name]), rel=0.12), name


def test_normalised_accuracy_has_the_width_of_a_mean_of_shares():
    labels, probabilities = faces(2000)
    score = categorical.resampled(labels, probabilities, CLASSES)
    sample = confidence_intervals.samples(score, 2000, replicates=400)["top1.normalised.accuracy"]
    shares = [np.mean(probabilities[labels == i].argmax(axis=1) == i) for i in range(3)]
    variances = [share * (1 - share) / np.sum(labels == i) for i, share in enumerate(shares)]
    assert np.std(sample) == pytest.approx(np.sqrt(np.sum(variances)) / 3, rel=0.12)


def test_every_score_lies_in_its_interval_and_the_interval_in_its_range():
    labels, probabilities = faces()
    found = categorical.categorical(labels, probabilities, CLASSES, draws=50)
    score = categorical.resampled(labels, probabilities, CLASSES)
    ranges = confidence_intervals.intervals(
        found.values, confidence_intervals.samples(score, len(labels), replicates=200)
    )
    assert ranges.keys() == found.values.keys() - found.reasons.keys()
    for name, (low, high) in ranges.items():
        lowest = -1 if name.endswith(("kappa", "alpha")) else 0
        assert lowest <= low <= found.values[name] <= high <= 1, name


def test_a_score_that_samples_shift_is_put_back():
    """Calibration error grows when faces repeat: its plain percentiles may all lie above it."""
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 2000)
    labels = (random.random(2000) > confidence).astype(int)  # perfectly calibrated
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    score = categorical.resampled(labels, probabilities, ("a", "b"))
    name = "top1.original.calibration_error"
    value = score(np.ones((1, 2000)))[name][0]
    sample = confidence_intervals.samples(score, 2000, replicates=200)[name]
    assert np.mean(sample) > value
    low, high = confidence_intervals.intervals({name: value}, {name: sample})[name]
    assert low < value < high and (low + high) / 2 == pytest.approx(value, abs=0.25 * (high - low))


def test_what_most_samples_leave_undefined_has_no_interval():
    nan = np.nan
    assert confidence_intervals.interval(0.5, np.array([nan, nan, 0.5])) is None
    assert confidence_intervals.interval(nan, np.array([0.1, 0.2, 0.3])) is None
    assert confidence_intervals.interval(0.5, np.array([nan, 0.4, 0.6])) == pytest.approx(
        (0.405, 0.595)
    )


def test_one_face_has_an_interval_without_width():
    score = categorical.resampled(np.array([1]), np.array([[0.1, 0.8, 0.1]]), CLASSES)
    sampled = confidence_intervals.samples(score, 1, replicates=5)
    found = confidence_intervals.intervals({"top1.original.accuracy": 1.0}, sampled)
    assert found == {"top1.original.accuracy": (1.0, 1.0)}
