"""Detects class columns in another order than the labels.

Tools order expressions differently (by AffectNet's ids, by alphabet), and a table in the wrong
order has plausible but wrong scores. If another assignment of columns to classes fits the labels
far better, the order is probably wrong. The best assignment is the solution of the linear
assignment problem (Kuhn 1955) on the confusion matrix.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize

from affect_jax.metrics.categorical import confusion_matrix, predict_top1
from affect_jax.metrics.predictions import Predictions

MIN_FACES = 10  # classes with fewer labelled faces are not judged
MIN_GAIN = 0.2  # of the mean recall of the moved classes, which must also double
FALSE_ALARM_RATE = 1e-3


def describe_wrong_order(predictions: Predictions) -> str | None:
    """Returns a warning that names the probable order of the class columns, or None.

    The warning requires that the mean recall of the moved classes at least doubles and that its
    increase is significant, with Bonferroni correction for all C! orders. Recall instead of
    accuracy keeps predictions that do not depend on the label from looking permuted.
    """
    if predictions.probabilities is None or predictions.expression is None:
        return None
    rows = np.flatnonzero(predictions.expression >= 0)
    classes, labels = predictions.classes, predictions.expression[rows]
    confusion = confusion_matrix(
        labels, predict_top1(predictions.probabilities[rows]), len(classes)
    )
    faces = confusion.sum(axis=1)
    judged = np.flatnonzero(faces >= MIN_FACES)
    recall = confusion[np.ix_(judged, judged)] / faces[judged, None]
    # The small bonus keeps classes where they are if moving them changes nothing.
    _, best = scipy.optimize.linear_sum_assignment(
        recall + 1e-9 * np.eye(len(judged)), maximize=True
    )
    moved = np.flatnonzero(best != np.arange(len(judged)))
    if len(moved) == 0:
        return None
    given, permuted = recall[moved, moved], recall[moved, best[moved]]
    counts, gain = faces[judged[moved]], permuted.sum() - given.sum()
    variance = np.sum((given + permuted + 1 / counts) / counts)  # + 1 / counts: never zero
    log_orders = math.lgamma(len(classes) + 1)
    required = math.sqrt(2 * (log_orders - math.log(FALSE_ALARM_RATE)))  # Gaussian tail bound
    doubled = permuted.mean() >= max(2 * given.mean(), given.mean() + MIN_GAIN)
    if not doubled or gain < required * math.sqrt(variance):
        return None
    pairs = ", ".join(f"{classes[judged[best[i]]]} is {classes[judged[i]]}" for i in moved)
    return (
        f"the class columns may be in another order: {pairs}; the mean recall of these classes "
        f"would rise from {given.mean():.2f} to {permuted.mean():.2f}"
    )
