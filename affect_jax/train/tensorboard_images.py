"""Images for TensorBoard: the confusion matrix, and faces with labels and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from affect_jax.core.labels import AXES
from affect_jax.facs.action_units import ACTIVE_THRESHOLD
from affect_jax.metrics.categorical import normalize_rows
from affect_jax.metrics.predictions import Predictions


def confusion_image(table: Predictions, size: float = 5.0) -> np.ndarray:
    """Draws the confusion matrix of the annotated faces: uint8 [H, W, 3].

    Each row sums to one. A row without faces is empty.

    **Arguments:** `size`: side of the image in inches, at 100 dots per inch.
    """
    assert table.expression is not None and table.probabilities is not None
    rows = table.expression >= 0
    count = len(table.classes)
    cells = table.expression[rows] * count + table.probabilities[rows].argmax(axis=1)
    matrix = np.bincount(cells, minlength=count**2).reshape(count, count)
    row_shares = normalize_rows(matrix)
    figure = _figure(size, size)
    axes = figure.add_subplot(xlabel="predicted", ylabel="label")
    axes.imshow(row_shares, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(count), table.classes, rotation=45, ha="right")
    axes.set_yticks(range(count), table.classes)
    for i, j in np.ndindex(count, count):
        color = "black" if row_shares[i, j] > 0.5 else "white"
        if matrix[i].any():
            text = f"{row_shares[i, j]:.2f}"
            axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    return _pixels(figure)


def face_panel(
    images: np.ndarray,
    landmarks: np.ndarray,
    sides: np.ndarray,
    table: Predictions,
    rows: np.ndarray,
    columns: int = 4,
) -> np.ndarray:
    """Draws faces with their landmarks and, below each face, its labels and predictions.

    **Arguments:**

    - `images`: uint8 [n, S, S, 3].
    - `landmarks`: float [n, 68, 2], pixels of `images`; zeros for a face without landmarks.
    - `sides`: float [n, 2, 18], true intensities of the image's left and right side; zeros if
      they are unknown.
    - `table`: labels and predictions.
    - `rows`: int [n], the faces' rows in `table`.
    - `columns`: faces per line of the panel.

    **Returns:** uint8 [H, W, 3].
    """
    grid_rows = -(-len(rows) // columns)
    figure = _figure(2.2 * columns, 2.9 * grid_rows)
    faces = zip(rows, images, landmarks, sides, strict=True)
    for i, (row, image, points, face_sides) in enumerate(faces):
        axes = figure.add_subplot(grid_rows, columns, i + 1)
        axes.imshow(image)
        if points.any():
            axes.scatter(points[:, 0], points[:, 1], s=2, c="#7fffd4", linewidths=0)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(
            "\n".join(_caption_lines(table, row, face_sides)), fontsize=7, family="monospace"
        )
    return _pixels(figure)


def _caption_lines(table: Predictions, row: int, sides: np.ndarray) -> list[str]:
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
        true, predicted = table.action_units[row], table.action_units_predicted[row]
        letters = [side_letter(*pair) for pair in sides.T]
        names = [f"{letter}{unit}" for letter, unit in zip(letters, table.units, strict=True)]
        lines += [f"AU {_active_units(names, true)}", f"-> {_active_units(table.units, predicted)}"]
    return lines


def side_letter(left: float, right: float) -> str:
    """FACS letter of a unit that is active on one side of the face only: `L`, `R` or empty.

    **Arguments:**

    - `left`, `right`: intensities on the image's left and right. The image's left is the person's
      right.
    """
    strong, weak = max(left, right), min(left, right)
    if strong < ACTIVE_THRESHOLD or weak >= ACTIVE_THRESHOLD / 2:
        return ""
    return "R" if left == strong else "L"


def _active_units(names: Sequence[object], values: np.ndarray) -> str:
    """Joins the names of active units: `12+R14`, or `none`."""
    active = [
        str(name) for name, value in zip(names, values, strict=True) if value >= ACTIVE_THRESHOLD
    ]
    return "+".join(active) or "none"


def _format_label(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:+.2f}"


def _figure(width: float, height: float) -> Any:
    """Creates an empty figure, sizes in inches. It avoids pyplot, which would keep a reference."""
    from matplotlib.figure import Figure  # the import takes a second; `--help` does not need it

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _pixels(figure: Any) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
