from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from affect_jax.core.errors import UserError
from affect_jax.metrics import calibration


@pytest.fixture(scope="module", params=["random", "ties with edges", "certain", "one face"])
def faces(request):
    random = np.random.default_rng(0)
    labels = random.integers(0, 8, 400)
    probabilities = random.dirichlet(np.full(8, 0.3), 400)
    if request.param == "ties with edges":
        # Confidences on bin edges: 2/15 to 15/15.
        confidence = random.integers(2, 16, 400) / calibration.NUM_BINS
        probabilities = np.tile(((1 - confidence) / 7)[:, None], 8)
        probabilities[:, 3] = confidence
    if request.param == "certain":
        probabilities = np.eye(8)[random.integers(0, 8, 400)]
    count = 1 if request.param == "one face" else 400
    return labels[:count], probabilities[:count]


def test_reliability_curve_equals_scikit_learn(faces):
    labels, probabilities = faces
    mean_confidence, mean_accuracy, count = calibration.compute_reliability_curve(*faces)
    correct = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(
        correct, probabilities.max(axis=1), n_bins=calibration.NUM_BINS, pos_label=True
    )
    full = count > 0
    np.testing.assert_allclose(mean_accuracy[full], accuracy, atol=1e-12)
    np.testing.assert_allclose(mean_confidence[full], confidence, atol=1e-12)
    assert np.isnan(mean_accuracy[~full]).all() and np.isnan(mean_confidence[~full]).all()
    assert count.sum() == len(labels)
    for index, mean in enumerate(mean_confidence * calibration.NUM_BINS):
        assert np.isnan(mean) or index - 1e-12 <= mean <= index + 1 + 1e-12


def test_calibration_error_is_the_mean_gap_of_the_curve(faces):
    labels, probabilities = faces
    confidence, accuracy, count = calibration.compute_reliability_curve(labels, probabilities)
    expected = np.nansum(count * np.abs(accuracy - confidence)) / len(labels)
    error = calibration.create_calibration_scorer(labels, probabilities)(np.ones((1, len(labels))))
    assert error[0] == pytest.approx(expected, abs=1e-12)


def test_integer_weights_equal_repeated_faces(faces):
    labels, probabilities = faces
    weights = np.arange(len(labels)) % 3 + 1
    weighted = calibration.create_calibration_scorer(labels, probabilities)(
        weights[None].astype(float)
    )
    repeated_faces = np.repeat(labels, weights), np.repeat(probabilities, weights, axis=0)
    repeated = calibration.create_calibration_scorer(*repeated_faces)(np.ones((1, weights.sum())))
    np.testing.assert_allclose(weighted, repeated, atol=1e-12)


def test_calibration_error_of_simple_cases():
    """3 of 4 correct at confidence 0.75 is calibrated; always wrong at 1 is the worst."""
    labels = np.array([0, 0, 0, 1])
    three_quarters = np.tile([0.75, 0.25], (4, 1))
    ones = np.ones((1, 4))
    assert calibration.create_calibration_scorer(labels, three_quarters)(ones) == 0
    wrong = np.eye(2)[1 - labels]
    assert calibration.create_calibration_scorer(labels, wrong)(ones) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_of_sampled_labels_is_recovered(temperature):
    random = np.random.default_rng(0)
    true = random.dirichlet(np.full(8, 0.5), 20_000)
    labels = (true.cumsum(axis=1) < random.random((len(true), 1))).sum(axis=1)
    labels[::10] = -1  # unlabelled
    distorted = calibration.scale_probabilities(true, 1 / temperature)
    fitted = calibration.fit_temperature(labels, distorted)
    assert fitted == pytest.approx(temperature, rel=0.03)
    restored = calibration.scale_probabilities(distorted, temperature)
    np.testing.assert_allclose(restored, true, atol=1e-9)


def test_temperature_of_unlabelled_faces_is_an_error():
    with pytest.raises(UserError, match="no face has a label"):
        calibration.fit_temperature(np.array([-1]), np.full((1, 8), 1 / 8))
