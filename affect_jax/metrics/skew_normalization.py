"""Skew-normalised scores: what a model would score were all classes equally frequent.

Source: Mollahosseini et al. 2017, section 4.1.3; Jeni et al. 2013. As many faces as the rarest
class has are drawn from every class, without replacement, and scored; this is done many times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from affect_jax.metrics.base import Scorer, chunks


def drawer(labels: np.ndarray) -> Callable[[range, int], np.ndarray]:
    """Prepares draws of faces.

    **Arguments:**

    - `labels`: int [N], the classes to make equally frequent.

    **Returns:**

    A function from the draws' numbers and a seed to which faces each draw has: weights 0 or 1,
    int32 [draws, N]. A draw depends on `labels`, its number and the seed alone. The rarest class is
    the rarest of those that have a face.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rarest = min(map(len, classes))

    def draw(numbers: range, seed: int) -> np.ndarray:
        weights = np.zeros((len(numbers), len(labels)), np.int32)
        for row, number in enumerate(numbers):
            random = np.random.default_rng([seed, number])
            for faces in classes:
                weights[row, random.choice(faces, rarest, replace=False, shuffle=False)] = 1
        return weights

    return draw


def normalised(scorer: Scorer, labels: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Scores of every draw: float64 [draws] by name.

    **Arguments:**

    - `scorer`: of the same N faces.
    - `labels`: int [N], the classes to make equally frequent.
    """
    draw = drawer(labels)
    parts = [scorer(draw(numbers, seed)) for numbers in chunks(draws, len(labels))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def balancer(labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Prepares weights that make classes equally frequent.

    They are what a draw takes on average, so a score of these weights is the mean over many draws
    but for what is curved in the score. Intervals of skew-normalised scores are computed so, as 200
    draws of each bootstrap sample would take 200 times as long.

    **Arguments:**

    - `labels`: int [N].

    **Returns:**

    A function from weights [K, N] to weights float64 [K, N] of which every class has as much in all
    as the rarest had before. A class without weight stays without.
    """
    _, place = np.unique(labels, return_inverse=True)

    def balance(weights: np.ndarray) -> np.ndarray:
        totals = np.stack([np.bincount(place, row) for row in weights])  # [K, classes]
        rarest = np.min(totals, axis=1, keepdims=True, where=totals > 0, initial=np.inf)
        factors = np.where(totals > 0, rarest, 0.0) / np.where(totals > 0, totals, 1.0)
        return weights * np.take(factors, place, axis=1)

    return balance
