"""Predicted classes by the top-1 and top-2 rules, confusion matrices and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.metrics.base import divide, mean

PER_CLASS = ("precision", "recall", "f1")


def top1(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class, int64 [N]; of equals, the one with the lower id."""
    return np.argmax(probabilities, axis=1)


def top2(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label where it is among the two most probable classes, else the most probable: int64 [N].

    The protocol's rule; of equally probable classes the one with the lower id counts as the more
    probable.

    **Arguments:**

    - `probabilities`: float [N, C].
    - `labels`: int [N].
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return np.where((best == labels[:, None]).any(axis=1), labels, best[:, 0])


def shares(counts: np.ndarray) -> np.ndarray:
    """Each row of a confusion matrix [C, C] by its sum; NaN where no face has that label."""
    return divide(counts, counts.sum(axis=1, keepdims=True))


def matrices(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray
) -> np.ndarray:
    """Confusion matrices, float64 [K, C, C]: rows are labels, columns are predictions.

    **Arguments:**

    - `labels`, `predicted`: int [N].
    - `weights`: [K, N].
    """
    cells = labels * num_classes + predicted
    size = num_classes**2
    counts = [np.bincount(cells, row, minlength=size) for row in weights]
    return np.reshape(counts, (-1, num_classes, num_classes))


def matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """The confusion matrix as counts, int64 [C, C]: rows are labels, columns are predictions."""
    ones = np.ones((1, len(labels)))
    return matrices(labels, predicted, num_classes, ones)[0].astype(np.int64)


def scores(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Accuracy, Cohen's kappa, Krippendorff's alpha; precision, recall, F1 by class and macro.

    **Arguments:**

    - `confusion`: float64 [K, C, C].
    - `classes`: the C names.

    **Returns:**

    Arrays [K]. A class's recall is NaN where no face has its label, its precision where no face is
    predicted as it, its F1 where both are so; macro scores are means over the classes that have
    one. `kappa` and `alpha` are NaN where labels and predictions are all one class.
    """
    total = confusion.sum(axis=(1, 2))
    right = np.diagonal(confusion, axis1=1, axis2=2)  # [K, C]
    labelled, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    by_class = {
        "precision": divide(right, predicted),
        "recall": divide(right, labelled),
        "f1": divide(2 * right, labelled + predicted),
    }
    agreed = right.sum(axis=1)
    by_chance = np.sum(labelled * predicted, axis=1)  # times total
    # Nominal alpha of two raters: 2 total values, of which `both` of each class.
    values, both = 2 * total, labelled + predicted
    disagreed = 2 * (total - agreed)
    found = {
        "accuracy": divide(agreed, total),
        "kappa": divide(total * agreed - by_chance, total**2 - by_chance),
        "alpha": 1 - divide((values - 1) * disagreed, values**2 - np.sum(both**2, axis=1)),
    }
    for name in PER_CLASS:
        found |= {f"{name}.{c}": by_class[name][:, i] for i, c in enumerate(classes)}
        found[f"{name}.macro"] = mean(list(by_class[name].T))
    return found
