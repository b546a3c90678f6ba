"""Calibration of probabilities: expected calibration error, reliability curve, temperature scaling.

Source: Guo et al. 2017, sections 2 and 4.2. A face's confidence is the probability of its most
probable class. Faces are grouped into confidence bins of equal width, and each bin's accuracy is
compared with its mean confidence. In a perfectly calibrated model both are equal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.optimize
import scipy.special

from affect_jax.core.errors import UserError
from affect_jax.metrics.base import divide_or_nan

NUM_BINS = 15


def compute_reliability_curve(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the reliability curve of labels, int [N], and probabilities, float [N, C].

    **Returns:** for each of the `NUM_BINS` bins (low, high], the mean confidence of its faces and
    their accuracy, NaN if it is empty, and the number of faces.
    """
    confidence, correct, bins = _assign_bins(labels, probabilities)
    count = np.bincount(bins, minlength=NUM_BINS)
    mean_confidence = divide_or_nan(np.bincount(bins, confidence, NUM_BINS), count)
    return mean_confidence, divide_or_nan(np.bincount(bins, correct, NUM_BINS), count), count


def create_calibration_scorer(
    labels: np.ndarray, probabilities: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Creates a function from weights [K, N] to the calibration error [K]: the mean over faces of
    |accuracy - confidence| of their bin."""
    confidence, correct, bins = _assign_bins(labels, probabilities)
    gaps = correct - confidence

    def score(weights: np.ndarray) -> np.ndarray:
        sums = [np.bincount(bins, row * gaps, minlength=NUM_BINS) for row in weights]
        return divide_or_nan(np.abs(sums).sum(axis=1), weights.sum(axis=1))

    return score


def _assign_bins(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns confidence, 1 if the most probable class is the label else 0, and bin: each [N]."""
    confidence = probabilities.max(axis=1)
    inner_edges = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return confidence, correct, np.searchsorted(inner_edges, confidence, side="left")


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Fits the temperature, in [0.05, 20], that minimises the cross entropy of labels, int [N] with
    -1 if unlabelled; above 1, the probabilities [N, C] were too far from uniform.

    **Raises:** `UserError` if no face has a label.
    """
    rows = labels >= 0
    if not rows.any():
        raise UserError("the temperature cannot be fitted: no face has a label")
    labels, probabilities = labels[rows], probabilities[rows]

    def cross_entropy(log_temperature: float) -> float:
        scaled = scale_probabilities(probabilities, np.exp(log_temperature))
        return -float(np.mean(np.log(np.maximum(scaled[np.arange(len(labels)), labels], 1e-300))))

    best = scipy.optimize.minimize_scalar(cross_entropy, bounds=np.log((0.05, 20)))
    return float(np.exp(best.x))


def scale_probabilities(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities of the logits divided by `temperature`: [N, C] -> [N, C]."""
    logits = np.log(np.maximum(probabilities, 1e-300))
    return scipy.special.softmax(logits / temperature, axis=-1)
