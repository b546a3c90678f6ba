"""Scores of a ranking: areas under the ROC and precision-recall curves, and the curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from affect_jax.metrics.base import divide_or_nan

AreaScorer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def create_area_scorer(scores: np.ndarray, positive: np.ndarray) -> AreaScorer:
    """Creates a scorer of both areas of one ranking. The scores are sorted here, once.

    **Arguments:**

    - `scores`: float [N]; higher means more likely positive. Tied scores share one threshold.
    - `positive`: bool [N].

    **Returns:** a function from weights [K, N] to two arrays [K]:

    - the area under the ROC curve: the probability that a positive is ranked above a negative, with
      ties counted half;
    - the area under the precision-recall curve as average precision: the sum over thresholds of
      precision times the increase in recall (no interpolation).
    """
    descending = -scores
    order = np.argsort(descending, kind="stable")
    ranked_scores = descending[order]
    places = np.flatnonzero(positive[order])  # ranks of the J positives
    # For each positive, the first and last rank with the same score, and the first and last
    # positive among them, as indices into the positives.
    start = np.searchsorted(ranked_scores, ranked_scores[places])
    end = np.searchsorted(ranked_scores, ranked_scores[places], "right") - 1
    first_hit, last_hit = np.searchsorted(places, start), np.searchsorted(places, end, "right") - 1

    def score(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranked = np.take(weights, order, axis=1)  # several times faster than weights[:, order]
        above = np.cumsum(ranked, axis=1, dtype=ranked.dtype)  # weight at this rank and above
        hits = np.take(ranked, places, axis=1).astype(np.float64)  # [K, J]
        true = np.cumsum(hits, axis=1)
        true_before = np.take(true - hits, first_hit, axis=1)
        true = np.take(true, last_hit, axis=1)
        selected = np.take(above, end, axis=1)
        before = np.take(above, start, axis=1) - np.take(ranked, start, axis=1)
        false_before = before - true_before
        positives = hits.sum(axis=1)
        negatives = weights.sum(axis=1) - positives
        ranked_below = negatives[:, None] - (false_before + selected - true) / 2
        roc = divide_or_nan(np.sum(hits * ranked_below, axis=1), positives * negatives)
        precision = true / np.where(selected == 0, 1.0, selected)  # hits are 0 there, too
        return roc, divide_or_nan(np.sum(hits * precision, axis=1), positives)

    return score


def compute_precision_recall_curve(
    scores: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the precision-recall curve; its step-wise area is the average precision.

    **Arguments:** as for `create_area_scorer`.

    **Returns:** thresholds, precision and recall, float [T] each, the highest threshold first;
    recall is NaN if there are no positives.
    """
    thresholds, threshold_index = np.unique(scores, return_inverse=True)
    true = np.cumsum(np.bincount(threshold_index, positive)[::-1])
    predicted = np.cumsum(np.bincount(threshold_index)[::-1])
    return thresholds[::-1], true / predicted, divide_or_nan(true, np.sum(positive))
