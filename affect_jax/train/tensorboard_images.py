"""Images for TensorBoard: the confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from affect_jax.metrics.base import divide_or_nan
from affect_jax.metrics.categorical import confusion_matrix, predict_top1
from affect_jax.metrics.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion_image(table: Predictions) -> np.ndarray:
    """Draws the confusion matrix of the annotated faces: uint8 [H, W, 3]."""
    from affect_jax.core import plotting  # the import takes a second; `--help` does not need it

    with plotting.style():
        return plotting.render(draw_confusion(table))


def draw_confusion(table: Predictions) -> Axes:
    """Draws the confusion matrix of the annotated faces, also for reports.

    Each row sums to one. A row without faces is empty.
    """
    from affect_jax.core import plotting

    assert table.expression is not None and table.probabilities is not None
    rows = table.expression >= 0
    predicted = predict_top1(table.probabilities[rows])
    counts = confusion_matrix(table.expression[rows], predicted, len(table.classes))
    shares = divide_or_nan(counts, counts.sum(axis=1, keepdims=True))
    texts = np.where(counts.any(axis=1, keepdims=True), np.char.mod("%.2f", shares), "")
    panel = plotting.create_panel(420, 420, xlabel="predicted", ylabel="label")
    plotting.draw_cells(panel, shares, texts, table.classes, table.classes)
    return panel
