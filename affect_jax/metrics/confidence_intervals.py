"""Confidence intervals by bootstrap over faces, of scores and of differences between two models.

Source: Efron and Tibshirani 1993, chapter 13. The test set is redrawn from itself with replacement
many times; every score is computed of each such sample. Faces are taken to be independent; the
training run is taken as given, so its own chance is not in an interval.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from affect_jax.metrics.base import Scorer, chunks

LEVEL = 0.95
REPLICATES = 1000

RANGES = {
    "kappa": (-1.0, 1.0),
    "alpha": (-1.0, 1.0),
    "corr": (-1.0, 1.0),
    "ccc": (-1.0, 1.0),
    "rmse": (0.0, np.inf),
    "mae": (0.0, np.inf),
    "multitask": (-np.inf, np.inf),
}
"""What values a score can have, by the part of its name; all others lie in [0, 1]."""

_STREAM = 1  # keeps the samples' random numbers apart from those of the skew-normalised draws


def resample(num_faces: int, replicates: range, seed: int) -> np.ndarray:
    """How often each face is in each bootstrap sample: int32 [len(replicates), N].

    A sample depends on `num_faces`, `seed` and its own number alone: two models scored on the same
    faces are scored on the same samples, whatever the chunks.
    """
    weights = np.empty((len(replicates), num_faces), np.int32)
    for row, number in enumerate(replicates):
        random = np.random.default_rng([seed, number, _STREAM])
        chosen = random.integers(0, num_faces, num_faces)
        weights[row] = np.bincount(chosen, minlength=num_faces)
    return weights


def samples(
    scorer: Scorer, num_faces: int, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Every score of every bootstrap sample: float64 [replicates] by name."""
    parts = [scorer(resample(num_faces, part, seed)) for part in chunks(replicates, num_faces)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(
    value: float, sample: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float] | None:
    """The percentile interval of one score, moved so that the samples' mean is the score.

    Resampling repeats faces, which shifts some scores (calibration error and average precision
    rise); and skew-normalised scores of samples are computed by weights, not by draws. Moving takes
    both out; for a mean over faces, accuracy say, it changes nothing but the samples' own noise.

    **Arguments:**

    - `value`: the score.
    - `sample`: float [R], the score of every bootstrap sample, NaN where undefined.
    - `bounds`: what the score can be.

    **Returns:** (low, high), or None where more than half of the samples leave the score undefined
    (most often a class of one or two faces that most samples miss), or `value` is NaN.
    """
    defined = sample[~np.isnan(sample)]
    if np.isnan(value) or 2 * len(defined) < len(sample):
        return None
    tail = 100 * (1 - LEVEL) / 2
    ends = np.percentile(defined, [tail, 100 - tail]) + (value - defined.mean())
    low, high = np.clip(ends, *bounds)
    return float(low), float(high)


def intervals(
    values: Mapping[str, float], sampled: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Intervals of all scores that have samples, by name; see `interval` for those without one."""
    found = {
        name: interval(values[name], sample, _range(name))
        for name, sample in sampled.items()
        if name in values
    }
    return {name: one for name, one in found.items() if one is not None}


def _range(name: str) -> tuple[float, float]:
    for part in name.split("."):
        if part in RANGES:
            return RANGES[part]
    return 0.0, 1.0
