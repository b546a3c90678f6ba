"""Scores of the dimensional model: RMSE, MAE, CORR, SAGR and CCC of valence and arousal.

Sources: Mollahosseini et al. 2017, section 4.2.1 (RMSE, CORR, SAGR, CCC); Lin 1989 (CCC).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.core.labels import AXES
from affect_jax.metrics.base import Scorer, Scores, check_finite, divide, mean

NAMES = ("rmse", "mae", "corr", "sagr", "ccc")
REASONS = {
    "corr": "labels or predictions do not vary",
    "ccc": "labels and predictions are one and the same number",
}
ROUNDING = 1e-13  # a variance is 0 where it is below this share of the mean square


def dimensional(
    labels: np.ndarray,
    predicted: np.ndarray,
    expression: np.ndarray | None,
    classes: Sequence[str],
) -> Scores:
    """All scores: `valence.ccc`, `mean.rmse`, and within each expression `valence.ccc.fear`, ...

    `mean` is the mean of valence's and arousal's.

    **Arguments:**

    - `labels`, `predicted`: float [N, 2], valence and arousal: annotated faces only.
    - `expression`: int [N], -1 where there is none; None: no scores within expressions.
    - `classes`: names of the expressions.

    **Raises:** `UserError` that names the face whose number is NaN or infinite.
    """
    score = scorer(labels, predicted, expression, classes)
    found = Scores({name: float(a[0]) for name, a in score(np.ones((1, len(labels)))).items()})
    for name, value in found.values.items():
        axis, kind, *within = name.split(".", 2)  # a class's name may have dots
        if np.isnan(value):
            empty = within and not np.any(np.asarray(expression) == list(classes).index(within[0]))
            no_face = f"no face is labelled {within[0]}" if within else ""
            found.reasons[name] = no_face if empty else REASONS[kind]
        elif axis == "mean":
            parts = [".".join((axis, kind, *within)) for axis in AXES]
            defined = sum(not np.isnan(found.values[part]) for part in parts)
            found.counts[name] = (defined, len(AXES))
    return found


def scorer(
    labels: np.ndarray,
    predicted: np.ndarray,
    expression: np.ndarray | None,
    classes: Sequence[str],
) -> Scorer:
    """What gives the scores for weights [K, N].

    **Arguments and raises:** as of `dimensional`.
    """
    labels, predicted = np.asarray(labels, np.float64), np.asarray(predicted, np.float64)
    check_finite("labels", labels, AXES)
    check_finite("predictions", predicted, AXES)
    if len(labels) != len(predicted) or not len(labels):
        raise ValueError(f"{len(labels)} labels of {len(predicted)} faces: one each is needed")
    groups = [("", np.arange(len(labels)))]
    if expression is not None and np.any(np.asarray(expression) >= 0):
        groups += [(f".{c}", np.flatnonzero(expression == i)) for i, c in enumerate(classes)]
    columns = [
        np.concatenate([_columns(labels[rows, i], predicted[rows, i]) for i in range(2)], axis=1)
        for _, rows in groups
    ]

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        weights = weights.astype(np.float64)  # a product of two types would leave BLAS out
        for (suffix, rows), summed in zip(groups, columns, strict=True):
            chosen = weights if len(rows) == len(labels) else np.take(weights, rows, axis=1)
            sums = np.split(chosen @ summed, 2, axis=1)
            axes = {axis: _scores(one) for axis, one in zip(AXES, sums, strict=True)}
            axes["mean"] = {name: mean([axes[axis][name] for axis in AXES]) for name in NAMES}
            found |= {f"{axis}.{name}{suffix}": axes[axis][name] for axis in axes for name in NAMES}
        return found

    return score


def _columns(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What is summed, float64 [N, 10]; moments are about the middle, for their digits."""
    error = predicted - label
    same_sign = np.sign(predicted) == np.sign(label)
    x, y = _centred(predicted), _centred(label)
    return np.stack(
        [np.ones_like(x), x, y, x * x, y * y, x * y, error, np.abs(error), same_sign, error**2],
        axis=1,
    )


def _centred(values: np.ndarray) -> np.ndarray:
    constant = len(values) == 0 or values.min() == values.max()
    return np.zeros_like(values) if constant else values - values.mean()


def _scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The five scores [K] from sums [K, 10] of `_columns`."""
    total, *rest = sums.T
    x, y, xx, yy, xy, error, absolute, same_sign, squared = (divide(one, total) for one in rest)
    var_x, var_y, covariance = _variance(x, xx), _variance(y, yy), xy - x * y
    deviation = np.sqrt(var_x) * np.sqrt(var_y)
    return {
        "rmse": np.sqrt(squared),
        "mae": absolute,
        "corr": np.clip(divide(covariance, deviation), -1, 1),
        "sagr": same_sign,
        "ccc": divide(2 * np.where(deviation == 0, 0.0, covariance), var_x + var_y + error**2),
    }


def _variance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    variance = second - first**2
    return np.where(variance <= ROUNDING * second, 0.0, variance)
