"""Samples of the test faces: draws with equally frequent classes, bootstrap samples, permutations.

*Skew-normalised* scores are those of a model if all classes were equally frequent (Mollahosseini et
al. 2017, section 4.1.3; Jeni et al. 2013): means over draws that subsample every class without
replacement to the size of the rarest class.

*Confidence intervals* of scores, and of differences between two models, are percentiles of the
bootstrap over faces (Efron and Tibshirani 1993, chapter 13). Faces are assumed to be independent.
The trained model is fixed, so intervals do not include the variance of training. The *hierarchical
bootstrap* also resamples the seeds of a study (Davison and Hinkley 1997, section 3.8): its
intervals include the variance of training.

A sample depends only on its number, the random seed and the number of faces (draws: the labels).
Models scored on the same faces are therefore scored on the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.special

from affect_jax.metrics.base import Scorer

CONFIDENCE_LEVEL = 0.95
REPLICATES = 1000

# Weights per chunk; they fit into a core's cache. Chunks 4 times as large take 3 times as long.
CHUNK_SIZE = 1 << 16

SCORE_RANGES = {
    **dict.fromkeys(("kappa", "alpha", "corr", "ccc", "icc"), (-1.0, 1.0)),
    **dict.fromkeys(("rmse", "mae", "kl"), (0.0, np.inf)),
    "multitask": (-np.inf, np.inf),
}
"""Range of the scores whose name has this part; all other scores are in [0, 1]."""

_RANDOM_STREAM = 1  # separates the bootstrap's random numbers from those of the draws
_EXCHANGE_STREAM = 2
_SEED_STREAM = 3


def subsample_classes(labels: np.ndarray, draws: range, seed: int) -> np.ndarray:
    """Draws subsets of faces in which all classes of `labels`, int [N], are equally frequent.

    **Returns:** weights, int32 [len(draws), N]: 1 if a face is in a draw, else 0. The number of
    faces per class is that of the rarest class that has any face.
    """
    counts = np.bincount(labels)
    classes = [np.flatnonzero(labels == label) for label in np.flatnonzero(counts)]
    rarest = min(map(len, classes))
    weights = np.zeros((len(draws), len(labels)), np.int32)
    for row, number in enumerate(draws):
        random = np.random.default_rng([seed, number])
        for faces in classes:
            weights[row, random.choice(faces, rarest, replace=False, shuffle=False)] = 1
    return weights


def balance_weights(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scales weights [K, N] so that all classes have the total weight of the rarest class.

    The result is the expected weight of a face over draws of `subsample_classes`. A score with
    these weights therefore equals the mean over many draws, apart from the score's nonlinearity.
    Intervals of skew-normalised scores use it: 200 draws of each bootstrap sample would take 200
    times as long. A class with zero weight keeps zero weight.
    """
    totals = np.stack([np.bincount(labels, row) for row in weights])  # [K, classes]
    rarest = np.min(totals, axis=1, keepdims=True, where=totals > 0, initial=np.inf)
    factors = np.where(totals > 0, rarest, 0.0) / np.where(totals > 0, totals, 1.0)
    return weights * np.take(factors, labels, axis=1)


def draw_bootstrap_weights(num_faces: int, replicates: range, seed: int) -> np.ndarray:
    """Returns how often each face is in each bootstrap sample: int32 [len(replicates), N]."""
    weights = np.empty((len(replicates), num_faces), np.int32)
    for row, number in enumerate(replicates):
        random = np.random.default_rng([seed, number, _RANDOM_STREAM])
        faces = random.integers(0, num_faces, num_faces)
        weights[row] = np.bincount(faces, minlength=num_faces)
    return weights


def draw_exchanges(num_faces: int, permutations: range, seed: int) -> np.ndarray:
    """Draws whether each face keeps (1) or exchanges (0) its two predictions: int32 [K, N]."""
    generators = [np.random.default_rng([seed, n, _EXCHANGE_STREAM]) for n in permutations]
    return np.stack([random.integers(0, 2, num_faces, np.int32) for random in generators])


