"""Which faces a page shows: the surest mistakes, the least certain, examples of each class."""

from __future__ import annotations

import numpy as np

from affect_jax.metrics.predictions import Predictions

SHOWN = 12
PER_CLASS = 3


def mistakes(table: Predictions, count: int = SHOWN) -> np.ndarray:
    """Rows of wrong predictions, the most confident first: int64, at most `count`."""
    labelled, predicted, confidence = _expressions(table)
    wrong = labelled & (predicted != table.expression)
    return _first(np.flatnonzero(wrong), -confidence, count)


def uncertain(table: Predictions, count: int = SHOWN) -> np.ndarray:
    """Rows whose most probable class is the least probable: int64, at most `count`."""
    labelled, _, confidence = _expressions(table)
    return _first(np.flatnonzero(labelled), confidence, count)


def far_off(table: Predictions, count: int = SHOWN) -> np.ndarray:
    """Rows with the longest way between label and prediction of valence and arousal."""
    if table.valence_arousal is None or table.valence_arousal_predicted is None:
        return np.zeros(0, np.int64)
    error = np.linalg.norm(table.valence_arousal_predicted - table.valence_arousal, axis=1)
    return _first(np.flatnonzero(np.isfinite(error)), -error, count)


def examples(table: Predictions, per_class: int = PER_CLASS) -> dict[str, np.ndarray]:
    """Of each class rows from the one seen best to the one seen worst, evenly in between.

    **Returns:** class -> int64, at most `per_class`; without classes that label no face.
    """
    found = {}
    if table.probabilities is None or table.expression is None:
        return found
    for label, name in enumerate(table.classes):
        rows = np.flatnonzero(table.expression == label)
        if len(rows):
            ranked = rows[np.argsort(-table.probabilities[rows, label], kind="stable")]
            places = np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)
            found[name] = ranked[places]
    return found


def shown(table: Predictions) -> list[int]:
    """All rows whose faces a page shows, ascending."""
    parts = [mistakes(table), uncertain(table), far_off(table)]
    return sorted({int(row) for part in parts for row in part})


def _expressions(table: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each face has a label, its most probable class, and how probable: each [N]."""
    if table.probabilities is None or table.expression is None:
        none = np.zeros(len(table), bool)
        return none, none.astype(np.int64), none.astype(float)
    best = table.probabilities.argmax(axis=1)
    return table.expression >= 0, best, table.probabilities.max(axis=1)


def _first(rows: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows with the smallest keys; of equals the earlier row first."""
    return rows[np.argsort(keys[rows], kind="stable")][:count]
