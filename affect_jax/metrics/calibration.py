"""Whether probabilities mean what they say: expected calibration error and the reliability curve.

Source: Guo et al. 2017, section 2. A face's confidence is the probability of its most probable
class; faces are put into bins of equal width, and a bin's accuracy is held against its mean
confidence. Of a perfectly calibrated model both are equal.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from affect_jax.metrics.base import Scorer, divide

BINS = 15


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The reliability curve, one entry a bin of confidence (low, high].

    **Arguments:**

    - `edges`: float [BINS + 1].
    - `confidence`, `accuracy`: float [BINS], means over the bin's faces; NaN where it has none.
    - `count`: int [BINS], faces.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """The curve of a model.

    **Arguments:**

    - `labels`: int [N].
    - `probabilities`: float [N, C], in [0, 1].
    """
    confidence, right, bins = _binned(labels, probabilities)
    count = np.bincount(bins, minlength=BINS)
    means = [
        divide(np.bincount(bins, column, minlength=BINS), count.astype(np.float64))
        for column in (confidence, right)
    ]
    return Reliability(np.linspace(0, 1, BINS + 1), means[0], means[1], count)


def error(labels: np.ndarray, probabilities: np.ndarray) -> Scorer:
    """What gives `calibration_error`: the mean over faces of their bin's |accuracy - confidence|.

    **Arguments:** as of `reliability`.
    """
    confidence, right, bins = _binned(labels, probabilities)
    gaps = right - confidence

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = [np.bincount(bins, row * gaps, minlength=BINS) for row in weights]
        return {"calibration_error": divide(np.abs(sums).sum(axis=1), weights.sum(axis=1))}

    return score


def _binned(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence [N], whether the most probable class is the label [N], and the bin [N]."""
    confidence = probabilities.max(axis=1)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return confidence, right, np.searchsorted(inner, confidence, side="left")
