"""Skew-normalised scores: the scores of a model if all classes were equally frequent.

Sources: Mollahosseini et al. 2017, section 4.1.3; Jeni et al. 2013. Each draw subsamples every
class without replacement to the size of the rarest class. Scores are averaged over many draws.
"""

from __future__ import annotations

import numpy as np

from affect_jax.metrics.base import Scorer, split_into_chunks


def subsample_classes(labels: np.ndarray, draws: range, seed: int) -> np.ndarray:
    """Draws subsets of faces in which all classes are equally frequent.

    **Arguments:**

    - `labels`: int [N], the classes.
    - `draws`: the numbers of the draws; a draw depends only on `labels`, its number and the seed.
    - `seed`: random seed.

    **Returns:**

    Weights, int32 [len(draws), N]: 1 if a face is in a draw, else 0. The number of faces per class
    is that of the rarest class that has any face.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rarest = min(map(len, classes))
    weights = np.zeros((len(draws), len(labels)), np.int32)
    for row, number in enumerate(draws):
        random = np.random.default_rng([seed, number])
        for faces in classes:
            weights[row, random.choice(faces, rarest, replace=False, shuffle=False)] = 1
    return weights


def score_subsamples(
    scorer: Scorer, labels: np.ndarray, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Computes every score on every draw: float64 [draws] by name.

    **Arguments:**

    - `scorer`: scorer of the same N faces.
    - `labels`: int [N], the classes.
    - `draws`: number of draws.
    - `seed`: random seed.
    """
    parts = [
        scorer(subsample_classes(labels, chunk, seed))
        for chunk in split_into_chunks(draws, len(labels))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def balance_weights(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scales weights so that all classes have the same total weight.

    The result is the expected weight of a face over draws of `subsample_classes`. A score with
    these weights therefore equals the mean over many draws, apart from the score's nonlinearity.
    Intervals of skew-normalised scores use it, because 200 draws of each bootstrap sample would
    take 200 times as long.

    **Arguments:**

    - `labels`: int [N].
    - `weights`: [K, N].

    **Returns:**

    Weights, float64 [K, N]. The total weight of every class is that of the rarest class before. A
    class with zero weight keeps zero weight.
    """
    _, class_index = np.unique(labels, return_inverse=True)
    totals = np.stack([np.bincount(class_index, row) for row in weights])  # [K, classes]
    rarest = np.min(totals, axis=1, keepdims=True, where=totals > 0, initial=np.inf)
    factors = np.where(totals > 0, rarest, 0.0) / np.where(totals > 0, totals, 1.0)
    return weights * np.take(factors, class_index, axis=1)
