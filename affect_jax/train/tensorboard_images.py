"""The confusion matrix as an image for TensorBoard; importing matplotlib takes a second."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from affect_jax.core import plotting
from affect_jax.metrics.base import divide_or_nan
from affect_jax.metrics.categorical import confusion_matrix, predict_top1
from affect_jax.metrics.predictions import Predictions


def confusion_image(table: Predictions) -> np.ndarray:
    """Draws the confusion matrix of the annotated faces: uint8 [H, W, 3]."""
    with plotting.style():
        return plotting.render(draw_confusion(table))


def draw_confusion(table: Predictions) -> Axes:
    """Draws the confusion matrix of the annotated faces, also for reports.

    Each row sums to one. A row without faces is empty.
    """
    assert table.expression is not None and table.probabilities is not None
    rows = table.expression >= 0
    predicted = predict_top1(table.probabilities[rows])
    counts = confusion_matrix(table.expression[rows], predicted, len(table.classes))
    shares = divide_or_nan(counts, counts.sum(axis=1, keepdims=True))
    texts = np.where(counts.any(axis=1, keepdims=True), np.char.mod("%.2f", shares), "")
    panel = plotting.create_panel(420, 420, xlabel="predicted", ylabel="label")
    plotting.draw_cells(panel, shares, texts, table.classes, table.classes)
    return panel
