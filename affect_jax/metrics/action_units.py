"""Scores of the action-unit model for each unit, and their means: F1, AUC and accuracy; for
intensities also ICC(3,1), MAE and correlation.

A target is an intensity in [0, 1]; the unit counts as active at `ACTIVE_THRESHOLD` or above. Every
unit is scored over the faces that are annotated for it.

`f1` and `accuracy` use the threshold 0.5 on the predicted probability, `best_f1` the threshold of
each unit with the highest F1 on the same faces that are scored. Papers that "choose the threshold
on validation" and report that validation score do the same. It is an upper bound, not an estimate
for new faces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.facs.action_units import ACTIVE_THRESHOLD
from affect_jax.metrics import auc_scores, dimensional
from affect_jax.metrics.base import Scorer, divide_or_nan, nanmean

METRICS = ("f1", "best_f1", "auc", "accuracy")
INTENSITY_METRICS = ("icc", "mae", "corr")  # if a target is between 0 and 1
THRESHOLD = 0.5  # a unit counts as predicted if its probability is at least this


def create_scorer(targets: np.ndarray, predicted: np.ndarray, units: Sequence[int]) -> Scorer:
    """Creates a scorer of `AU12.f1`, `AU12.auc`, ..., `mean.f1`, ...

    A mean is taken over the units for which the score is defined. `AU12.best_threshold` is the
    threshold of `best_f1`, not a score: it is the same for all weights.

    **Arguments:**

    - `targets`: float [N, A], intensities in [0, 1], NaN if not annotated.
    - `predicted`: float [N, A], probabilities.
    - `units`: the numbers of the A action units.
    """
    names = [f"AU{unit}" for unit in units]
    has_intensities = bool(np.any((targets > 0) & (targets < 1)))
    metrics = METRICS + INTENSITY_METRICS * has_intensities
    parts = []
    for i, name in enumerate(names):
        rows = np.flatnonzero(~np.isnan(targets[:, i]))
        active, probabilities = targets[rows, i] >= ACTIVE_THRESHOLD, predicted[rows, i]
        threshold = find_best_threshold(active, probabilities)
        positive = probabilities >= THRESHOLD
        best_positive = probabilities >= threshold  # all False if the threshold is NaN
        columns = [np.ones(len(rows)), active, positive, active & positive, active == positive]
        counts = np.stack([*columns, best_positive, active & best_positive], axis=1)
        moments = dimensional.moment_columns(targets[rows, i], probabilities)
        score_areas = auc_scores.create_area_scorer(probabilities, active)
        parts.append((name, rows, counts, moments, score_areas, threshold))

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores: dict[str, np.ndarray] = {}
        for name, rows, counts, moments, score_areas, _ in parts:
            selected = np.take(weights, rows, axis=1)
            total, active, positive, hits, correct, best_positive, best_hits = (selected @ counts).T
            scores[f"{name}.f1"] = divide_or_nan(2 * hits, active + positive)
            scores[f"{name}.best_f1"] = divide_or_nan(2 * best_hits, active + best_positive)
            scores[f"{name}.auc"] = score_areas(selected)[0]
            scores[f"{name}.accuracy"] = divide_or_nan(correct, total)
            if has_intensities:
                agreement = dimensional.scores_from_sums(selected @ moments)
                scores |= {f"{name}.{metric}": agreement[metric] for metric in INTENSITY_METRICS}
        for metric in metrics:
            scores[f"mean.{metric}"] = nanmean([scores[f"{name}.{metric}"] for name in names])
        for name, *_, threshold in parts:
            scores[f"{name}.best_threshold"] = np.full(len(weights), threshold)
        return scores

    return score


def find_best_threshold(active: np.ndarray, predicted: np.ndarray) -> float:
    """Finds the threshold with the highest F1; ties go to the highest threshold.

    **Arguments:** `active`: bool [N]; `predicted`: float [N].

    **Returns:** one of the predicted values; NaN if no face is active.
    """
    if not active.any():
        return np.nan
    levels, precision, recall = auc_scores.compute_precision_recall_curve(predicted, active)
    f1 = divide_or_nan(2 * precision * recall, precision + recall)
    return float(levels[np.nanargmax(f1)])
