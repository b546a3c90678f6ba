"""Scores of the facial action model: F1, AUC and accuracy of each unit, and their means.

A target is an intensity in [0, 1]; from `ACTIVE` on the unit counts as active. Every unit is
scored over the faces that are annotated for it.

F1 and accuracy want a threshold of the predicted probability. `f1` and `accuracy` take 0.5,
whatever the faces. `best_f1` takes, of each unit, the threshold that gives the highest F1 on the
very faces it is scored on, as papers that "choose the threshold on validation" and report that
validation score do: it is an upper bound, not what new faces would give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.facs.action_units import ACTIVE
from affect_jax.metrics import ranking
from affect_jax.metrics.base import Scorer, Scores, check_finite, divide, mean

NAMES = ("f1", "best_f1", "auc", "accuracy")
THRESHOLD = 0.5  # a unit is predicted from this probability on
REASONS = {
    "f1": "{0} is active in no face and predicted in none",
    "best_f1": "{0} is active in no face",
    "best_threshold": "{0} is active in no face",
    "auc": "needs faces with {0} and faces without",
}


def action_units(targets: np.ndarray, predicted: np.ndarray, units: Sequence[int]) -> Scores:
    """All scores: `AU12.f1`, `AU12.auc`, `AU12.accuracy`, `AU12.best_f1`, `mean.f1`, ...

    `AU12.best_threshold` is the threshold of `best_f1`, no score. A mean is over the units that
    have the score; its count says how many.

    **Arguments:**

    - `targets`: float [N, A], intensities in [0, 1], NaN where not annotated.
    - `predicted`: float [N, A], probabilities.
    - `units`: the A numbers.

    **Raises:** `UserError` that names the face whose prediction is NaN, or whose target infinite.
    """
    score = scorer(targets, predicted, units)
    found = Scores({name: float(a[0]) for name, a in score(np.ones((1, len(targets)))).items()})
    thresholds = best_thresholds(targets, predicted)
    for unit, threshold in zip(units, thresholds, strict=True):
        found.values[f"AU{unit}.best_threshold"] = float(threshold)
    annotated = np.sum(~np.isnan(np.asarray(targets, np.float64)), axis=0)
    for name, value in found.values.items():
        owner, kind = name.split(".")
        if owner == "mean":
            each = [found.values[f"AU{unit}.{kind}"] for unit in units]
            found.counts[name] = (int(np.sum(~np.isnan(each))), len(units))
        if not np.isnan(value):
            continue
        if owner == "mean":
            found.reasons[name] = "no unit has this score"
        elif annotated[list(units).index(int(owner[2:]))]:
            found.reasons[name] = REASONS[kind].format(owner)
        else:
            found.reasons[name] = f"no face has a label of {owner}"
    return found


def best_thresholds(targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Of each unit the threshold with the highest F1 on these faces, of equals the highest.

    **Arguments:** as of `action_units`.

    **Returns:** float [A], predicted values; NaN for a unit that is active in no annotated face.
    """
    found = np.full(targets.shape[1], np.nan)
    for i in range(targets.shape[1]):
        rows = ~np.isnan(targets[:, i])
        active = targets[rows, i] >= ACTIVE
        if active.any():
            curve = ranking.precision_recall(predicted[rows, i], active)
            total = curve.precision + curve.recall
            f1 = divide(2 * curve.precision * curve.recall, total)
            found[i] = curve.thresholds[np.nanargmax(f1)]
    return found


def scorer(targets: np.ndarray, predicted: np.ndarray, units: Sequence[int]) -> Scorer:
    """What gives the scores for weights [K, N].

    **Arguments and raises:** as of `action_units`.
    """
    targets, predicted = np.asarray(targets, np.float64), np.asarray(predicted, np.float64)
    if targets.shape != predicted.shape or not len(targets):
        raise ValueError(f"targets {targets.shape} and predictions {predicted.shape} differ")
    names = [f"AU{unit}" for unit in units]
    check_finite("predictions", predicted, names)
    check_finite("targets", np.where(np.isnan(targets), 0.0, targets), names)
    thresholds = best_thresholds(targets, predicted)
    parts = []
    for i in range(len(units)):
        rows = np.flatnonzero(~np.isnan(targets[:, i]))
        active, given = targets[rows, i] >= ACTIVE, predicted[rows, i]
        said, said_best = given >= THRESHOLD, given >= thresholds[i]  # nothing is >= NaN
        columns = (active, said, active & said, active == said, said_best, active & said_best)
        counts = np.stack([np.ones(len(rows)), *columns], axis=1)
        parts.append((rows, counts, ranking.areas(given, active)))

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for unit, (rows, counts, areas) in zip(units, parts, strict=True):
            chosen = np.take(weights, rows, axis=1)
            total, active, said, both, right, said_best, both_best = (chosen @ counts).T
            best = divide(2 * both_best, active + said_best)
            found[f"AU{unit}.f1"] = divide(2 * both, active + said)
            found[f"AU{unit}.best_f1"] = best
            found[f"AU{unit}.auc"] = areas(chosen)[0]
            found[f"AU{unit}.accuracy"] = divide(right, total)
        for name in NAMES:
            found[f"mean.{name}"] = mean([found[f"AU{unit}.{name}"] for unit in units])
        return found

    return score
