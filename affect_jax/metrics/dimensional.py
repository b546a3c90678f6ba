"""Scores of the dimensional model: RMSE, MAE, CORR, SAGR and CCC of valence and arousal.

Sources: Mollahosseini et al. 2017, section 4.2.1 (RMSE, CORR, SAGR, CCC); Lin 1989 (CCC).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.core.labels import AXES
from affect_jax.metrics.base import Scorer, divide_or_nan, nanmean

METRICS = ("rmse", "mae", "corr", "sagr", "ccc")
VARIANCE_TOLERANCE = 1e-13  # variances below this fraction of the mean square count as 0


def create_scorer(
    labels: np.ndarray, predicted: np.ndarray, expression: np.ndarray | None, classes: Sequence[str]
) -> Scorer:
    """Creates a scorer of `valence.ccc`, `mean.rmse` (of both axes), and per expression
    `valence.ccc.fear`, ...

    **Arguments:**

    - `labels`, `predicted`: float [N, 2], valence and arousal: annotated faces only.
    - `expression`: int [N], -1 if unlabelled. If None, no scores per expression are computed.
    - `classes`: names of the expressions.
    """
    groups = [("", np.arange(len(labels)))]
    if expression is not None and np.any(expression >= 0):
        groups += [(f".{c}", np.flatnonzero(expression == i)) for i, c in enumerate(classes)]
    columns = [
        np.concatenate([moment_columns(labels[rows, i], predicted[rows, i]) for i in range(2)], 1)
        for _, rows in groups
    ]

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores: dict[str, np.ndarray] = {}
        weights = weights.astype(np.float64)  # a product of mixed types does not use BLAS
        for (suffix, rows), group_columns in zip(groups, columns, strict=True):
            sums = np.split(np.take(weights, rows, axis=1) @ group_columns, 2, axis=1)
            axes = {axis: scores_from_sums(part) for axis, part in zip(AXES, sums, strict=True)}
            axes["mean"] = {name: nanmean([axes[axis][name] for axis in AXES]) for name in METRICS}
            for axis, axis_scores in axes.items():
                scores |= {f"{axis}.{name}{suffix}": axis_scores[name] for name in METRICS}
        return scores

    return score


def moment_columns(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the columns whose weighted sums give the scores: float64 [N, 10].

    Values are centred before they are squared, for numerical precision.
    """
    error = predicted - label
    same_sign = np.sign(predicted) == np.sign(label)
    x, y = _center(predicted), _center(label)
    return np.stack(
        [np.ones_like(x), x, y, x * x, y * y, x * y, error, np.abs(error), same_sign, error**2],
        axis=1,
    )


def _center(values: np.ndarray) -> np.ndarray:
    constant = len(values) == 0 or values.min() == values.max()
    return np.zeros_like(values) if constant else values - values.mean()


def scores_from_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Computes scores [K] from sums [K, 10] of `moment_columns`.

    `icc` is ICC(3,1) of label and prediction as two raters (Shrout and Fleiss 1979): the mean
    squares of two raters reduce to 2 cov / (var_x + var_y).
    """
    total, *columns = sums.T
    x, y, xx, yy, xy, error, absolute, same_sign, squared = (
        divide_or_nan(column, total) for column in columns
    )
    var_x, var_y, covariance = _variance(x, xx), _variance(y, yy), xy - x * y
    deviation = np.sqrt(var_x) * np.sqrt(var_y)
    agreement = 2 * np.where(deviation == 0, 0.0, covariance)
    return {
        "rmse": np.sqrt(squared),
        "mae": absolute,
        "corr": np.clip(divide_or_nan(covariance, deviation), -1, 1),
        "sagr": same_sign,
        "ccc": divide_or_nan(agreement, var_x + var_y + error**2),
        "icc": divide_or_nan(agreement, var_x + var_y),
    }


def _variance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    variance = second - first**2
    return np.where(variance <= VARIANCE_TOLERANCE * second, 0.0, variance)
