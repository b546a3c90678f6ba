"""Scores against the votes of several raters, or a distribution over the classes.

Each score is a mean over faces. `expected_accuracy` is the probability that a random rater chooses
the predicted class. `kl` is the Kullback-Leibler divergence of the prediction from the distribution
and `jsd` the Jensen-Shannon divergence (Lin 1991), both in nats. `human_accuracy` is the ceiling:
how often a rater chooses the class that most of the other raters chose; with k classes in first
place, each counts as 1/k. It depends on the votes only.
"""

from __future__ import annotations

import numpy as np
import scipy.special

from affect_jax.metrics.base import Scorer, divide_or_nan


def create_scorer(
    distribution: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None
) -> Scorer:
    """Creates a scorer of the scores above.

    **Arguments:**

    - `distribution`: float [N, C], with sum 1.
    - `probabilities`: float [N, C], predictions.
    - `votes`: float [N, C], numbers of raters; NaN without votes. None: no face has votes.
    """
    predicted = probabilities.argmax(axis=1)[:, None]
    # float32 probabilities may be 0, and the divergence infinite
    positive = np.maximum(probabilities, np.finfo(np.float32).tiny)
    middle = (distribution + probabilities) / 2
    divergences = scipy.special.rel_entr(distribution, middle)
    divergences = divergences + scipy.special.rel_entr(probabilities, middle)
    values = {
        "expected_accuracy": np.take_along_axis(distribution, predicted, axis=1)[:, 0],
        "kl": scipy.special.rel_entr(distribution, positive).sum(axis=1),
        "jsd": divergences.sum(axis=1) / 2,
    }
    if votes is not None and np.isfinite(votes).any():
        values["human_accuracy"] = agree_with_others(votes)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        weights = weights.astype(np.float64)
        return {
            name: divide_or_nan(weights @ np.nan_to_num(value), weights @ np.isfinite(value))
            for name, value in values.items()
        }

    return score


def agree_with_others(votes: np.ndarray) -> np.ndarray:
    """Share of a face's raters whose class most of its other raters chose, float64 [N].

    **Arguments:** `votes`: [N, C]. **Returns:** NaN for faces with fewer than two votes.
    """
    others = votes[:, None, :] - np.eye(votes.shape[1])  # [N, class of the rater, C]
    first = others >= others.max(axis=2, keepdims=True)
    agreement = np.diagonal(first, axis1=1, axis2=2) / np.maximum(first.sum(axis=2), 1)
    total = votes.sum(axis=1)
    return np.where(total >= 2, divide_or_nan((votes * agreement).sum(axis=1), total), np.nan)
