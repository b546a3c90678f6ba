"""Bootstrap confidence intervals of scores and of score differences between two models.

Source: Efron and Tibshirani 1993, chapter 13. The faces of the test set are resampled with
replacement many times, and every score is computed on each sample. Faces are assumed to be
independent. The trained model is fixed, so intervals do not include the variance of training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from affect_jax.metrics.base import Scorer, split_into_chunks

CONFIDENCE_LEVEL = 0.95
REPLICATES = 1000

SCORE_RANGES = {
    "kappa": (-1.0, 1.0),
    "alpha": (-1.0, 1.0),
    "corr": (-1.0, 1.0),
    "ccc": (-1.0, 1.0),
    "rmse": (0.0, np.inf),
    "mae": (0.0, np.inf),
    "multitask": (-np.inf, np.inf),
}
"""Range of the scores whose name has this part; all other scores are in [0, 1]."""

_RANDOM_STREAM = 1  # separates these random numbers from those of the skew-normalised draws


def draw_bootstrap_weights(num_faces: int, replicates: range, seed: int) -> np.ndarray:
    """Returns how often each face is in each bootstrap sample: int32 [len(replicates), N].

    A sample depends only on `num_faces`, `seed` and its own number. Two models scored on the same
    faces are therefore scored on the same samples, for any chunk size.
    """
    weights = np.empty((len(replicates), num_faces), np.int32)
    for row, number in enumerate(replicates):
        random = np.random.default_rng([seed, number, _RANDOM_STREAM])
        faces = random.integers(0, num_faces, num_faces)
        weights[row] = np.bincount(faces, minlength=num_faces)
    return weights


def bootstrap_scores(
    scorer: Scorer, num_faces: int, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Computes every score on every bootstrap sample: float64 [replicates] by name."""
    parts = [
        scorer(draw_bootstrap_weights(num_faces, chunk, seed))
        for chunk in split_into_chunks(replicates, num_faces)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compute_interval(
    value: float, sample: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float] | None:
    """Computes the percentile interval of one score, shifted so that the sample mean is the score.

    Resampling repeats faces, which biases some scores (calibration error and average precision
    rise). Skew-normalised scores of samples are computed by weights, not by draws. The shift
    removes both biases. For a mean over faces, such as accuracy, it removes only sampling noise.

    **Arguments:**

    - `value`: the score.
    - `sample`: float [R], the score of every bootstrap sample, NaN if undefined.
    - `bounds`: the score's range.

    **Returns:** (low, high); None if `value` is NaN or the score is undefined in more than half of
    the samples (usually because a class has only one or two faces).
    """
    defined = sample[~np.isnan(sample)]
    if np.isnan(value) or 2 * len(defined) < len(sample):
        return None
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    ends = np.percentile(defined, [tail, 100 - tail]) + (value - defined.mean())
    low, high = np.clip(ends, *bounds)
    return float(low), float(high)


def compute_intervals(
    values: Mapping[str, float], sampled: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Computes the intervals of all scores that have samples, by name.

    Scores for which `compute_interval` returns None are left out.
    """
    intervals = {
        name: compute_interval(values[name], sample, _score_range(name))
        for name, sample in sampled.items()
        if name in values
    }
    return {name: ends for name, ends in intervals.items() if ends is not None}


def _score_range(name: str) -> tuple[float, float]:
    for part in name.split("."):
        if part in SCORE_RANGES:
            return SCORE_RANGES[part]
    return 0.0, 1.0
