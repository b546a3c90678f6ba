"""Selects the faces of a report: confident mistakes, uncertain faces and examples of each class."""

from __future__ import annotations

import numpy as np

from affect_jax.metrics.predictions import Predictions

FACES_PER_GALLERY = 12
EXAMPLES_PER_CLASS = 3


def select_confident_mistakes(
    predictions: Predictions, count: int = FACES_PER_GALLERY
) -> np.ndarray:
    """Selects rows of wrong predictions, the most confident first: int64, at most `count`."""
    labelled, predicted, confidence = _expression_predictions(predictions)
    wrong = labelled & (predicted != predictions.expression)
    return _smallest(np.flatnonzero(wrong), -confidence, count)


def select_uncertain(predictions: Predictions, count: int = FACES_PER_GALLERY) -> np.ndarray:
    """Selects labelled rows with the lowest confidence: int64, at most `count`."""
    labelled, _, confidence = _expression_predictions(predictions)
    return _smallest(np.flatnonzero(labelled), confidence, count)


def select_largest_errors(predictions: Predictions, count: int = FACES_PER_GALLERY) -> np.ndarray:
    """Selects rows with the largest distance between label and predicted valence and arousal."""
    if predictions.valence_arousal is None or predictions.valence_arousal_predicted is None:
        return np.zeros(0, np.int64)
    error = np.linalg.norm(
        predictions.valence_arousal_predicted - predictions.valence_arousal, axis=1
    )
    return _smallest(np.flatnonzero(np.isfinite(error)), -error, count)


def select_examples(
    predictions: Predictions, per_class: int = EXAMPLES_PER_CLASS
) -> dict[str, np.ndarray]:
    """Selects rows of each class, evenly spaced in rank from the highest to the lowest probability.

    **Returns:** rows by class name: int64, at most `per_class`. Classes without a labelled face are
    left out.
    """
    examples = {}
    if predictions.probabilities is None or predictions.expression is None:
        return examples
    for label, name in enumerate(predictions.classes):
        rows = np.flatnonzero(predictions.expression == label)
        if len(rows):
            ranked = rows[np.argsort(-predictions.probabilities[rows, label], kind="stable")]
            places = np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)
            examples[name] = ranked[places]
    return examples


def select_gallery_faces(predictions: Predictions) -> list[int]:
    """Selects all rows of the galleries, ascending."""
    parts = [
        select_confident_mistakes(predictions),
        select_uncertain(predictions),
        select_largest_errors(predictions),
    ]
    return sorted({int(row) for part in parts for row in part})


def _expression_predictions(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns whether each face is labelled, its most probable class and its confidence: [N]."""
    if predictions.probabilities is None or predictions.expression is None:
        unlabelled = np.zeros(len(predictions), bool)
        return unlabelled, unlabelled.astype(np.int64), unlabelled.astype(float)
    best = predictions.probabilities.argmax(axis=1)
    return predictions.expression >= 0, best, predictions.probabilities.max(axis=1)


def _smallest(rows: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """Returns the `count` rows with the smallest keys; ties go to the earlier row."""
    return rows[np.argsort(keys[rows], kind="stable")][:count]
