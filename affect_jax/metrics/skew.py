"""Skew-normalised scores: what a model would score were all classes equally frequent.

Source: Mollahosseini et al. 2017, section 4.1.3; Jeni et al. 2013. As many faces as the rarest
class has are drawn from every class, without replacement, and scored; this is done many times.
"""

from __future__ import annotations

import numpy as np

from affect_jax.metrics.base import Scorer, chunks


def draw(labels: np.ndarray, draws: range, seed: int) -> np.ndarray:
    """Which faces each draw has: weights 0 or 1, float64 [len(draws), N].

    A draw depends on `labels`, `seed` and its own number alone. The rarest class is the rarest of
    those that have a face.

    **Arguments:**

    - `labels`: int [N].
    - `draws`: numbers of the draws.
    """
    weights = np.zeros((len(draws), len(labels)))
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rarest = min(map(len, rows))
    for row, number in enumerate(draws):
        random = np.random.default_rng([seed, number])
        for members in rows:
            weights[row, random.choice(members, rarest, replace=False, shuffle=False)] = 1.0
    return weights


def normalised(scorer: Scorer, labels: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Scores of every draw: float64 [draws] by name.

    **Arguments:**

    - `scorer`: of the same N faces.
    - `labels`: int [N], the classes to make equally frequent.
    """
    parts = [scorer(draw(labels, part, seed)) for part in chunks(draws, len(labels))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def balance(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights [K, N] changed so that every class has the rarest class's weight in all.

    What a draw takes on average, so a score of these weights is the mean over many draws but for
    what is curved in the score. Intervals of skew-normalised scores are computed so, as 200 draws
    of each bootstrap sample would take 200 times as long. A class without weight stays without.

    **Arguments:**

    - `weights`: float [K, N].
    - `labels`: int [N].
    """
    _, place = np.unique(labels, return_inverse=True)
    totals = np.stack([np.bincount(place, row) for row in weights])  # [K, classes]
    rarest = np.min(totals, axis=1, keepdims=True, where=totals > 0, initial=np.inf)
    factors = np.where(totals > 0, rarest, 0.0) / np.where(totals > 0, totals, 1.0)
    return weights * np.take(factors, place, axis=1)
