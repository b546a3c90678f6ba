"""Pictures for TensorBoard: the confusion matrix, and faces as the network is given them."""

from __future__ import annotations

from typing import Any

import numpy as np

from affect_jax import parallel
from affect_jax.predictions import Predictions


def confusion(table: Predictions, size: float = 5.0) -> np.ndarray:
    """The confusion matrix of the annotated faces, rows sum to one: uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert table.expression is not None and table.probabilities is not None
    rows = table.expression >= 0
    count = len(table.classes)
    cells = table.expression[rows] * count + table.probabilities[rows].argmax(axis=1)
    matrix = np.bincount(cells, minlength=count**2).reshape(count, count)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(size, size), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="predicted", ylabel="label")
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(count), table.classes, rotation=45, ha="right")
    axes.set_yticks(range(count), table.classes)
    for i, j in np.ndindex(count, count):
        shade = "black" if share[i, j] > 0.5 else "white"
        axes.text(j, i, f"{share[i, j]:.2f}", ha="center", va="center", color=shade, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def faces(batch: dict[str, Any], count: int = 16) -> np.ndarray:
    """The first faces of a batch on the devices, as they are stored: uint8 [n, S, S, 3]."""
    images = parallel.to_host(batch["image"])
    return images.reshape(-1, *images.shape[2:])[:count].copy()