def average_seeds(
    sampled: Sequence[Mapping[str, np.ndarray]], *, seed: int = 0, system: int = 0
) -> dict[str, np.ndarray]:
    """Draws seeds for each bootstrap sample of faces and averages their scores.

    S seeds are drawn with replacement. Their variance would be too small by (S - 1) / S, so
    deviations from the mean over seeds are scaled. One seed gives the ordinary bootstrap.

    **Arguments:**

    - `sampled`: by training seed, the return value of `bootstrap_scores` on the same faces.
    - `system`: number of the system; two systems draw their seeds independently.

    **Returns:** float64 [R] by name, for every score that all seeds have.
    """
    count = len(sampled)
    random = np.random.default_rng([seed, system, _SEED_STREAM])
    size = len(next(iter(sampled[0].values())))
    drawn = random.multinomial(count, np.full(count, 1 / count), size=size) / count  # [R, S]
    weights = 1 / count + (drawn - 1 / count) * np.sqrt(count / max(count - 1, 1))
    names = [name for name in sampled[0] if all(name in scores for scores in sampled)]
    return {
        name: np.sum(weights * np.stack([scores[name] for scores in sampled], axis=1), axis=1)
        for name in names
    }


def compute_p_value(value: float, sample: np.ndarray) -> float:
    """Computes the two-sided p-value that a difference is 0 from bootstrap samples of it, [R]."""
    defined = sample[~np.isnan(sample)]
    shifted = defined + (value - defined.mean()) if len(defined) else defined
    fewer = min(np.sum(shifted <= 0), np.sum(shifted >= 0))
    return min(1.0, 2 * (1 + float(fewer)) / (1 + len(shifted)))


def compute_mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Computes the two-sided p-value of McNemar's exact test from correctness, bool [N] each."""
    gained, lost = int(np.sum(second & ~first)), int(np.sum(first & ~second))
    return min(1.0, 2 * float(scipy.special.bdtr(min(gained, lost), gained + lost, 0.5)))


def correct_holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Corrects p-values for their number by the step-down method of Holm 1979."""
    corrected, maximum = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        maximum = max(maximum, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = maximum
    return corrected


def bootstrap_scores(
    scorer: Scorer, num_faces: int, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Computes every score on every bootstrap sample: float64 [replicates] by name."""
    return score_samples(
        scorer,
        lambda numbers: draw_bootstrap_weights(num_faces, numbers, seed),
        replicates,
        num_faces,
    )


def score_samples(
    scorer: Scorer, draw: Callable[[range], np.ndarray], count: int, num_faces: int
) -> dict[str, np.ndarray]:
    """Computes every score on every sample: float64 [count] by name.

    Samples are drawn and scored in chunks, so that memory use does not grow with their number.

    **Arguments:** `draw`: from the numbers of samples to their weights [K, num_faces].
    """
    size = max(1, CHUNK_SIZE // num_faces)
    parts = [
        scorer(draw(range(start, min(start + size, count)))) for start in range(0, count, size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compute_intervals(
    values: Mapping[str, float], sampled: Mapping[str, np.ndarray], *, differences: bool = False
) -> dict[str, tuple[float, float]]:
    """Computes percentile intervals, (low, high) by name, shifted so that their mean is the score.

    Resampling repeats faces, which biases some scores (calibration error and average precision
    rise). Skew-normalised scores of samples are computed by weights, not by draws. The shift
    removes both biases. For a mean over faces, such as accuracy, it removes only sampling noise.

    A score has no interval if it is undefined, also in more than half of the samples (usually
    because a class has only one or two faces).

    **Arguments:**

    - `values`: the scores.
    - `sampled`: float [R] by name, each score of every bootstrap sample, NaN if undefined.
    - `differences`: whether the values are differences of scores, which have no range.
    """
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    intervals = {}
    for name, value in values.items():
        sample = sampled.get(name, np.full(1, np.nan))
        defined = sample[~np.isnan(sample)]
        if not np.isnan(value) and 2 * len(defined) >= len(sample):
            ends = np.percentile(defined, [tail, 100 - tail]) + (value - defined.mean())
            if not differences:
                ranges = [SCORE_RANGES[part] for part in name.split(".") if part in SCORE_RANGES]
                ends = np.clip(ends, *(ranges[0] if ranges else (0.0, 1.0)))
            intervals[name] = tuple(ends.tolist())
    return intervals
