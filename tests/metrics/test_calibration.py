from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from affect_jax.metrics import calibration


@pytest.fixture(scope="module", params=["random", "ties with edges", "certain", "one face"])
def faces(request):
    random = np.random.default_rng(0)
    labels = random.integers(0, 8, 400)
    probabilities = random.dirichlet(np.full(8, 0.3), 400)
    if request.param == "ties with edges":
        # Confidences that lie on the edges of bins: 2/15 to 15/15.
        top = random.integers(2, 16, 400) / calibration.BINS
        probabilities = np.tile(((1 - top) / 7)[:, None], 8)
        probabilities[:, 3] = top
    if request.param == "certain":
        probabilities = np.eye(8)[random.integers(0, 8, 400)]
    count = 1 if request.param == "one face" else 400
    return labels[:count], probabilities[:count]


def test_the_curve_equals_scikit_learn(faces):
    labels, probabilities = faces
    curve = calibration.reliability(labels, probabilities)
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(
        right, probabilities.max(axis=1), n_bins=calibration.BINS, pos_label=True
    )
    full = curve.count > 0
    np.testing.assert_allclose(curve.accuracy[full], accuracy, atol=1e-12)
    np.testing.assert_allclose(curve.confidence[full], confidence, atol=1e-12)
    assert np.isnan(curve.accuracy[~full]).all() and np.isnan(curve.confidence[~full]).all()
    assert curve.count.sum() == len(labels)
    for low, high, mean in zip(curve.edges, curve.edges[1:], curve.confidence, strict=False):
        assert np.isnan(mean) or low - 1e-12 <= mean <= high + 1e-12


def test_the_error_is_the_mean_gap_of_the_curve(faces):
    labels, probabilities = faces
    curve = calibration.reliability(labels, probabilities)
    gaps = np.abs(curve.accuracy - curve.confidence)
    wanted = np.nansum(curve.count * gaps) / len(labels)
    found = calibration.error(labels, probabilities)(np.ones((1, len(labels))))
    assert found["calibration_error"][0] == pytest.approx(wanted, abs=1e-12)


def test_a_face_of_weight_two_is_two_faces(faces):
    labels, probabilities = faces
    weights = np.arange(len(labels)) % 3 + 1
    weighted = calibration.error(labels, probabilities)(weights[None].astype(float))
    again = np.repeat(labels, weights), np.repeat(probabilities, weights, axis=0)
    repeated = calibration.error(*again)(np.ones((1, weights.sum())))
    np.testing.assert_allclose(
        weighted["calibration_error"], repeated["calibration_error"], atol=1e-12
    )


def test_known_errors():
    """Right in 3 of 4 at confidence 0.75 is calibrated; always wrong at 1 is as wrong as can be."""
    labels = np.array([0, 0, 0, 1])
    three_quarters = np.tile([0.75, 0.25], (4, 1))
    ones = np.ones((1, 4))
    assert calibration.error(labels, three_quarters)(ones)["calibration_error"][0] == 0
    wrong = np.eye(2)[1 - labels]
    assert calibration.error(labels, wrong)(ones)["calibration_error"][0] == 1
