"""Images for TensorBoard: the confusion matrix, and faces with labels and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from affect_jax.core.labels import AXES
from affect_jax.facs.action_units import ACTIVE_THRESHOLD
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


def face_panel(
    images: np.ndarray,
    landmarks: np.ndarray,
    table: Predictions,
    rows: np.ndarray,
) -> np.ndarray:
    """Draws faces with their landmarks and, below each face, its labels and predictions.

    **Arguments:**

    - `images`: uint8 [n, S, S, 3].
    - `landmarks`: float [n, 68, 2], pixels of `images`; zeros for a face without landmarks.
    - `table`: labels and predictions.
    - `rows`: int [n], the faces' rows in `table`.

    **Returns:** uint8 [H, W, 3].
    """
    from affect_jax.core import plotting

    captions = ["\n".join(_caption_lines(table, row)) for row in rows]
    return plotting.draw_faces(list(images), captions, list(landmarks))


def _caption_lines(table: Predictions, row: int) -> list[str]:
    """Lines like `happiness: neutral 0.61` or `valence +0.40: +0.33`: label, then prediction."""
    lines = []
    if table.probabilities is not None and table.expression is not None:
        top_class = int(table.probabilities[row].argmax())
        label = table.expression[row]
        true = table.classes[label] if label >= 0 else "none"
        probability = table.probabilities[row, top_class]
        lines.append(f"{true}: {table.classes[top_class]} {probability:.2f}")
    if table.valence_arousal is not None and table.valence_arousal_predicted is not None:
        true, predicted = table.valence_arousal[row], table.valence_arousal_predicted[row]
        lines += [
            f"{axis} {_format_label(true[i])}: {predicted[i]:+.2f}" for i, axis in enumerate(AXES)
        ]
    if table.action_units is not None and table.action_units_predicted is not None:
        true, predicted = (
            _active_units(table.units, values[row])
            for values in (table.action_units, table.action_units_predicted)
        )
        lines += [f"AU {true}", f"-> {predicted}"]
    return lines


def _active_units(names: Sequence[object], values: np.ndarray) -> str:
    """Joins the names of active units: `12+R14`, or `none`."""
    active = [
        str(name) for name, value in zip(names, values, strict=True) if value >= ACTIVE_THRESHOLD
    ]
    return "+".join(active) or "none"


def _format_label(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:+.2f}"
