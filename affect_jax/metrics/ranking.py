"""Scores of a ranking: areas under the ROC and precision-recall curves, and the curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from affect_jax.metrics.base import divide

Areas = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def areas(scores: np.ndarray, positive: np.ndarray) -> Areas:
    """Prepares both areas of one ranking; sorting is done here, once.

    **Arguments:**

    - `scores`: float [N], higher means more probably positive; ties are one threshold.
    - `positive`: bool [N].

    **Returns:**

    A function from weights [K, N] to two arrays [K]:

    - the area under the ROC curve: the probability that a positive is ranked above a negative, a
      tie counting half; NaN without weight on positives or on negatives;
    - the area under the precision-recall curve as average precision, the sum over thresholds of
      recall gained times precision (no interpolation); NaN without weight on positives.
    """
    order = np.argsort(-scores, kind="stable")
    places = np.flatnonzero(positive[order])  # of the J positives in the ranking
    first, last = _ties(scores[order])
    start, end = first[places], last[places]
    # Of each positive, the first and the last positive of its tie, as places among positives.
    first_hit, last_hit = np.searchsorted(places, start), np.searchsorted(places, end, "right") - 1

    def score(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranked = np.take(weights, order, axis=1)  # several times faster than weights[:, order]
        above = np.cumsum(ranked, axis=1, dtype=ranked.dtype)  # of this place and all before it
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
        roc = divide(np.sum(hits * ranked_below, axis=1), positives * negatives)
        precision = true / np.where(selected == 0, 1.0, selected)  # where 0, hits are 0 too
        return roc, divide(np.sum(hits * precision, axis=1), positives)

    return score


def _ties(ranked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each place of a ranking, the first and the last place with the same score."""
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])[: len(ranked)]
    lengths = np.diff(np.r_[starts, len(ranked)])
    first = np.repeat(starts, lengths)
    return first, first + np.repeat(lengths, lengths) - 1


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """A precision-recall curve, one point a threshold, the highest threshold first: float [T]."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def precision_recall(scores: np.ndarray, positive: np.ndarray) -> PrecisionRecall:
    """The curve whose steps `areas` adds up.

    **Arguments:** as of `areas`.

    **Returns:** recall is NaN without positives.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.unique(_ties(scores[order])[1])
    true = np.cumsum(positive[order])[ends].astype(np.float64)
    recall = divide(true, np.full_like(true, np.sum(positive)))
    return PrecisionRecall(scores[order][ends], true / (ends + 1), recall)
